"""The scores of a probe, which are those of every other table, and their intervals by resampling rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float, Int

from demeanor.data.task import Task
from demeanor.evaluation import sufficient_statistics as stats
from demeanor.evaluation.metrics import metric_of, prepare

RESAMPLES = 1000
REGRESSION_SCORES = ("MAE", "Corr")
CLASS_SCORES = {
    "accuracy": stats.accuracy, "UAR": stats.mean_recall, "macro_F1": stats.macro_f1, "weighted_F1": stats.weighted_f1,
}  # fmt: skip


def confusion(truth: Int[np.ndarray, " rows"], predicted: Int[np.ndarray, " rows"], classes: int) -> np.ndarray:
    """[classes, classes] counts, rows are the truth."""
    flat = truth.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def class_scores(counts: Int[np.ndarray, "classes classes"]) -> dict[str, float]:
    """accuracy, UAR, macro_F1 and weighted_F1 as `metrics` defines them."""
    totals = np.concatenate([np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)])
    return {name: float(finalize(totals)) for name, finalize in CLASS_SCORES.items()}


def regression_scores(
    task: Task, truth: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " rows"]
) -> dict[str, float]:
    """MAE and Corr as `metrics` defines them for the task: Corr of a constant is NaN."""
    values, target = prepare(task, predicted, truth)
    return {name: metric_of(task, name)(values, target) for name in REGRESSION_SCORES}


def bootstrap_classes(
    truth: Int[np.ndarray, " rows"], predicted: Int[np.ndarray, " rows"], classes: int, seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, float]:  # fmt: skip
    """Percentile interval of 95 % for each of `class_scores`: name.low and name.high. All resamples at once: a sum over
    a resample is one over the rows, each counted as often as it was drawn."""
    rows = len(truth)
    times = np.stack([np.bincount(chosen, minlength=rows) for chosen in _resamples(rows, seed, resamples)])
    totals = stats.confusion_counts(predicted, truth, classes).astype(np.int64) @ times.T
    return _intervals({name: np.asarray(value(totals)) for name, value in CLASS_SCORES.items()})


def bootstrap_regression(
    task: Task, truth: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " rows"], seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, float]:  # fmt: skip
    """The same of `regression_scores`."""
    values, target = prepare(task, predicted, truth)
    times = np.stack(
        [np.bincount(chosen, minlength=len(target)) for chosen in _resamples(len(target), seed, resamples)]
    )
    drawn = {}
    for name in REGRESSION_SCORES:
        metric = metric_of(task, name)
        totals = metric.statistics(values, target).astype(np.float64) @ times.T
        with np.errstate(invalid="ignore", over="ignore"):
            drawn[name] = np.asarray(metric.finalize(totals))
    return _intervals(drawn)


def _resamples(rows: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    return (generator.integers(0, rows, rows) for _ in range(resamples))


def _intervals(drawn: Mapping[str, np.ndarray]) -> dict[str, float]:
    intervals: dict[str, float] = {}
    for name, values in drawn.items():
        defined = values[~np.isnan(values)]
        low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (np.nan, np.nan)
        intervals |= {f"{name}.low": float(low), f"{name}.high": float(high)}
    return intervals
