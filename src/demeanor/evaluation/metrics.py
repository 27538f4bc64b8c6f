"""The field's metrics by their exact definitions, which docs/metrics.md repeats (`make lint` writes its tables).

Every metric is written as a value of sums over utterances: `statistics` gives K numbers per utterance, `finalize` makes
the metric of their K stats. One definition thus serves the plain score and the bootstrap, where a resample is nothing
but other weights in those sums (demeanor.evaluation.resampling).

Comparisons are made in float32, as in the published evaluators: float32(0.1) <= 0.1 holds there and not in float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from demeanor.data.errors import InputError, nearest
from demeanor.data.task import IGNORED, Better, Task
from demeanor.evaluation import sufficient_statistics as stats

Array = NDArray[Any]
TWO_CLASSES = "F1 of these two classes, weighted by their support"


class UndefinedMetricWarning(UserWarning):
    """A metric has no value on this data (no label, one utterance, a constant prediction); NaN stands for it."""


@dataclass(frozen=True)
class Metric:
    """A named metric, said here alone: tables, arrows, the choice of epochs and docs/metrics.md follow it.

    definition  its row of docs/metrics.md; p is the prediction, t the label
    statistics  (prediction [N, outputs] float32, target as Task.targets) -> [K, N]
    finalize    sums of the statistics over utterances [K, ...] float64 -> [...], NaN where undefined
    better      which way it points
    rank        its place among the few that a table shows, from 1, which orders it; 0: not among them
    """

    name: str
    definition: str
    statistics: Callable[[Array, Array], Array]
    finalize: Callable[[Array], Array]
    better: Better = "max"
    rank: int = 0

    def __call__(self, prediction: Array, target: Array) -> float:
        """The metric of all rows; `prepare` makes the arguments."""
        # Each row is summed in its own type: counts stay exact, and the float32 error is summed as numpy's mean does.
        return float(self.finalize(self.statistics(prediction, target).sum(axis=-1).astype(np.float64)))


def score(
    task: Task,
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    threshold: float = 0.0,
    decimals: int | None = None,
    warn: bool = True,
) -> dict[str, float]:
    """All metrics of a task on one set of utterances, over the whole set and never averaged per batch.

    prediction [N, outputs] or, for regression, [N]: the number, or logits or probabilities; target as Task.targets.
    Rows without a label are left out. `threshold` is where a multilabel class is predicted: 0 for logits, 0.5 for
    probabilities. `decimals=4` rounds as the published evaluators do. What is undefined is NaN, with one
    UndefinedMetricWarning for all of it unless `warn` is false.
    """
    values, truth = prepare(task, prediction, target)
    with np.errstate(invalid="ignore", over="ignore"):
        scores = {name: metric(values, truth) for name, metric in metrics_of(task, threshold).items()}
    if warn:
        _warn_of_undefined(task, scores, values, truth)
    return scores if decimals is None else {name: round(value, decimals) for name, value in scores.items()}


def metrics_of(task: Task, threshold: float = 0.0) -> dict[str, Metric]:
    """Name -> metric, in the order in which tables show them."""
    if task.kind == "classification":
        found = _classification(len(task.classes))
    elif task.kind == "multilabel":
        found = _multilabel(task.classes, threshold)
    else:
        found = _mosi() if task.convention == "mosi" else _sims()
    return {metric.name: metric for metric in found}


def metric_of(task: Task, name: str, threshold: float = 0.0) -> Metric:
    """One metric of a task by its name. InputError, with the nearest name, if it has none such."""
    known = metrics_of(task, threshold)
    if name not in known:
        raise InputError(f"task '{task.name}'", [f"there is no metric '{name}'.{nearest(name, known)}"])
    return known[name]


def primary_metrics(task: Task) -> tuple[str, ...]:
    """The few metrics that a table shows; the first one orders it."""
    ranked = [metric for metric in metrics_of(task).values() if metric.rank]
    return tuple(metric.name for metric in sorted(ranked, key=lambda metric: metric.rank))


def direction_of(name: str) -> Better:
    """Which way a metric or a loss points. A split or a part before the name (valid_MAE, positive.UAR) and a task
    before it do not count; what is no metric of any task rises, unless it is a loss."""
    name = name.rpartition(".")[2]
    for split in ("train_", "valid_", "test_"):
        name = name.removeprefix(split)
    return "min" if name in _falling() else "max"


def not_worse(metric: str, value: float, other: float) -> bool:
    """Is `value` at least as good as `other`? NaN never is."""
    return value <= other if direction_of(metric) == "min" else value >= other


@cache
def _falling() -> frozenset[str]:
    every = [*_mosi(), *_sims(), *_classification(2), *_multilabel(("class",), 0.0)]
    return frozenset({"loss", *(metric.name for metric in every if metric.better == "min")})


def prepare(task: Task, prediction: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """(prediction [..., N, outputs] float32, target) of the rows that have a label, or an InputError.

    Leading dimensions (seeds) are kept. A multilabel row stays as long as one of its labels is known.
    """
    values, truth = np.asarray(prediction, dtype=np.float32), np.asarray(target)
    if task.kind == "regression" and values.ndim == 1:
        values = values[:, None]
    expected = (len(truth), task.outputs)
    labels = expected if task.kind == "multilabel" else expected[:1]
    if values.shape[-2:] != expected or truth.shape != labels:
        raise InputError(
            f"task '{task.name}'",
            [f"predictions of shape {values.shape} and targets of shape {truth.shape} do not belong together"],
            f"Give predictions [{expected[0]}, {expected[1]}] and targets {list(labels)}.",
        )
    if task.kind == "classification":
        truth = truth.astype(np.int64)
        known = labelled(task, truth)
        if not np.isin(truth[known], np.arange(task.outputs)).all():
            raise InputError(f"task '{task.name}'", [f"class indices {np.unique(truth)} for {task.outputs} classes"])
    else:
        truth = truth.astype(np.float32)
        known = labelled(task, truth)
    return values[..., known, :], truth[known]


def labelled(task: Task, target: Array) -> Array:
    """[N] booleans: the rows that `prepare` keeps: those with a label, for a multilabel task with at least one."""
    if task.kind == "classification":
        return np.not_equal(target, IGNORED)
    missing = np.isnan(target)
    return np.logical_not(missing if target.ndim == 1 else missing.all(axis=1))


def _warn_of_undefined(task: Task, scores: dict[str, float], prediction: Array, target: Array) -> None:
    undefined = [name for name, value in scores.items() if np.isnan(value)]
    strange = int((~np.isfinite(prediction)).any(axis=1).sum())
    if not undefined and not strange:
        return
    reasons = [f"{strange} predictions that are not finite"] if strange else []
    if len(target) < 2:
        reasons.append("too few")
    elif task.kind == "regression":
        reasons += ["a constant prediction"] if np.ptp(prediction) == 0 else []
        reasons += ["a constant label"] if np.ptp(target) == 0 else []
        reasons += ["no label other than zero"] if not target.any() else []
    elif undefined and not strange:
        reasons.append("classes without any label")
    consequence = f"{', '.join(undefined)} undefined, reported as NaN" if undefined else "scored as they are"
    warnings.warn(
        f"task '{task.name}', {len(target)} labelled utterances: {consequence} ({'; '.join(reasons)})",
        UndefinedMetricWarning,
        stacklevel=3,
    )


@cache
def _mosi() -> list[Metric]:
    """Sentiment as a number, as MOSI and MOSEI score it."""
    has0, non0 = partial(stats.sign_counts, zero=True), partial(stats.sign_counts, zero=False)
    return [
        Metric(
            "MAE", "mean of |p − t|, not clipped", stats.absolute_error, stats.mean_of_float32, better="min", rank=1
        ),
        Metric("Corr", "Pearson's r, not clipped", stats.moments, stats.pearson, rank=2),
        Metric(
            "Mult_acc_7",
            "p and t clipped to [−3, 3] and rounded half to even; share that is equal",
            partial(stats.rounded_hit, limit=3.0),
            stats.ratio,
            rank=3,
        ),
        Metric("Mult_acc_5", "the same with [−2, 2]", partial(stats.rounded_hit, limit=2.0), stats.ratio),
        Metric(
            "Has0_acc_2",
            "(p ≥ 0) = (t ≥ 0) over **all** utterances: negative against non-negative; −0.0 counts as ≥ 0",
            has0,
            stats.accuracy,
            rank=4,
        ),
        Metric("Has0_F1_score", TWO_CLASSES, has0, stats.weighted_f1),
        Metric(
            "Non0_acc_2",
            "utterances with t = 0 are **left out**; (p > 0) = (t > 0): negative against positive; p = 0 is negative",
            non0,
            stats.accuracy,
            rank=5,
        ),
        Metric("Non0_F1_score", TWO_CLASSES, non0, stats.weighted_f1),
    ]


@cache
def _sims() -> list[Metric]:
    """Sentiment as a number, as CH-SIMS scores it: both clipped to [-1, 1] first, for MAE and Corr too."""
    error, moments = partial(stats.absolute_error, limit=1.0), partial(stats.moments, limit=1.0)
    two, three, five = (partial(stats.sims_counts, classes=count) for count in (2, 3, 5))
    sides = "two classes, [−1, 0] and (0, 1]: **zero is on the negative side**, the opposite of Has0"
    return [
        Metric("MAE", "mean of |p − t| of the clipped values", error, stats.mean_of_float32, better="min", rank=1),
        Metric("Corr", "Pearson's r of the clipped values", moments, stats.pearson, rank=2),
        Metric("Mult_acc_2", sides, two, stats.accuracy, rank=3),
        Metric("F1_score", TWO_CLASSES, two, stats.weighted_f1, rank=4),
        Metric("Mult_acc_3", "edges −0.1, 0.1", three, stats.accuracy),
        Metric("Mult_acc_5", "edges −0.7, −0.1, 0.1, 0.7", five, stats.accuracy, rank=5),
    ]


@cache
def _classification(classes: int) -> list[Metric]:
    """One of several classes: the one of the largest output, of equal ones the first."""
    counts = partial(stats.argmax_counts, classes=classes)
    right = "share of utterances that are right; IEMOCAP papers call it WA"
    recall = "mean recall of the classes that occur in the labels; IEMOCAP papers call it UA"
    either = "mean F1 of the classes that occur in the labels or in the predictions"
    return [
        Metric("accuracy", right, counts, stats.accuracy, rank=2),
        Metric("UAR", recall, counts, stats.mean_recall, rank=3),
        Metric("weighted_F1", "F1 of each class weighted by its support", counts, stats.weighted_f1, rank=1),
        Metric("macro_F1", either, counts, stats.macro_f1, rank=4),
    ]


@cache
def _multilabel(classes: tuple[str, ...], threshold: float) -> list[Metric]:
    """Any of several classes: each over the utterances in which its label is known."""
    every = partial(stats.all_label_counts, threshold=threshold)
    having = 'mean over classes of the F1 of "has it"; without classes that are neither labelled nor predicted'
    defined = "its mean over the classes for which it is defined"

    def over(statistic: Callable[[Array], Array]) -> Callable[[Array], Array]:
        return partial(stats.over_labels, statistic, labels=len(classes))

    found = [
        Metric("macro_F1", having, every, over(stats.positive_f1), rank=1),
        Metric("mean_weighted_accuracy", defined, every, over(stats.balanced_accuracy), rank=2),
        Metric("mean_weighted_F1", defined, every, over(stats.weighted_f1), rank=3),
    ]
    recalls = 'mean of the recalls of "has it" and "has it not", MOSEI\'s weighted accuracy; needs both'
    either = 'F1 of "has it" and "has it not", weighted by their support'
    for column, name in enumerate(classes):
        one = partial(stats.label_counts, column=column, threshold=threshold)
        found += [
            Metric(f"{name}_weighted_accuracy", recalls, one, stats.balanced_accuracy),
            Metric(f"{name}_weighted_F1", either, one, stats.weighted_f1),
        ]
    return found
