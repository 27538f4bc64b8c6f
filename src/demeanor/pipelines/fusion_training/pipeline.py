"""fusion_training: development -> one namespaced branch per system -> bundles and history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
from kedro.pipeline import Node, Pipeline

from demeanor.data.bundle import Bundle
from demeanor.data.examples import Examples
from demeanor.data.task import Tasks
from demeanor.pipelines.branches import selected
from demeanor.pipelines.fusion_training import nodes
from demeanor.pipelines.job_plans import planned
from demeanor.training.settings import BranchSettings, JoinedSettings


def create_pipeline() -> Pipeline:
    """All branches, what is joined of them, then what looks at them together.

    A branch is the namespace `fusion_training.<branch>`: `--namespaces fusion_training.self_mm` trains that one alone,
    and `--namespaces fusion_training.emotion_experts` joins anew what has been trained.
    """
    selection = selected()
    branches, together = selection.names, dict(selection.joined)
    gather = Node(
        nodes.gather_bundles,
        {name: f"{name}_bundles" for name in (*branches, *together)},
        "bundles",
        name="gather_bundles",
    )
    draw = Node(
        nodes.draw_training,
        {"tasks": "params:tasks", **{branch: f"{branch}_history" for branch in branches}},
        "training_figure",
        name="draw_training",
    )
    read = ["development", "checkpoints"] if branches else []
    if selection.embedded:
        read.append("representations")
    return Pipeline(
        [
            gather,
            draw,
            *(branch_pipeline(branch, branch in selection.embedded) for branch in branches),
            *(joined_pipeline(name, members) for name, members in together.items()),
        ],
        namespace="fusion_training",
        inputs=set(read),
        outputs={"bundles"},
        parameters={
            "tasks",
            *(f"branches.{branch}" for branch in branches),
            *(f"joined.{name}" for name in together),
        },
    )


def branch_pipeline(branch: str, embedded: bool) -> Pipeline:
    """One branch, from the parameter `branches.<branch>` to its bundles and history; an `embedded` one reads what
    representation_learning makes."""
    data = ["development", "representations"] if embedded else ["development"]
    train = Node(
        trainer_on_embeddings(branch) if embedded else trainer(branch),
        [*data, "params:settings", "params:tasks", "checkpoints"],
        ["bundles", "history"],
        name="train",
        tags=["tracked", "training"],
    )
    return Pipeline(
        [train],
        namespace=branch,
        inputs={*data, "checkpoints"},
        parameters={"params:settings": f"params:branches.{branch}", "params:tasks": "params:tasks"},
        outputs={"bundles": f"{branch}_bundles", "history": f"{branch}_history"},
    )


def joined_pipeline(name: str, members: Sequence[str]) -> Pipeline:
    """What is joined of branches, from their bundles and the parameter `joined.<name>` to its own."""
    trained = [f"{member}_bundles" for member in members]
    join = Node(
        joiner(name, members),
        ["development", "params:settings", "params:tasks", *trained],
        "bundles",
        name="join",
        tags=["tracked", "training"],
    )
    return Pipeline(
        [join],
        namespace=name,
        inputs={"development", *trained},
        parameters={"params:settings": f"params:joined.{name}", "params:tasks": "params:tasks"},
        outputs={"bundles": f"{name}_bundles"},
    )


def joiner(name: str, members: Sequence[str]) -> Callable[..., dict[str, Bundle]]:
    """`join_branches` for one name and its members, spelt out as `trainer` is."""

    def join(
        development: Examples, settings: JoinedSettings, tasks: Tasks, *bundles: dict[str, Bundle]
    ) -> dict[str, Bundle]:
        return nodes.join_branches(name, development, settings, tasks, dict(zip(members, bundles, strict=True)))

    return join


def trainer(branch: str) -> Callable[..., tuple[dict[str, Bundle], pd.DataFrame]]:
    """`train_branch` for one branch. Kedro reads the types of the parameters off the signature, so it is spelt out."""

    def train(
        development: Examples, settings: BranchSettings, tasks: Tasks, checkpoints: str
    ) -> tuple[dict[str, Bundle], pd.DataFrame]:
        return nodes.train_branch(branch, development, settings, tasks, checkpoints)

    return planned(train, partial(nodes.seed_jobs, branch))


def trainer_on_embeddings(branch: str) -> Callable[..., tuple[dict[str, Bundle], pd.DataFrame]]:
    """`train_on_embeddings` for one branch, spelt out for the same reason."""

    def train(
        development: Examples,
        representations: dict[str, Bundle],
        settings: BranchSettings,
        tasks: Tasks,
        checkpoints: str,
    ) -> tuple[dict[str, Bundle], pd.DataFrame]:
        return nodes.train_on_embeddings(branch, development, representations, settings, tasks, checkpoints)

    return train
