"""Sentiment as one of (negative, neutral, positive): the metrics of MMSA's classification mode.

They are kept for comparison with published classification tables; Demeanor's own classification metrics are those of
`metrics.score`. docs/systems/self_mm.md#three-classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from demeanor.evaluation import sufficient_statistics as stats


def score_three_classes(logits: ArrayLike, target: ArrayLike, *, reference: bool = False) -> dict[str, float]:
    """Acc_3, F1_score_3 of the three classes; Has0_* (positive or not) and Non0_* (label 1 left out) of two.

    logits [N, 3]; target [N] in {0, 1, 2}. Two-class decisions compare outputs 0 and 2. With `reference` the Non0 pair
    is computed as the published code does, which compares predictions in {0, 1} with labels in {0, 2}: a positive
    utterance can never be right, and a perfect classifier scores one half on balanced data.
    """
    outputs, truth = np.asarray(logits, dtype=np.float32), np.asarray(target, dtype=np.int64)
    positive = (outputs[:, 2] > outputs[:, 0]).astype(np.int64)
    polar = truth != 1
    three = stats.confusion_counts(outputs.argmax(axis=1), truth, 3)
    has0 = stats.confusion_counts(positive, (truth > 1).astype(np.int64), 2)
    labels = truth if reference else truth // 2
    non0 = stats.confusion_counts(positive, labels, 3, counted=polar)
    scores = {}
    for counts, accuracy, f1 in (
        (has0, "Has0_acc_2", "Has0_F1_score"),
        (non0, "Non0_acc_2", "Non0_F1_score"),
        (three, "Acc_3", "F1_score_3"),
    ):
        totals = counts.sum(axis=1).astype(np.float64)
        scores[accuracy], scores[f1] = float(stats.accuracy(totals)), float(stats.weighted_f1(totals))
    return scores
