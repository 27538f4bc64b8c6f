"""Predictions as one long table: branch, seed, utterance_id, dialogue, target..., prediction...

A number has the columns `target` and `prediction`; one of several classes has `target` (index, -1 without a label) and
`prediction_<class>`; any of several has `target_<class>` and `prediction_<class>`. Predictions are what the model's
head says: the number or logits (probabilities serve as well for one of several classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from demeanor.data.errors import InputError
from demeanor.data.task import Task

KEYS = ("branch", "seed", "utterance_id", "dialogue")


@dataclass(frozen=True)
class Stack:
    """The predictions of one branch, seeds on top of each other.

    prediction [S, N, outputs], target as Task.targets, ids and dialogues [N], seeds (length S).
    """

    prediction: NDArray[Any]
    target: NDArray[Any]
    ids: NDArray[Any]
    dialogues: NDArray[Any]
    seeds: tuple[int, ...]


def target_columns(task: Task) -> list[str]:
    """Columns of the truth: one, or one per class of a multilabel task."""
    return [f"target_{name}" for name in task.classes] if task.kind == "multilabel" else ["target"]


def prediction_columns(task: Task) -> list[str]:
    """Columns of the prediction: one of a regression, else one per class."""
    return ["prediction"] if task.kind == "regression" else [f"prediction_{name}" for name in task.classes]


def predictions_table(
    task: Task, branch: str, seed: int, utterances: pd.DataFrame, prediction: ArrayLike, target: ArrayLike | None = None
) -> pd.DataFrame:
    """One branch and seed as rows of the long table; targets are taken from the utterances unless given.

    prediction [N, outputs] or, for regression, [N], in the order of `utterances`.
    InputError for another number of outputs than the task's.
    """
    values = np.asarray(prediction, dtype=np.float32).reshape(len(utterances), -1)
    truth = np.asarray(task.targets(utterances) if target is None else target)
    if values.shape[1] != task.outputs:
        raise InputError(
            f"predictions of '{branch}'", [f"{values.shape[1]} outputs, task '{task.name}' has {task.outputs}"]
        )
    labels = dict(zip(target_columns(task), truth.reshape(len(utterances), -1).T, strict=True))
    outputs = dict(zip(prediction_columns(task), values.T, strict=True))
    return pd.DataFrame(
        {
            "branch": branch,
            "seed": seed,
            "utterance_id": utterances["utterance_id"].to_numpy(),
            "dialogue": utterances["dialogue"].to_numpy(),
            **labels,
            **outputs,
        }
    )


def stacks(task: Task, table: pd.DataFrame, branches: Sequence[str] | None = None) -> dict[str, Stack]:
    """Branch -> Stack, all on the same utterances in the same order, or an InputError that lists every mismatch."""
    wanted = [*KEYS, *target_columns(task), *prediction_columns(task)]
    missing = [f"no column '{name}'" for name in wanted if name not in table]
    if missing:
        raise InputError(f"predictions for task '{task.name}'", missing, "Make the table with `predictions_table`.")
    names = list(dict.fromkeys(table["branch"])) if branches is None else list(branches)
    problems: list[str] = []
    reference: pd.DataFrame | None = None
    stacked: dict[str, Stack] = {}
    parts_of: dict[Any, pd.DataFrame] = dict(list(table.groupby(["branch", "seed"], sort=True)))
    for branch in names:
        seeds = sorted(seed for name, seed in parts_of if name == branch)
        if not seeds:
            problems.append(f"branch '{branch}' has no predictions")
            continue
        predictions = []
        for seed in seeds:
            part = parts_of[branch, seed].sort_values("utterance_id", kind="stable", ignore_index=True)
            reference = part if reference is None else reference
            problem = _mismatch(task, reference, part)
            if problem:
                problems.append(f"branch '{branch}', seed {seed}: {problem}")
            else:
                predictions.append(part[prediction_columns(task)].to_numpy(dtype=np.float32))
        if predictions and reference is not None:
            target = reference[target_columns(task)].to_numpy()
            stacked[branch] = Stack(
                np.stack(predictions),
                target if task.kind == "multilabel" else target[:, 0],
                reference["utterance_id"].to_numpy(),
                reference["dialogue"].to_numpy(),
                tuple(seeds),
            )
    if problems:
        raise InputError(f"predictions for task '{task.name}'", problems, "Score all branches on the same utterances.")
    return stacked


def _mismatch(task: Task, reference: pd.DataFrame, part: pd.DataFrame) -> str:
    """Why the rows of `part` cannot be paired with those of `reference`, or nothing."""
    if part["utterance_id"].duplicated().any():
        return f"utterance '{part['utterance_id'][part['utterance_id'].duplicated()].iloc[0]}' occurs twice"
    expected, given = set(reference["utterance_id"]), set(part["utterance_id"])
    if expected != given:
        return f"{len(expected - given)} utterances are missing and {len(given - expected)} are not known elsewhere"
    columns = target_columns(task)
    if not np.array_equal(
        reference[columns].to_numpy(dtype=np.float64), part[columns].to_numpy(dtype=np.float64), equal_nan=True
    ):
        return "its targets differ from those of the first branch"
    return ""
