"""Normalisation of word matrices: min-max, fitted on observed cells of the train split alone.

docs/systems/conv_autoencoder.md#normalisation, #q6 to #q8, #q10. The reference's own chain is kept beside ours for
parity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from demeanor.data.errors import InputError


@dataclass(frozen=True)
class MatrixNormaliser:
    """(x - low) / (high - low) per column, [F] each; values that are not finite become `fill` first.

    fill is the column's mean over finite observed train cells, the one rule for every split. A column without any
    range in train is zero everywhere, whatever other splits hold. With `clip` results stay within [0, 1].
    """

    low: Float[np.ndarray, " features"]
    high: Float[np.ndarray, " features"]
    fill: Float[np.ndarray, " features"]
    clip: bool = True

    @classmethod
    def fit(
        cls,
        values: Float[np.ndarray, "utterances steps features"],
        cells: Bool[np.ndarray, "utterances steps features"],
        clip: bool = True,
    ) -> MatrixNormaliser:
        """From the train split; `cells` is True on what was observed. InputError if nothing was."""
        usable = cells & np.isfinite(values)
        count = usable.sum(axis=(0, 1))
        if not count.any():
            raise InputError("normaliser", ["no finite observed value in the train split"], "Look at the streams.")
        some = count > 0
        low = np.where(some, np.where(usable, values, np.inf).min(axis=(0, 1)), 0.0)
        high = np.where(some, np.where(usable, values, -np.inf).max(axis=(0, 1)), 0.0)
        total = np.where(usable, values, 0.0).sum(axis=(0, 1), dtype=np.float64)
        fill = np.where(some, total / np.maximum(count, 1), 0.0)
        return cls(low.astype(np.float32), high.astype(np.float32), fill.astype(np.float32), clip)

    @property
    def constant(self) -> Bool[np.ndarray, " features"]:
        """Columns that say nothing: one value in the whole train split, or none that is finite."""
        return ~(self.high > self.low)

    def __call__(
        self,
        values: Float[np.ndarray, "utterances steps features"],
        cells: Bool[np.ndarray, "utterances steps features"] | None = None,
    ) -> Float[np.ndarray, "utterances steps features"]:
        """Normalised float32 copy; what was not observed is zero."""
        if values.shape[-1] != len(self.low):
            raise InputError(
                "normaliser",
                [f"fitted on {len(self.low)} columns, the matrix has {values.shape[-1]}"],
                "Use the streams that the representation was trained on.",
            )
        span = self.high - self.low
        scale = np.divide(1.0, span, out=np.zeros_like(span), where=~self.constant)
        repaired = np.where(np.isfinite(values), values, self.fill)
        result = (repaired - self.low) * scale
        if self.clip:
            np.clip(result, 0.0, 1.0, out=result)
        if cells is not None:
            result *= cells
        return result.astype(np.float32, copy=False)

    def tensors(self, prefix: str) -> dict[str, np.ndarray]:
        """low, high and fill of a column, each [features], by the name in a bundle."""
        return {f"{prefix}.low": self.low, f"{prefix}.high": self.high, f"{prefix}.fill": self.fill}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], clip: bool = True) -> MatrixNormaliser:
        """From low, high and fill, each [features]."""
        return cls(tensors["low"], tensors["high"], tensors["fill"], clip)


@dataclass(frozen=True)
class ReferenceNormaliser:
    """The reference's repair of -inf, standardisation and min-max in float64 (docs/systems/conv_autoencoder.md#q6).

    Its quirks are kept: -inf becomes 0 in train but the column's minimum elsewhere; statistics include padding; a
    column constant in train explodes elsewhere; -inf that train does not have survives. Use MatrixNormaliser.
    """

    infinite: Bool[np.ndarray, " features"]
    fill: Float[np.ndarray, " features"]
    mean: Float[np.ndarray, " features"]
    deviation: Float[np.ndarray, " features"]
    low: Float[np.ndarray, " features"]
    high: Float[np.ndarray, " features"]

    EPSILON = 1e-10

    @classmethod
    def fit(cls, train: Float[np.ndarray, "utterances steps features"]) -> ReferenceNormaliser:
        """Statistics of the train split, as the reference takes them, its repair of -inf included."""
        train = np.asarray(train, dtype=np.float64)
        # One NaN hides a column's -inf from the reference's test, which asks for the column's minimum.
        infinite = np.isneginf(train).any(axis=(0, 1)) & ~np.isnan(train).any(axis=(0, 1))
        repaired = np.where(np.isneginf(train) & infinite, 0.0, train)
        fill = repaired.min(axis=(0, 1))
        with np.errstate(invalid="ignore"):
            mean, deviation = repaired.mean(axis=(0, 1)), repaired.std(axis=(0, 1))
            standard = (repaired - mean) / (deviation + cls.EPSILON)
        return cls(infinite, fill, mean, deviation, standard.min(axis=(0, 1)), standard.max(axis=(0, 1)))

    def repair(self, values: Float[np.ndarray, "utterances steps features"], train: bool) -> np.ndarray:
        """values in their shape [utterances, steps, features], minus infinity replaced as the reference does."""
        values = np.asarray(values, dtype=np.float64)
        return np.where(np.isneginf(values) & self.infinite, 0.0 if train else self.fill, values)

    def __call__(self, values: Float[np.ndarray, "utterances steps features"], train: bool = False) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            standard = (self.repair(values, train) - self.mean) / (self.deviation + self.EPSILON)
            return (standard - self.low) / (self.high - self.low + self.EPSILON)
