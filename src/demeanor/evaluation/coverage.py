"""Which coverage a promise leads to expect on a test, and what else than chance may have moved it.

The coverage of a split-conformal interval for new clips of the same kind is itself a matter of the n clips that it was
fitted on: it follows Beta(r, n + 1 - r) with r = ceil((n + 1) * promised), so that the number of test clips that are
held is beta-binomial (Vovk, 2012, arXiv:1209.2673). A binomial interval around what was seen forgets the first half
of that. Both halves take clips to be drawn one by one; those of a dialogue resemble each other, and count as fewer
(Kish, "Survey Sampling", 1965: the design effect).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
LEAST_GROUPS = 10
"""Groups from which it can be said how much their members resemble each other."""


def conformal_rank(n: int, coverage: float) -> int:
    """Which of n scores in rising order a new one exceeds with a chance of at most 1 - coverage; above n: none does."""
    # Rounded first, for (9 + 1) * 0.9 is 9.000000000000002 or so in binary, and its rank is 9.
    return int(np.ceil(np.round((n + 1) * coverage, 9)))


def expected_coverage(
    promised: float, parts: Sequence[tuple[int, int]], effect: float = 1.0, level: float = 0.95
) -> tuple[float, float]:
    """Between which two shares of held test clips chance alone stays in `level` of all cases; NaN without a clip.

    parts   for each fit (clips it was fitted on, clips of the test that it answers); fits are taken to be independent
    effect  design effect of the clips: so many of them tell as much as one that was drawn by itself

    A set that always holds the likeliest class, and seeds that are joined, hold a little more than this says.
    """
    from scipy.stats import betabinom  # a second and 60 MiB, for what is asked in reports alone

    chances, total = np.ones(1), 0
    for fitted, asked in parts:
        # At least one: a part is never so small that it says nothing.
        count, rank = max(round(asked / effect), 1), conformal_rank(fitted, promised)
        if rank > fitted:
            held = np.zeros(count + 1)
            held[-1] = 1.0
        else:
            mean, strength = rank / (fitted + 1), fitted / effect + 1
            held = betabinom.pmf(np.arange(count + 1), count, mean * strength, (1 - mean) * strength)
        chances, total = np.convolve(chances, held), total + count
    if not total:
        return float("nan"), float("nan")
    below, tail = np.cumsum(chances), (1.0 - level) / 2
    low, high = (int(np.searchsorted(below, share - 1e-12)) for share in (tail, 1.0 - tail))
    return low / total, min(high, total) / total


def design_effect(held: ArrayLike, groups: ArrayLike) -> float:
    """How many times the variance of a mean over clips is what it would be of clips that were drawn one by one; at
    least 1. NaN for fewer than `LEAST_GROUPS` groups, of which it cannot be told.

    held [N] shares; groups [N] which dialogue, or whatever makes clips alike, each belongs to.
    """
    values = np.asarray(held, dtype=np.float64)
    known = np.isfinite(values)
    _, place = np.unique(np.asarray(groups, dtype=object)[known].astype(str), return_inverse=True)
    count = int(place.max()) + 1 if len(place) else 0
    if count < LEAST_GROUPS:
        return float("nan")
    apart = values[known] - values[known].mean()
    between = count / (count - 1) * float(np.square(np.bincount(place, apart)).sum())
    within = len(apart) / (len(apart) - 1) * float(np.square(apart).sum())
    return max(between / within, 1.0) if within > 0 else 1.0


def coverage_in_mix(held: ArrayLike, target: ArrayLike, shares: ArrayLike) -> float:
    """The coverage if classes were as common as `shares` [classes] says: what is left of a difference once they are.

    held [N] shares; target [N] classes. Classes of which the test has no clip are left out; NaN where it has none.
    """
    values, truth = np.asarray(held, dtype=np.float64), np.asarray(target)
    weights = np.array([share if (truth == name).any() else 0.0 for name, share in enumerate(np.asarray(shares))])
    if weights.sum() <= 0:
        return float("nan")
    each = [values[truth == name].mean() if weight > 0 else 0.0 for name, weight in enumerate(weights)]
    return float(np.dot(weights, each) / weights.sum())
