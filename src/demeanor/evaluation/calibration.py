"""Whether confidence and size can be taken at their word: calibration of probabilities and of numbers.

Guo et al., "On Calibration of Modern Neural Networks", 2017 (arXiv:1706.04599): expected calibration error with
equally wide bins of the top probability, and temperature scaling, fitted on validation and nowhere else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from demeanor.data.calibration import probabilities
from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.metrics import prepare

Array = NDArray[Any]


def reliability_curve(task: Task, chances: ArrayLike, target: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """One row per bin of equal width: low, high, confidence (mean), accuracy, n; empty bins have NaN and n 0.

    chances [N, classes] probabilities. One of several classes: the largest probability against being right. Any of
    several: every known label's probability against the label.
    """
    confidence, right = _claims(task, chances, target)
    edges = np.linspace(0.0, 1.0, bins + 1)
    # Right-closed bins, the first one closed on both sides: a confidence of exactly 1 is in the last.
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    n = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.bincount(place, confidence, bins) / n
        shares = np.bincount(place, right, bins) / n
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "confidence": means, "accuracy": shares, "n": n})


def expected_calibration_error(task: Task, chances: ArrayLike, target: ArrayLike, bins: int = 15) -> float:
    """Mean |accuracy - confidence| over bins, weighted by their utterances; NaN without a label."""
    curve = reliability_curve(task, chances, target, bins)
    total = int(curve["n"].sum())
    if total == 0:
        return float("nan")
    gaps = (curve["accuracy"] - curve["confidence"]).abs().fillna(0.0)
    return float((gaps * curve["n"]).sum() / total)


def adaptive_calibration_error(task: Task, chances: ArrayLike, target: ArrayLike, bins: int = 15) -> float:
    """ECE over bins of equally many claims instead of equal width (Nixon et al., 2019, arXiv:1904.01685, of the top
    probability): confidences that crowd in one corner are told apart. NaN without a label."""
    confidence, right = _claims(task, chances, target)
    if not len(confidence):
        return float("nan")
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(right[part].mean() - confidence[part].mean()) * len(part) for part in parts]
    return float(np.sum(gaps) / len(confidence))


def brier_score(task: Task, chances: ArrayLike, target: ArrayLike) -> float:
    """Mean squared distance of the probabilities from the truth (Brier, 1950), lower is better; NaN without a label.

    One of several classes: summed over classes, 0 to 2. Any of several: mean over known labels, 0 to 1.
    InputError for a regression.
    """
    if task.kind == "regression":
        raise InputError("Brier score", [f"task '{task.name}' predicts a number"])
    values, truth = prepare(task, chances, target)
    values = values.astype(np.float64)
    if task.kind == "multilabel":
        known = ~np.isnan(truth)
        return float(np.square(values - np.nan_to_num(truth))[known].mean()) if known.any() else float("nan")
    if not len(truth):
        return float("nan")
    return float(np.square(values - np.eye(task.outputs)[truth]).sum(axis=1).mean())


def negative_log_likelihood(task: Task, logits: ArrayLike, target: ArrayLike, temperature: float = 1.0) -> float:
    """Mean over utterances (any of several: over known labels), in nats; NaN without a label."""
    values, truth = prepare(task, logits, target)
    scaled = values.astype(np.float64) / temperature
    if task.kind == "multilabel":
        known = ~np.isnan(truth)
        # -log sigmoid(z) of a label that is there, -log sigmoid(-z) of one that is not
        losses = np.logaddexp(0.0, np.where(truth > 0, -scaled, scaled))[known]
    else:
        losses = np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(truth)), truth]
    return float(losses.mean()) if losses.size else float("nan")


def fit_temperature(task: Task, logits: ArrayLike, target: ArrayLike, split: str) -> float:
    """The temperature that minimises the negative log-likelihood on `split`, which has to be validation.

    It changes no argmax and no sign, hence no metric that counts decisions. The loss is convex in 1 / T; T is looked
    for between 1/20 and 20, the ends of which a separable validation split reaches.
    InputError for another split, a regression, or where nothing has a label.
    """
    if split != "valid":
        raise InputError(
            "temperature scaling",
            [f"it was to be fitted on the split '{split}'"],
            "Fit it on 'valid': on train a model is too sure of itself, and test is for scoring alone.",
        )
    if task.kind == "regression":
        raise InputError("temperature scaling", [f"task '{task.name}' predicts a number, which has no temperature"])
    from scipy.optimize import minimize_scalar

    if np.isnan(negative_log_likelihood(task, logits, target)):
        raise InputError("temperature scaling", ["no utterance of the validation split has a label"])
    bound = np.log(20.0)
    found = minimize_scalar(
        lambda cold: negative_log_likelihood(task, logits, target, float(np.exp(-cold))),
        bounds=(-bound, bound),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(-found.x))


def calibration(task: Task, prediction: ArrayLike, target: ArrayLike, temperature: float = 1.0) -> dict[str, float]:
    """Figures of calibration for a task.

    Classes: ECE (15 bins) and NLL of logits / temperature. A number: bias, the mean of prediction - label; slope and
    intercept of the least-squares line label = slope * prediction + intercept. Perfect is bias 0, slope 1, intercept
    0; a slope below 1 means predictions that are too extreme. NaN where undefined (constant prediction, no label).
    """
    if task.kind != "regression":
        return {
            "ECE": expected_calibration_error(task, probabilities(task, prediction, temperature), target),
            "NLL": negative_log_likelihood(task, prediction, target, temperature),
        }
    values, truth = prepare(task, prediction, target)
    p, t = values[:, 0].astype(np.float64), truth.astype(np.float64)
    if not len(t):
        return {"bias": float("nan"), "slope": float("nan"), "intercept": float("nan")}
    spread = p.var()
    slope = float(((p - p.mean()) * (t - t.mean())).mean() / spread) if spread > 0 else float("nan")
    return {"bias": float((p - t).mean()), "slope": slope, "intercept": float(t.mean() - slope * p.mean())}


def _claims(task: Task, chances: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """(confidence, right) [M] float64: one claim per utterance, or per known label."""
    if task.kind == "regression":
        raise InputError(
            "reliability", [f"task '{task.name}' predicts a number; see `calibration` for its bias and slope"]
        )
    values, truth = prepare(task, chances, target)
    if values.size and not ((values >= 0) & (values <= 1 + 1e-6)).all():
        raise InputError("reliability", ["these are no probabilities"], "Give `probabilities(task, logits)`.")
    values = values.astype(np.float64)
    if task.kind == "multilabel":
        known = ~np.isnan(truth)
        return values[known], truth[known].astype(np.float64)
    if not len(truth):
        return np.empty(0), np.empty(0)
    return values.max(axis=1), (values.argmax(axis=1) == truth).astype(np.float64)
