"""What a system does when modalities are missing, or worse than in training: every subset of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.metrics import labelled, metrics_of, prepare, primary_metrics
from demeanor.evaluation.resampling import Resampler, bootstrap, interval

Predict = Callable[[Sequence[tuple[str, ...]]], Sequence[ArrayLike] | NDArray[Any]]
"""Subsets of modalities -> for each of them predictions [N, outputs], [N], or [S, N, outputs] for several seeds."""


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """All non-empty subsets, the full one first, then by falling size, each in the given order."""
    each = tuple(dict.fromkeys(names))
    return [chosen for size in range(len(each), 0, -1) for chosen in combinations(each, size)]


def modality_ablation(
    task: Task,
    predict: Predict,
    target: ArrayLike,
    modalities: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
    threshold: float = 0.0,
) -> pd.DataFrame:
    """One row per subset, the full one first; the same model throughout, not trained anew.

    predict is asked once, for all subsets.
    target [N] as Task.targets; `groups` [N] are dialogue ids to resample instead of utterances.
    Columns: modalities ("text + audio"), present (how many), n, seeds; for each metric <metric> (mean over seeds)
    with <metric>_low and <metric>_high (95%); and for each primary metric <metric>_drop, how much worse than with all
    modalities (positive is worse whichever way the metric points), with its paired interval <metric>_drop_low and
    <metric>_drop_high. InputError if no modality is named.
    """
    if not modalities:
        raise InputError("modality ablation", ["no modality is named"])
    chosen = subsets(modalities)
    truth = np.asarray(target)
    metrics = metrics_of(task, threshold)
    predictions: list[NDArray[Any]] = []
    for answered in predict(chosen):
        values = np.asarray(answered, dtype=np.float32)
        values = values[:, None] if values.ndim == 1 else values
        whole, known = prepare(task, values if values.ndim == 3 else values[None], truth)
        predictions.append(whole)
    units = None if groups is None else np.asarray(groups)[labelled(task, truth)]
    drawn = bootstrap(metrics, predictions, known, Resampler.over(len(known), units, resamples, seed))
    rows = []
    for subset, values, draws in zip(chosen, predictions, drawn, strict=True):
        row: dict[str, Any] = {
            "modalities": " + ".join(subset),
            "present": len(subset),
            "n": len(known),
            "seeds": len(values),
        }
        for name, draw in draws.items():
            row[name] = draw.mean
            row[f"{name}_low"], row[f"{name}_high"] = interval(draw.resampled)
        for name in primary_metrics(task):
            sign = 1.0 if metrics[name].better == "max" else -1.0
            full = drawn[0][name]
            row[f"{name}_drop"] = sign * (full.mean - draws[name].mean) + 0.0
            row[f"{name}_drop_low"], row[f"{name}_drop_high"] = interval(
                sign * (full.resampled - draws[name].resampled)
            )
        rows.append(row)
    return pd.DataFrame(rows)


def areas(task: Task, curves: pd.DataFrame, levels: Sequence[float]) -> pd.DataFrame:
    """One row per set of modalities: clean, its score on clips as they are; hardest, the score at the last level; area,
    the area under the curve from clean over `levels` in equal steps (trapezoid, divided by their number), which is the
    mean score over the course; lost, how much worse that is than clean, positive whichever way the metric points.

    curves  rows of one model and one degradation with the columns modalities, level (NaN for clean) and the task's
            selection metric
    """
    metric, better = task.selection_metric
    sign = 1.0 if better == "max" else -1.0
    rows = []
    for name, own in curves.groupby("modalities", sort=False):
        clean = float(own.loc[own["level"].isna(), metric].iloc[0])
        course = [clean, *own.set_index("level")[metric].reindex(list(levels)).to_list()]
        area = float(np.trapezoid(course)) / len(levels)
        lost = sign * (clean - area) + 0.0
        rows.append({"modalities": name, "metric": metric, "clean": clean, "hardest": course[-1], "area": area,
                     "lost": lost})  # fmt: skip
    return pd.DataFrame(rows)
