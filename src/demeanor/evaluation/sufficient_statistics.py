"""Sufficient statistics of metrics: per utterance [K, N], and how a metric is finalised from their sums [K, ...].

The class metrics share one kind of statistics, the counts of the confusion matrix: for each of C classes whether the
utterance is a true positive, in its support, and predicted (3 C rows).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demeanor.data.task import IGNORED

Array = NDArray[Any]

SIMS_EDGES = {2: (0.0,), 3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}
"""Right-closed edges of the SIMS classes within [-1, 1]: a label on an edge belongs to the class below it."""


# --- finalising: sums of the statistics [K, ...] to values [...] -----------------------------------------------------


def _divide(numerator: Array | np.generic, denominator: Array | np.generic) -> Array:
    """numerator / denominator, NaN where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, np.divide(numerator, denominator))


def ratio(sums: Array) -> Array:
    """sums [2, ...] of (hit, counted): hits among what was counted."""
    return _divide(sums[0], sums[1])


def mean_of_float32(sums: Array) -> Array:
    """sums [2, ...] of (value, 1): the division is made in float32, as numpy's mean of float32 numbers makes it."""
    return _divide(sums[0].astype(np.float32), sums[1].astype(np.float32)).astype(np.float64)


def pearson(sums: Array) -> Array:
    """sums [6, ...] of (1, x, y, xx, yy, xy) of standardised x and y: Pearson's r, NaN where one is constant."""
    n, x, y, xx, yy, xy = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        spread_x, spread_y = xx - x * x / n, yy - y * y / n
        r = (xy - x * y / n) / np.sqrt(spread_x * spread_y)
    # After standardising, a spread of 1e-12 per utterance is rounding, not information.
    constant = ~((spread_x > 1e-12 * n) & (spread_y > 1e-12 * n))
    return np.where(constant, np.nan, np.clip(r, -1.0, 1.0))


def _per_class(sums: Array) -> tuple[Array, Array, Array]:
    """sums [3 C, ...] -> true positives, supports (truth) and predicted counts, each [C, ...]."""
    true_positives, support, predicted = sums.reshape(3, -1, *sums.shape[1:])
    return true_positives, support, predicted


def accuracy(sums: Array) -> Array:
    """Hits among all that were counted."""
    true_positives, support, _ = _per_class(sums)
    return _divide(true_positives.sum(axis=0), support.sum(axis=0))


def _class_f1(sums: Array) -> Array:
    """[C, ...] F1 = 2 TP / (2 TP + FP + FN), NaN for a class that is neither in the truth nor predicted."""
    true_positives, support, predicted = _per_class(sums)
    return _divide(2 * true_positives, support + predicted)


def weighted_f1(sums: Array) -> Array:
    """F1 of each class weighted by its support; a class that the truth lacks has weight zero."""
    support = _per_class(sums)[1]
    return _divide((np.nan_to_num(_class_f1(sums)) * support).sum(axis=0), support.sum(axis=0))


def _mean_of_defined(values: Array) -> Array:
    """Mean over the first axis without the NaN, NaN where all are."""
    defined = ~np.isnan(values)
    return _divide(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0))


def mean_recall(sums: Array) -> Array:
    """Recall averaged over the classes that the truth has: UAR."""
    true_positives, support, _ = _per_class(sums)
    return _mean_of_defined(_divide(true_positives, support))


def macro_f1(sums: Array) -> Array:
    """F1 averaged over the classes in the truth or predicted; NaN where no label was counted."""
    # With no label at all, F1 of the predicted classes would be 0; there is nothing to score, hence NaN.
    support = _per_class(sums)[1].sum(axis=0)
    return np.where(support == 0, np.nan, _mean_of_defined(_class_f1(sums)))


# --- statistics of utterances ---------------------------------------------------------------------------------------


def confusion_counts(predicted: Array, truth: Array, classes: int, counted: Array | None = None) -> Array:
    """[3 C, N] booleans: true positive, in the truth, predicted, each for every class; False in rows not counted."""
    order = np.arange(classes)[:, None]
    truly, said = truth == order, predicted == order
    if counted is not None:
        truly, said = truly & counted, said & counted
    return np.concatenate([truly & said, truly, said])


