"""The bootstrap over utterances or dialogues, as a matrix product.

A metric is a value of sums over utterances (metrics.Metric), so a resample is a row of counts that say how often each
utterance was drawn, and all resamples of all metrics, systems and seeds are counts @ statistics. Every system sees the
same draws: differences are paired.

Resampling whole dialogues instead of utterances respects that utterances of one dialogue resemble each other; with
clearly dependent utterances, intervals over single utterances are too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from demeanor.evaluation.metrics import Metric

Array = NDArray[Any]
Unit = Literal["utterance", "dialogue"]

LARGEST = 4_000_000
"""Counts held at once (resamples x groups): 32 MB in float64."""

LEAST_DEFINED = 0.9
"""Share of resamples in which a metric must be defined for an interval to be given."""


@dataclass(frozen=True)
class Resampler:
    """Draws with replacement; `order` [N] sorts utterances by group, `starts` [G] says where each group begins."""

    order: Array
    starts: Array
    resamples: int
    seed: int

    @classmethod
    def over(cls, utterances: int, groups: ArrayLike | None = None, resamples: int = 2000, seed: int = 0) -> Resampler:
        """Resample utterances, or, with `groups` [N] (dialogue ids), whole groups."""
        if groups is None:
            return cls(np.arange(utterances), np.arange(utterances), resamples, seed)
        codes = np.unique(np.asarray(groups), return_inverse=True)[1]
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        return cls(order, starts, resamples, seed)

    @property
    def units(self) -> int:
        """What is drawn: the number of utterances, or of groups."""
        return len(self.starts)

    def sums(self, statistics: Array) -> Array:
        """Sums over each resample: statistics [..., N] -> [..., resamples]; the same draws at every call."""
        size = self.units
        grouped = np.add.reduceat(statistics[..., self.order].astype(np.float64), self.starts, axis=-1)
        rows = grouped.reshape(-1, size)
        totals = np.empty((len(rows), self.resamples))
        generator = np.random.default_rng(self.seed)
        step = max(1, LARGEST // size)
        for start in range(0, self.resamples, step):
            count = min(step, self.resamples - start)
            drawn = generator.integers(0, size, (count, size), dtype=np.int32)
            drawn += (np.arange(count, dtype=np.int32) * size)[:, None]
            times = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
            totals[:, start : start + count] = rows @ times.T.astype(np.float64)
        return totals.reshape(*grouped.shape[:-1], self.resamples)


@dataclass(frozen=True)
class Draws:
    """One metric of one system: its value per seed [S], and the mean over seeds in every resample [R]."""

    values: Array
    resampled: Array

    @property
    def mean(self) -> float:
        """Mean of the metric over the draws."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds (ddof 1), NaN for one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else float("nan")


def bootstrap(
    metrics: Mapping[str, Metric], predictions: Sequence[Array], target: Array, resampler: Resampler | None
) -> list[dict[str, Draws]]:
    """For each system (predictions [S, N, outputs], labelled rows only): metric name -> Draws.

    Without a resampler, `resampled` is empty.
    """
    draws: list[dict[str, Draws]] = []
    with np.errstate(invalid="ignore", over="ignore"):
        for prediction in predictions:
            parts = {
                name: np.stack([metric.statistics(one, target) for one in prediction], axis=1).astype(np.float64)
                for name, metric in metrics.items()
            }
            values = {
                name: np.array([metric(one, target) for one in prediction], dtype=np.float64)
                for name, metric in metrics.items()
            }
            if resampler is None or resampler.units == 0:
                draws.append({name: Draws(value, np.empty(0)) for name, value in values.items()})
                continue
            # One product for all metrics of a system: the counts are made once.
            lengths = [len(part) for part in parts.values()]
            sums = resampler.sums(np.concatenate(list(parts.values())))
            pieces = np.split(sums, np.cumsum(lengths)[:-1])
            draws.append(
                {
                    name: Draws(values[name], metric.finalize(piece).mean(axis=0))
                    for (name, metric), piece in zip(metrics.items(), pieces, strict=True)
                }
            )
    return draws


def interval(resampled: Array, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values; NaN where the metric is undefined in too many of them."""
    defined = resampled[~np.isnan(resampled)]
    if not len(resampled) or len(defined) < LEAST_DEFINED * len(resampled):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def two_sided_p(resampled: Array) -> float:
    """p that a difference is zero, by inverting the percentile interval; never below 2 / (resamples + 1)."""
    defined = resampled[~np.isnan(resampled)]
    if not len(resampled) or len(defined) < LEAST_DEFINED * len(resampled):
        return float("nan")
    tail = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(defined) + 1))
