"""Two trained models side by side, on validation clips of the data that both were trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.evaluation.metrics import labelled, metric_of
from demeanor.evaluation.paired import Difference, paired_bootstrap
from demeanor.inference.model import TrainedModel

DATA = Path("data", "05_model_input")
"""Of a project: corpus -> development and sealed_test."""


def paired_on_validation(one: Bundle, other: Bundle, development: Examples) -> Difference:
    """The task's selection metric of `one` minus that of `other` on the valid split of `development`, with the 95 %
    interval of a paired bootstrap over its labelled clips.

    InputError where they do not do the same task, or were trained on other data than these.
    """
    problems = [
        f"{bundle.card.branch} was trained on data {bundle.card.data_hash}, this is {development.data_hash}"
        for bundle in (one, other)
        if bundle.card.data_hash != development.data_hash
    ]
    problems += [f"{bundle.card.branch} embeds, it does not predict" for bundle in (one, other)
                 if bundle.card.kind == "embeds"]  # fmt: skip
    if one.card.task != other.card.task:
        problems.append(f"they do different tasks: {one.card.task.describe()}; {other.card.task.describe()}")
    if problems:
        raise InputError("comparison of two models", problems, "Scores of different clips or tasks do not compare.")
    task, valid = one.card.task, development.split("valid")
    target = task.targets(valid.utterances)
    known = labelled(task, np.asarray(target))
    first, second = (TrainedModel.load(bundle).predict(valid)[known] for bundle in (one, other))
    return paired_bootstrap(first, second, target[known], metric_of(task, task.selection_metric[0]))


def data_of(bundle: Bundle, project: Path) -> Examples:
    """The development examples of a project that a bundle was trained on. InputError where there are none."""
    return development_of(bundle, project)[1]


def development_of(bundle: Bundle, project: Path) -> tuple[Path, Examples]:
    """`data_of` with the folder that they lie in. InputError where the project has none of this hash."""
    root = project / DATA
    # Beside the table of what streams they have; of versioned ones every version is looked at.
    folders = sorted(listed.parent for listed in root.glob("*/development/**/streams.json"))
    for folder in folders:
        examples = Examples.load(folder)
        if examples.data_hash == bundle.card.data_hash:
            return folder, examples
    looked = ", ".join(dict.fromkeys(folder.relative_to(root).parts[0] for folder in folders)) or "none"
    raise InputError(
        f"data of {bundle.card.branch}",
        [f"no development examples of this project have the hash {bundle.card.data_hash} (corpora: {looked})"],
        "Run `kedro run --pipelines feature_engineering` with the parameters of its training, or go to its project.",
    )
