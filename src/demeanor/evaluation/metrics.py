"""The field's metrics by their exact definitions; docs/metrics.md says the same in prose.

Every metric is written as a value of sums over utterances: `statistics` gives K numbers per utterance, `finalize` makes
the metric of their K sums. One definition thus serves the plain score and the bootstrap, where a resample is nothing
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
from demeanor.data.task import IGNORED, Better, Task, direction_of
from demeanor.evaluation import sufficient_statistics as stats

Array = NDArray[Any]


class UndefinedMetricWarning(UserWarning):
    """A metric has no value on this data (no label, one utterance, a constant prediction); NaN stands for it."""


@dataclass(frozen=True)
class Metric:
    """A named metric.

    statistics  (prediction [N, outputs] float32, target as Task.targets) -> [K, N]
    finalize    sums of the statistics over utterances [K, ...] float64 -> [...], NaN where undefined
    """

    name: str
    definition: str
    statistics: Callable[[Array, Array], Array]
    finalize: Callable[[Array], Array]

    @property
    def better(self) -> Better:
        return direction_of(self.name)

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
        metrics = _classification(len(task.classes))
    elif task.kind == "multilabel":
        metrics = _multilabel(task.classes, threshold)
    else:
        metrics = _mosi() if task.convention == "mosi" else _sims()
    return {metric.name: metric for metric in metrics}


def metric_of(task: Task, name: str, threshold: float = 0.0) -> Metric:
    """One metric of a task by its name. InputError, with the nearest name, if it has none such."""
    known = metrics_of(task, threshold)
    if name not in known:
        raise InputError(f"task '{task.name}'", [f"there is no metric '{name}'.{nearest(name, known)}"])
    return known[name]


def primary_metrics(task: Task) -> tuple[str, ...]:
    """The few metrics that a table shows; the first one orders it."""
    if task.kind == "classification":
        return ("weighted_F1", "accuracy", "UAR", "macro_F1")
    if task.kind == "multilabel":
        return ("macro_F1", "mean_weighted_accuracy", "mean_weighted_F1")
    if task.convention == "sims":
        return ("MAE", "Corr", "Mult_acc_2", "F1_score", "Mult_acc_5")
    return ("MAE", "Corr", "Mult_acc_7", "Has0_acc_2", "Non0_acc_2")


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
    """MOSI and MOSEI (docs/metrics.md)."""
    has0, non0 = partial(stats.sign_counts, zero=True), partial(stats.sign_counts, zero=False)
    return [
        Metric("MAE", "mean |p - t|, unclipped", stats.absolute_error, stats.mean_of_float32),
        Metric("Corr", "Pearson's r, unclipped; undefined for a constant", stats.moments, stats.pearson),
        Metric(
            "Mult_acc_7",
            "both clipped to [-3, 3], rounded half to even, equal",
            partial(stats.rounded_hit, limit=3.0),
            stats.ratio,
        ),
        Metric(
            "Mult_acc_5",
            "both clipped to [-2, 2], rounded half to even, equal",
            partial(stats.rounded_hit, limit=2.0),
            stats.ratio,
        ),
        Metric("Has0_acc_2", "(p >= 0) == (t >= 0), zero is non-negative, all utterances", has0, stats.accuracy),
        Metric("Has0_F1_score", "support-weighted F1 of those two classes", has0, stats.weighted_f1),
        Metric("Non0_acc_2", "(p > 0) == (t > 0), labels of zero left out, p = 0 is negative", non0, stats.accuracy),
        Metric("Non0_F1_score", "support-weighted F1 of those two classes", non0, stats.weighted_f1),
    ]


@cache
def _sims() -> list[Metric]:
    """CH-SIMS (docs/metrics.md): both clipped to [-1, 1] first, MAE and Corr too."""
    return [
        Metric(
            "MAE",
            "mean |p - t| of clipped values",
            partial(stats.absolute_error, limit=1.0),
            stats.mean_of_float32,
        ),
        Metric("Corr", "Pearson's r of clipped values", partial(stats.moments, limit=1.0), stats.pearson),
        Metric(
            "Mult_acc_2",
            "classes (-1, 0], (0, 1]: zero is on the negative side",
            partial(stats.sims_counts, classes=2),
            stats.accuracy,
        ),
        Metric(
            "F1_score",
            "support-weighted F1 of those two classes",
            partial(stats.sims_counts, classes=2),
            stats.weighted_f1,
        ),
        Metric(
            "Mult_acc_3",
            "classes with right-closed edges -0.1, 0.1",
            partial(stats.sims_counts, classes=3),
            stats.accuracy,
        ),
        Metric(
            "Mult_acc_5",
            "classes with right-closed edges -0.7, -0.1, 0.1, 0.7",
            partial(stats.sims_counts, classes=5),
            stats.accuracy,
        ),
    ]


@cache
def _classification(classes: int) -> list[Metric]:
    """One of several classes: the one of the largest output, of equal ones the first."""
    counts = partial(stats.argmax_counts, classes=classes)
    return [
        Metric("accuracy", "WA: share of utterances that are right", counts, stats.accuracy),
        Metric("UAR", "UA: mean recall of the classes in the truth", counts, stats.mean_recall),
        Metric("weighted_F1", "F1 of each class weighted by its support", counts, stats.weighted_f1),
        Metric("macro_F1", "mean F1 of the classes in the truth or predicted", counts, stats.macro_f1),
    ]


@cache
def _multilabel(classes: tuple[str, ...], threshold: float) -> list[Metric]:
    """Any of several classes: each over the utterances in which its label is known."""
    every = partial(stats.all_label_counts, threshold=threshold)
    metrics = [
        Metric(
            "macro_F1",
            "mean over classes of the F1 of having the class",
            every,
            partial(stats.over_labels, stats.positive_f1, labels=len(classes)),
        ),
        Metric(
            "mean_weighted_accuracy",
            "mean over classes of <class>_weighted_accuracy",
            every,
            partial(stats.over_labels, stats.balanced_accuracy, labels=len(classes)),
        ),
        Metric(
            "mean_weighted_F1",
            "mean over classes of <class>_weighted_F1",
            every,
            partial(stats.over_labels, stats.weighted_f1, labels=len(classes)),
        ),
    ]
    for column, name in enumerate(classes):
        one = partial(stats.label_counts, column=column, threshold=threshold)
        metrics += [
            Metric(
                f"{name}_weighted_accuracy",
                "mean of the recalls of with and without",
                one,
                stats.balanced_accuracy,
            ),
            Metric(f"{name}_weighted_F1", "support-weighted F1 of with and without", one, stats.weighted_f1),
        ]
    return metrics
