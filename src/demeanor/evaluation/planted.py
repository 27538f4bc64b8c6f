"""Attributions against a truth that is known: does the largest contribution name the modality that carries the label,
and does the flag find the clips whose words contradict voice and face?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, spearmanr

Array = NDArray[Any]


def carrier_agreement(made: Mapping[str, ArrayLike], planted: Mapping[str, ArrayLike]) -> dict[str, float]:
    """How well contributions (modality -> [N]) agree with the planted ones.

    n; agreement, the share of clips whose largest contribution in size is of the modality with the largest planted one;
    chance, the agreement of always naming the modality that is most often the planted carrier; spearman, the mean over
    modalities of the rank correlation over clips (with their signs). NaN where undefined.
    """
    names = sorted(planted)
    own, truth = (np.stack([np.asarray(table[name], dtype=np.float64) for name in names]) for table in (made, planted))
    carrier = np.abs(truth).argmax(axis=0)
    if not len(carrier):
        return {"n": 0, "agreement": np.nan, "chance": np.nan, "spearman": np.nan}
    ranks = [spearmanr(*pair).statistic if all(np.ptp(side) > 0 for side in pair) else np.nan
             for pair in zip(own, truth, strict=True)]  # fmt: skip
    return {
        "n": len(carrier),
        "agreement": float((np.abs(own).argmax(axis=0) == carrier).mean()),
        "chance": float(np.bincount(carrier).max() / len(carrier)),
        "spearman": float(np.mean(ranks)),
    }


def flag_quality(strength: ArrayLike, planted: ArrayLike) -> dict[str, float]:
    """How well a strength [N], flagged above 1, finds what was planted [N] booleans.

    planted, flagged (counts), precision, recall, and AUROC, the chance that a planted clip is stronger than another
    (ties count half). NaN where undefined.
    """
    values, truth = np.asarray(strength, dtype=np.float64), np.asarray(planted, dtype=bool)
    flagged = values > 1
    hits, positives, negatives = int((flagged & truth).sum()), int(truth.sum()), int((~truth).sum())
    area = np.nan
    if positives and negatives:
        area = (rankdata(values)[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return {
        "planted": positives,
        "flagged": int(flagged.sum()),
        "precision": hits / flagged.sum() if flagged.any() else np.nan,
        "recall": hits / positives if positives else np.nan,
        "AUROC": float(area),
    }