def _clip(values: Array, limit: float) -> Array:
    return np.clip(values, np.float32(-limit), np.float32(limit))


def absolute_error(prediction: Array, target: Array, limit: float | None = None) -> Array:
    """[2, N]: the absolute error of prediction [N, 1] and target [N], each clipped to +-limit if given; and one."""
    p, t = prediction[:, 0], target
    if limit is not None:
        p, t = _clip(p, limit), _clip(t, limit)
    return np.stack([np.abs(p - t), np.ones_like(t)])


def moments(prediction: Array, target: Array, limit: float | None = None) -> Array:
    """[6, N]: 1, x, y, xx, yy, xy of the standardised prediction and target, of which Corr is made."""
    p, t = prediction[:, 0], target
    if limit is not None:
        p, t = _clip(p, limit), _clip(t, limit)
    x, y = _standardised(p), _standardised(t)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y])


def _standardised(values: Array) -> Array:
    """(v - mean) / deviation in float64: r does not change, and a tiny spread around a large mean is not lost."""
    values = values.astype(np.float64)
    if not len(values):
        return values
    centred = values - values.mean()
    deviation = centred.std()
    return centred / deviation if deviation > 0 else centred


def rounded_hit(prediction: Array, target: Array, limit: float) -> Array:
    """[2, N]: whether both, clipped to +-limit, round to the same whole number; and one."""
    hit = np.rint(_clip(prediction[:, 0], limit)) == np.rint(_clip(target, limit))
    return np.stack([hit, np.ones_like(hit)])


def sign_counts(prediction: Array, target: Array, zero: bool) -> Array:
    """Two classes at zero: (>= 0) over all utterances, or (> 0) over those whose label is not zero."""
    p = prediction[:, 0]
    if zero:
        return confusion_counts(p >= 0, target >= 0, 2)
    return confusion_counts(p > 0, target > 0, 2, counted=target != 0)


def sims_counts(prediction: Array, target: Array, classes: int) -> Array:
    """[3 C, N]: `confusion_counts` of the classes into which CH-SIMS cuts [-1, 1]; a NaN prediction hits none."""
    edges = np.array(SIMS_EDGES[classes], dtype=np.float32)[:, None]
    p, t = _clip(prediction[:, 0], 1.0), _clip(target, 1.0)
    predicted = np.where(np.isnan(p), -1, (p > edges).sum(axis=0))
    return confusion_counts(predicted, (t > edges).sum(axis=0), classes)


def argmax_counts(prediction: Array, target: Array, classes: int) -> Array:
    """[3 C, N]: `confusion_counts` of the most probable class of prediction [N, C]; a row with NaN hits none."""
    predicted = np.where(np.isnan(prediction).any(axis=1), IGNORED - 1, prediction.argmax(axis=1))
    return confusion_counts(predicted, target, classes)


def label_counts(prediction: Array, target: Array, column: int, threshold: float) -> Array:
    """Two classes (without, with) of one label, over the rows in which it is known."""
    known = ~np.isnan(target[:, column])
    return confusion_counts(prediction[:, column] > np.float32(threshold), target[:, column] > 0, 2, counted=known)


def all_label_counts(prediction: Array, target: Array, threshold: float) -> Array:
    """[6 C, N]: true positive, in the truth, predicted of (without, with) for each label; axes kind, class, label."""
    parts = [label_counts(prediction, target, c, threshold) for c in range(target.shape[1])]
    return np.stack(parts, axis=1).reshape(-1, len(target))


def over_labels(finalize: Callable[[Array], Array], sums: Array, labels: int) -> Array:
    """Mean over the labels of a two-class metric that is defined for them."""
    each = sums.reshape(6, labels, *sums.shape[1:])
    return _mean_of_defined(finalize(each))


def positive_f1(sums: Array) -> Array:
    """F1 of the second of two classes, NaN where it is neither in the truth nor predicted."""
    return _class_f1(sums)[1]


def balanced_accuracy(sums: Array) -> Array:
    """Mean of the two recalls, NaN unless both classes are in the truth."""
    true_positives, support, _ = _per_class(sums)
    return np.asarray(_divide(true_positives, support).mean(axis=0))
