"""fusion_training: development -> one namespaced branch per system -> bundles and history."""

from __future__ import annotations

from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from demeanor.pipelines.branches import selected
from demeanor.pipelines.fusion_training import nodes


def create_pipeline() -> Pipeline:
    return sum((branch_pipeline(branch) for branch in selected()), Pipeline([]))


def branch_pipeline(branch: str) -> Pipeline:
    """One branch: `kedro run --pipelines fusion_training --namespaces <branch>` trains it alone."""
    train = Node(
        update_wrapper(partial(nodes.train_branch, branch), nodes.train_branch),
        ["development", "params:settings", "params:tasks", "params:checkpoints"],
        ["bundles", "history"],
        name="train",
        tags=["tracked", "training"],
    )
    return Pipeline(
        [train],
        namespace=branch,
        inputs={"development"},
        parameters={
            "params:settings": f"params:{branch}",
            "params:tasks": "params:tasks",
            "params:checkpoints": "params:checkpoints",
        },
        outputs={"bundles": f"{branch}_bundles", "history": f"{branch}_history"},
    )
