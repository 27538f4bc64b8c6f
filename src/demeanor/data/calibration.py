"""Calibration: what validation said of how far a model's answers can be taken at their word, and what it makes of them.

It is a part of a bundle's card. How it is fitted, and by which methods: demeanor.evaluation.conformal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from demeanor.data.settings import Settings
from demeanor.data.task import Task

Array = NDArray[Any]


class CalibrationSettings(Settings):
    """How a branch is calibrated on validation."""

    coverage: float = Field(default=0.9, gt=0.0, lt=1.0, description="share of labels that intervals and sets hold")
    risk: float | None = Field(
        default=None,
        gt=0.0,
        lt=1.0,
        description="largest share of wrong answers on validation; below the confidence that this takes, an answer is "
        "withheld. None answers everything.",
    )
    least: int = Field(default=30, ge=1, description="clips from which a set of modalities is calibrated by itself")


class SubsetCalibration(Settings):
    """The fit for one set of present modalities; `n` clips, each of them once per seed.

    wrong        share of wrong answers among them, in the sense of demeanor.evaluation.conformal.losses: where it is
                 another on new clips, they are of another kind; None in cards of before
    temperature  logits are divided by it; 1 for a number
    width        a number's interval is answer - width .. answer + width; None: the whole scale, for want of clips
    threshold    a class is in the set when its probability is at least this; None: every class, for want of clips
    residuals    of a number: quantiles of label - answer at equal steps from 0 to 1, by which it is known how often
                 the label lies on the other side of the scale's middle
    """

    n: int
    wrong: float | None = None
    temperature: float = 1.0
    width: float | None = None
    threshold: float | None = None
    residuals: tuple[float, ...] = ()


class Calibration(Settings):
    """Fitted on validation, stored in the bundle's card, applied wherever the bundle answers.

    pooled   all clips with what they have: for sets of modalities that `subsets` does not hold
    subsets  modalities, in alphabetical order and joined by "+", -> the fit of the clips that have them, with all
             other modalities left out
    below    an answer of less confidence is withheld; None: every answer is given; above 1: none is, for validation
             knew no share of answers that keeps the risk
    """

    coverage: float
    method: Literal["split conformal", "LAC"]
    seeds: tuple[int, ...]
    risk: float | None = None
    below: float | None = None
    pooled: SubsetCalibration
    subsets: dict[str, SubsetCalibration] = Field(default_factory=dict)

    def of(self, modalities: Iterable[str]) -> SubsetCalibration:
        """The fit for a set of modalities, the pooled one where it has none of its own."""
        return self.subsets.get(subset_name(modalities), self.pooled)

    def describe(self) -> str:
        """One or two lines of the spec sheet."""
        kind = "intervals" if self.method == "split conformal" else "sets of classes"
        own = ", ".join(sorted(self.subsets)) or "none"
        temperature = "" if self.method == "split conformal" else f", temperature {self.pooled.temperature:.2f}"
        withheld = (
            "every answer is given"
            if self.below is None
            else f"answers below a confidence of {self.below:.2f} are withheld (risk {self.risk:g})"
        )
        return (
            f"{kind} at {self.coverage:.0%} by {self.method} on {self.pooled.n} clips of validation, "
            f"{len(self.seeds)} seed{'s' if len(self.seeds) != 1 else ''} joined{temperature}; own fits: {own}; "
            f"{withheld}"
        )


def subset_name(modalities: Iterable[str]) -> str:
    """How a set of modalities is named: "audio+text"."""
    return "+".join(sorted(set(modalities)))


def probabilities(task: Task, logits: ArrayLike, temperature: float = 1.0) -> Array:
    """softmax (one of several) or sigmoid (any of several) of logits / temperature; [..., classes] float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if task.kind == "multilabel":
        return 0.5 * (1.0 + np.tanh(0.5 * scaled))
    exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def by_fit(calibration: Calibration, names: Array) -> list[tuple[SubsetCalibration, Array]]:
    """Each fit with the rows [n] that it is for."""
    return [
        (calibration.subsets.get(name, calibration.pooled), np.flatnonzero(names == name))
        for name in dict.fromkeys(names.tolist())
    ]


def calibrated_probabilities(task: Task, outputs: Array, calibration: Calibration | None, names: Array) -> Array:
    """[N, classes] probabilities of logits [N, classes], each row at the temperature of its modalities (names [N])."""
    if calibration is None:
        return probabilities(task, outputs)
    made = np.empty(np.shape(outputs), dtype=np.float64)
    for fit, rows in by_fit(calibration, names):
        made[rows] = probabilities(task, outputs[rows], fit.temperature)
    return made


def intervals(task: Task, outputs: Array, calibration: Calibration, names: Array) -> tuple[Array, Array]:
    """(low, high) [N] of a number's answers [N, 1], within the task's scale, where all labels lie."""
    low, high = np.empty(len(outputs)), np.empty(len(outputs))
    for fit, rows in by_fit(calibration, names):
        width = np.inf if fit.width is None else fit.width
        answers = outputs[rows, 0].astype(np.float64)
        low[rows], high[rows] = answers - width, answers + width
    return np.clip(low, task.low, task.high), np.clip(high, task.low, task.high)


def class_sets(task: Task, chances: Array, calibration: Calibration, names: Array) -> Array:
    """[N, classes] booleans: the classes of each set; one of several: the likeliest is always in it."""
    held = np.zeros(np.shape(chances), dtype=bool)
    for fit, rows in by_fit(calibration, names):
        held[rows] = True if fit.threshold is None else chances[rows] >= fit.threshold - 1e-12
    if task.kind == "classification" and len(held):
        held[np.arange(len(held)), chances.argmax(axis=1)] = True
    return held


def confidences(task: Task, outputs: Array, calibration: Calibration | None, names: Array) -> Array:
    """[N] how likely an answer is right, in the sense of demeanor.evaluation.conformal.losses; NaN for a number without
    a calibration.

    One of several classes: the probability of the answer. Any of several: of the least sure of its decisions. A
    number: how often, by the residuals of validation, the label lies on the answer's side of the scale's middle.
    """
    if task.kind == "regression":
        made = np.full(len(outputs), np.nan)
        if calibration is not None:
            for fit, rows in by_fit(calibration, names):
                gap = outputs[rows, 0].astype(np.float64) - (task.low + task.high) / 2
                steps = np.linspace(0, 1, len(fit.residuals))
                # The share of residuals that do not carry the label over the middle, from either side.
                below = np.interp(-gap, np.asarray(fit.residuals), steps, left=0.0, right=1.0)
                # n clips know of no chance that is nearer to certainty than this.
                made[rows] = np.minimum(np.where(gap >= 0, 1.0 - below, below), fit.n / (fit.n + 1))
        return made
    chances = calibrated_probabilities(task, outputs, calibration, names)
    if task.kind == "classification":
        return chances.max(axis=1) if len(chances) else np.empty(0)
    return np.maximum(chances, 1.0 - chances).min(axis=1) if len(chances) else np.empty(0)
