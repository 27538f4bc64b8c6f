"""Answering only where one is sure: risk against coverage, and the threshold that keeps a risk.

Answers are sorted by confidence, the surest first; at a coverage of k of N answers the risk is the mean loss of the k
surest. AURC is the mean risk over all coverages (Geifman and El-Yaniv, 2017, arXiv:1705.08500); AUGRC the mean over
coverages of the share of all N that is answered wrongly (Traub et al., 2024, arXiv:2407.01032), which does not reward
a system for the few easiest answers. Answers of equal confidence are given or withheld together: their order is no
information, so each of them counts with the mean loss of its tie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from demeanor.data.errors import InputError

Array = NDArray[Any]


def risk_coverage(confidence: ArrayLike, loss: ArrayLike) -> pd.DataFrame:
    """One row per answer given, the surest first: coverage (share given), risk (mean loss of those), generalised_risk
    (their summed loss over all), confidence (of the least sure of them) and tied (is the next one just as sure?).

    confidence, loss [N], finite; loss is 0 or 1 for right or wrong, or any error. InputError for other shapes.
    """
    sure, wrong = np.asarray(confidence, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if sure.ndim != 1 or sure.shape != wrong.shape:
        raise InputError("risk-coverage curve", [f"confidence {sure.shape} and loss {wrong.shape} do not pair"])
    if not (np.isfinite(sure).all() and np.isfinite(wrong).all()):
        raise InputError("risk-coverage curve", ["a confidence or a loss is not finite"])
    order = np.argsort(-sure, kind="stable")
    sure, wrong = sure[order], wrong[order]
    _, place = np.unique(-sure, return_inverse=True)
    if len(sure):
        wrong = (np.bincount(place, wrong) / np.bincount(place))[place]
    given = np.arange(1, len(sure) + 1)
    total = np.cumsum(wrong)
    return pd.DataFrame(
        {
            "coverage": given / max(len(sure), 1),
            "risk": total / np.maximum(given, 1),
            "generalised_risk": total / max(len(sure), 1),
            "confidence": sure,
            "tied": np.append(sure[1:] == sure[:-1], False) if len(sure) else np.zeros(0, dtype=bool),
        }
    )


def aurc(confidence: ArrayLike, loss: ArrayLike) -> float:
    """Mean risk over all coverages; lower is better, NaN without an answer."""
    curve = risk_coverage(confidence, loss)
    return float(curve["risk"].mean()) if len(curve) else float("nan")


def augrc(confidence: ArrayLike, loss: ArrayLike) -> float:
    """Mean generalised risk over all coverages; lower is better, NaN without an answer."""
    curve = risk_coverage(confidence, loss)
    return float(curve["generalised_risk"].mean()) if len(curve) else float("nan")


def coverage_at_risk(confidence: ArrayLike, loss: ArrayLike, risk: float) -> float:
    """The largest coverage at which the risk is at most `risk`; 0 where there is none, NaN without an answer."""
    curve = risk_coverage(confidence, loss)
    if not len(curve):
        return float("nan")
    kept = curve[(curve["risk"] <= risk) & ~curve["tied"]]
    return float(kept["coverage"].max()) if len(kept) else 0.0


def risk_at_coverage(confidence: ArrayLike, loss: ArrayLike, coverage: float) -> float:
    """The risk of the surest `coverage` of all answers (rounded up to whole answers); NaN without an answer."""
    curve = risk_coverage(confidence, loss)
    return float(curve["risk"].iloc[max(int(np.ceil(coverage * len(curve) - 1e-9)), 1) - 1]) if len(curve) else np.nan


def threshold_for_risk(confidence: ArrayLike, loss: ArrayLike, risk: float) -> float:
    """The lowest confidence at which the answers of at least this confidence have a mean loss of at most `risk`.

    Infinity where no share of the answers is that good: then nothing is to be answered. InputError without an answer.
    """
    curve = risk_coverage(confidence, loss)
    if not len(curve):
        raise InputError("abstention", ["no answer of the validation split has a label"])
    kept = curve[(curve["risk"] <= risk) & ~curve["tied"]]
    return float(kept["confidence"].iloc[-1]) if len(kept) else float("inf")
