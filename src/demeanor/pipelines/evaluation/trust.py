"""How far the branches are to be taken at their word on the sealed test: calibration, abstention, slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.label_spaces import SPACES
from demeanor.data.task import Task, Tasks
from demeanor.pipelines.evaluation.asking import Calibrated
from demeanor.pipelines.evaluation.drawing import Figure, draws, empty_figure
from demeanor.pipelines.evaluation.settings import TASKS, EvaluationSettings

MOST_CURVES = 7
"""Branches in the figure of risk over coverage."""


def examine_trust(
    calibrated: Mapping[str, Sequence[Calibrated]],
    sealed_test: Examples,
    development: Examples,
    champions: dict[str, dict[str, Any]],
    tasks: Tasks,
    settings: EvaluationSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per branch the figures of demeanor.evaluation.trust; per champion those of its slices."""
    from demeanor.evaluation.slices import labels_of, slice_table
    from demeanor.evaluation.trust import trust
    from demeanor.features.measures import measured
    from demeanor.training import tracking

    rows, slices = [], []
    by_id = sealed_test.utterances.set_index("utterance_id", drop=False)
    heard_and_seen = pd.DataFrame(measured(sealed_test.streams), index=sealed_test.ids)
    labels = {column for one in tasks.root.values() for column in labels_of(one)}
    # What a label was before it was mapped repeats it just as well (demeanor.corpora.mapped_labels).
    labels |= {f"{column}_{space}" for column in labels for space in SPACES}
    for name, champion in champions.items():
        task = tasks[name]
        mix = class_shares(task, development)
        for said in calibrated[name]:
            table = by_id.loc[list(said.ids)].reset_index(drop=True)
            figures = trust(
                task, said.prediction, said.target, said.names, said.calibration, table["dialogue"].to_numpy(), mix
            )
            rows.append({"task": name, "branch": said.branch, **figures})
            if said.branch == champion["branch"]:
                of_these = heard_and_seen.loc[list(said.ids)]
                made = slice_table(
                    task, said.prediction, said.target, table, said.names, said.calibration,
                    min(settings.resamples, 1000), {str(name): values for name, values in of_these.items()}, labels,
                )  # fmt: skip
                made.insert(0, "task", name)
                made.insert(1, "branch", said.branch)
                slices.append(made)
    logged = {
        f"test.{row['branch']}.{key}": value
        for row in rows
        for key, value in row.items()
        if key in ("coverage", "ECE", "Brier", "AURC", "AUGRC") and np.isfinite(value)
    }
    tracking.current().log_metrics(logged)
    nothing = pd.DataFrame(columns=["task", "branch"])
    return (pd.DataFrame(rows) if rows else nothing), (pd.concat(slices, ignore_index=True) if slices else nothing)


def class_shares(task: Task, development: Examples) -> np.ndarray | None:
    """[classes] how common each class is on validation; None for what is not one of several classes."""
    if task.kind != "classification":
        return None
    found = task.targets(development.split("valid").utterances)
    counts = np.bincount(found[found >= 0], minlength=task.outputs)
    return counts / max(counts.sum(), 1)


@draws("reliability", "risk_coverage", of=["calibrated_answers", "champions", TASKS])
def draw_trust(
    calibrated: Mapping[str, Sequence[Calibrated]], champions: dict[str, dict[str, Any]], tasks: Tasks
) -> tuple[Figure, Figure]:
    """Of the first task: how often the champion is right over how sure it is; risk over coverage of its branches.

    InputError if there is no champion."""
    from demeanor.evaluation.curves import reliability_diagram, risk_coverage_figure
    from demeanor.evaluation.trust import confidence_curve, selective_curve

    name = next(iter(champions), None)
    if name is None:
        raise InputError("evaluation", ["there is no champion"], "Run `kedro run --pipelines fusion_training`.")
    task, first, reliability = tasks[name], champions[name]["branch"], None
    ordered = sorted(calibrated[name], key=lambda one: (one.branch != first, one.branch))[:MOST_CURVES]
    curves = {
        said.branch: selective_curve(task, said.prediction, said.target, said.names, said.calibration)
        for said in ordered
    }
    if ordered and ordered[0].branch == first:
        said = ordered[0]
        curve = confidence_curve(task, said.prediction, said.target, said.names, said.calibration)
        reliability = reliability_diagram(curve, title=f"{first}: how often it is right, sealed test")
    return reliability or empty_figure("the champion is uncalibrated"), risk_coverage_figure(
        curves, title=f"{name}, sealed test"
    )
