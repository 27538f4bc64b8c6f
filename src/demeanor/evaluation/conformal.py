"""Intervals and sets that hold the truth as often as they say, and confidences that mean a frequency.

Split-conformal prediction (Vovk et al., 2005; Lei et al., 2018, arXiv:1604.04173): a score says how badly an answer
fits a label; the quantile of the scores of n clips at the rank ceil((n + 1) * coverage) is exceeded by a new clip of
the same kind with a chance of at most 1 - coverage, whatever the model is worth. Numbers are scored by
|label - answer|; classes by 1 - probability of the label, which is the set predictor LAC (Sadinle et al., 2019,
arXiv:1609.00451), whose likeliest class is always in it. Any of several classes: the score of each label that is there,
so that each of them is in the set as often as promised.

The clips are those of validation, by which the epoch was chosen as well: a choice among some dozens of epochs makes
the scores a little too good, and the coverage of new clips a little lower than it says. The report states both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from demeanor.data.calibration import (
    Calibration,
    CalibrationSettings,
    SubsetCalibration,
    confidences,
    probabilities,
    subset_name,
)
from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.calibration import fit_temperature
from demeanor.evaluation.coverage import conformal_rank
from demeanor.evaluation.metrics import labelled
from demeanor.evaluation.selective import threshold_for_risk

Array = NDArray[Any]
QUANTILES = 41
"""Of a number's residuals, kept in the card."""


def conformal_quantile(scores: ArrayLike, coverage: float) -> float:
    """The score that a new clip exceeds with a chance of at most 1 - coverage; infinity where n is too small for it.

    scores [n], or [S, n] of S seeds: the seeds of a clip are joined and count as the one clip that they are.
    """
    values = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    n = values.shape[1]
    rank = conformal_rank(n, coverage)
    if rank > n:
        return float("inf")
    joined = np.sort(values, axis=None)
    return float(joined[int(np.ceil(rank / n * len(joined) - 1e-9)) - 1])


def fit_calibration(
    task: Task,
    outputs: Mapping[str, ArrayLike],
    present: Mapping[str, ArrayLike],
    target: ArrayLike,
    seeds: Sequence[int],
    settings: CalibrationSettings,
    split: str,
) -> Calibration:
    """The calibration of a branch by the head outputs of its seeds on validation.

    outputs  subset_name of each set of modalities -> [S, N, outputs] with all others left out; the one of all
             modalities must be among them
    present  modality -> [N] booleans: which clips have it
    target   as Task.targets, [N] or [N, outputs]
    split    "valid"; anything else is an InputError
    """
    if split != "valid":
        raise InputError("calibration", [f"it was to be fitted on the split '{split}'"], "Fit it on 'valid'.")
    truth, whole = np.asarray(target), subset_name(present)
    if whole not in outputs:
        raise InputError("calibration", [f"there are no outputs with all modalities ({whole})"])
    known = labelled(task, truth)
    some = np.any([np.asarray(here, dtype=bool) for here in present.values()], axis=0)
    pooled = fit_subset(task, _rows(outputs[whole], known & some), truth[known & some], settings.coverage)
    subsets = {}
    for name, values in outputs.items():
        rows = known & np.all([np.asarray(present[part], dtype=bool) for part in name.split("+")], axis=0)
        if rows.sum() >= settings.least:
            subsets[name] = fit_subset(task, _rows(values, rows), truth[rows], settings.coverage)
    made = Calibration(
        coverage=settings.coverage,
        method="split conformal" if task.kind == "regression" else "LAC",
        seeds=tuple(seeds),
        risk=settings.risk,
        pooled=pooled,
        subsets=subsets,
    )
    if settings.risk is None:
        return made
    chosen, expected = _rows(outputs[whole], known & some), truth[known & some]
    names = presence_names(present)[known & some]
    sure = np.concatenate([confidences(task, one, made, names) for one in chosen])
    wrong = np.concatenate([losses(task, one, expected) for one in chosen])
    return made.model_copy(update={"below": min(threshold_for_risk(sure, wrong, settings.risk), 2.0)})


def _rows(values: ArrayLike, rows: Array) -> Array:
    """[S, n, outputs] of the chosen clips; one seed may come without its dimension."""
    made = np.asarray(values, dtype=np.float64)
    return (made if made.ndim == 3 else made[None])[:, rows]


def fit_subset(task: Task, values: Array, target: Array, coverage: float) -> SubsetCalibration:
    """The fit of n clips with a label: values [S, n, outputs], target [n] or [n, outputs]. InputError for n = 0."""
    seeds, n = values.shape[:2]
    if n == 0:
        raise InputError("calibration", [f"no clip of the validation split has a label for {task.name}"])
    wrong = float(f"{np.mean([losses(task, one, target).mean() for one in values]):.6g}")
    if task.kind == "regression":
        residuals = target.astype(np.float64)[None] - values[..., 0]
        width = conformal_quantile(np.abs(residuals), coverage)
        grid = np.quantile(residuals, np.linspace(0, 1, QUANTILES))
        kept = tuple(float(f"{value:.6g}") for value in grid)
        return SubsetCalibration(n=n, wrong=wrong, width=_finite(width), residuals=kept)
    joined = values.reshape(seeds * n, -1)
    repeated = np.concatenate([target] * seeds)
    temperature = fit_temperature(task, joined, repeated, "valid")
    chances = probabilities(task, values, temperature)
    if task.kind == "classification":
        scores = 1.0 - chances[:, np.arange(n), target]
    else:
        there = np.nan_to_num(target) > 0
        scores = 1.0 - chances[:, there]
    highest = conformal_quantile(scores, coverage) if scores.size else float("inf")
    threshold = None if np.isinf(highest) else float(f"{1.0 - highest:.9g}")
    return SubsetCalibration(n=n, wrong=wrong, temperature=temperature, threshold=threshold)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def presence_names(present: Mapping[str, ArrayLike]) -> Array:
    """[N] the subset_name of what each clip has, "" where it has nothing."""
    columns = {name: np.asarray(here, dtype=bool) for name, here in present.items()}
    count = len(next(iter(columns.values())))
    return np.array(
        [subset_name(name for name, here in columns.items() if here[n]) for n in range(count)], dtype=object
    )


def losses(task: Task, outputs: Array, target: Array) -> Array:
    """[N] 1 for a wrong answer, 0 for a right one: another class; any label wrong (known ones); a number on the other
    side of the scale's middle than its label (a label in the middle belongs to the upper side)."""
    if task.kind == "classification":
        return (outputs.argmax(axis=1) != target).astype(np.float64)
    if task.kind == "multilabel":
        return (((outputs > 0) != (target > 0)) & ~np.isnan(target)).any(axis=1).astype(np.float64)
    middle = (task.low + task.high) / 2
    return ((outputs[:, 0] >= middle) != (target >= middle)).astype(np.float64)
