"""Calibration: what validation said of how far a model's answers can be taken at their word; a part of its card."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from demeanor.data.settings import Settings


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

    temperature  logits are divided by it; 1 for a number
    width        a number's interval is answer - width .. answer + width; None: the whole scale, for want of clips
    threshold    a class is in the set when its probability is at least this; None: every class, for want of clips
    residuals    of a number: quantiles of label - answer at equal steps from 0 to 1, by which it is known how often
                 the label lies on the other side of the scale's middle
    """

    n: int
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
