"""Standardisation with statistics of the train split alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged

SMALLEST_SCALE = 1e-6
CHUNK = 4096


class Normaliser:
    """Per role, mean and standard deviation [D] of every feature over the real steps of the train split.

    A constant feature becomes 0; NaN and infinities enter no statistic and become 0, the mean. Roles without
    statistics pass unchanged.
    """

    def __init__(self, statistics: Mapping[str, tuple[np.ndarray, np.ndarray]]):
        self.statistics = {role: (mean, scale) for role, (mean, scale) in statistics.items()}

    @classmethod
    def fit(cls, train: Examples, streams: Mapping[str, str]) -> Normaliser:
        """Statistics of `streams` (role -> stream name) over `train`, which must hold no other split. ValueError if it
        does."""
        splits = set(train.utterances["split"])
        if not splits <= {"train"}:
            raise ValueError(f"statistics are fitted on the train split alone, found {sorted(splits)}")
        return cls({role: moments(train.stream(name).ragged) for role, name in streams.items()})

    def apply(self, role: str, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """values [B, T, D] -> standardised, zero where `mask` [B, T] is False."""
        if role not in self.statistics:
            return values
        mean, scale = self.statistics[role]
        scaled = (values.astype(np.float32) - mean) / scale
        finite = np.isfinite(scaled) & mask[..., None]
        return np.where(finite, scaled, np.float32(0.0))

    def tensors(self) -> dict[str, np.ndarray]:
        """As they stand in a bundle. Means and scales, each [dimension], in the unit of the stream."""
        named = {}
        for role, (mean, scale) in self.statistics.items():
            named[f"normaliser.{role}.mean"] = mean
            named[f"normaliser.{role}.scale"] = scale
        return named

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Normaliser:
        """From a bundle's part 'normaliser': names <role>.mean and <role>.scale. Each is [dimension]."""
        roles = {name.rsplit(".", 1)[0] for name in tensors}
        return cls({role: (tensors[f"{role}.mean"], tensors[f"{role}.scale"]) for role in roles})


def moments(ragged: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale [D], float32, of finite values, summed in float64 by chunks so that memory stays flat."""
    count = np.zeros(ragged.dimension)
    total = np.zeros(ragged.dimension)
    squares = np.zeros(ragged.dimension)
    origin: np.ndarray | None = None
    for sequence in ragged:
        for start in range(0, len(sequence), CHUNK):
            values = np.asarray(sequence[start : start + CHUNK], dtype=np.float64)
            finite = np.isfinite(values)
            if origin is None:
                # Sums of squares lose digits when a feature is far from zero: measure from the first step.
                origin = np.where(finite[0], values[0], 0.0)
            shifted = np.where(finite, values - origin, 0.0)
            count += finite.sum(axis=0)
            total += shifted.sum(axis=0)
            squares += (shifted**2).sum(axis=0)
    if origin is None:
        return np.zeros(ragged.dimension, np.float32), np.ones(ragged.dimension, np.float32)
    known = np.maximum(count, 1)
    mean = total / known
    deviation = np.sqrt(np.maximum(squares / known - mean**2, 0.0))
    scale = np.where(deviation > SMALLEST_SCALE, deviation, 1.0)
    return (mean + origin).astype(np.float32), scale.astype(np.float32)
