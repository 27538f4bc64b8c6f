"""Whether one system is better than another: paired bootstrap, adjusted for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from demeanor.data.errors import InputError
from demeanor.data.task import Better, Task
from demeanor.evaluation.metrics import Metric, labelled, metric_of, prepare, primary_metrics
from demeanor.evaluation.predictions import stacks
from demeanor.evaluation.resampling import Draws, Resampler, Unit, bootstrap, interval, two_sided_p


@dataclass(frozen=True)
class Difference:
    """A metric of a minus that of b on the same utterances, means over seeds.

    mean is the observed difference, low and high its 95% percentile interval, p two-sided; `units` utterances or
    dialogues were resampled.
    """

    metric: str
    better: Better
    mean: float
    low: float
    high: float
    p: float
    resamples: int
    units: int

    @property
    def favours(self) -> Literal["a", "b", "neither"]:
        """Which one the interval speaks for; neither where it holds zero or is undefined."""
        if not (self.low > 0 or self.high < 0):
            return "neither"
        return "a" if (self.mean > 0) == (self.better == "max") else "b"

    def describe(self, a: str = "a", b: str = "b") -> str:
        """The difference in one sentence, with its interval, p and what they are evidence of."""
        verdict = {
            "a": f"evidence that {a} is better",
            "b": f"evidence that {b} is better",
            "neither": "no evidence of a difference (which is not evidence that they are equal)",
        }[self.favours]
        return (
            f"{self.metric} of {a} minus {b}: {self.mean:+.3f}, 95% interval [{self.low:+.3f}, {self.high:+.3f}], "
            f"p = {self.p:.4f}, {'lower' if self.better == 'min' else 'higher'} is better: {verdict}"
        )


def paired_bootstrap(
    prediction_a: ArrayLike,
    prediction_b: ArrayLike,
    target: ArrayLike,
    metric: Metric,
    *,
    resamples: int = 10000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Difference:
    """Difference of a metric between two systems, each resample drawing the same utterances for both.

    prediction_a, prediction_b [N, outputs], or [S, N, outputs] for several seeds, whose mean is compared; rows
    without a label left out (`prepare`). With `groups` [N] whole dialogues are drawn. `metric_of` makes the metric.
    """
    truth = np.asarray(target)
    a, b = (_with_seeds(prediction, truth) for prediction in (prediction_a, prediction_b))
    resampler = Resampler.over(len(truth), groups, resamples, seed)
    one, other = bootstrap({metric.name: metric}, [a, b], truth, resampler)
    return _difference(metric, one[metric.name], other[metric.name], resampler)


def _with_seeds(prediction: ArrayLike, target: NDArray[Any]) -> NDArray[Any]:
    values = np.asarray(prediction, dtype=np.float32)
    values = values[:, None] if values.ndim == 1 else values
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[1] != len(target):
        raise InputError("paired bootstrap", [f"predictions {values.shape} and {len(target)} targets do not pair"])
    return values


def _difference(metric: Metric, a: Draws, b: Draws, resampler: Resampler) -> Difference:
    resampled = a.resampled - b.resampled
    low, high = interval(resampled)
    return Difference(
        metric.name, metric.better, a.mean - b.mean, low, high, two_sided_p(resampled),
        resampler.resamples, resampler.units,
    )  # fmt: skip


def differences(
    task: Task,
    predictions: pd.DataFrame,
    against: str,
    *,
    metric: str | None = None,
    resamples: int = 10000,
    seed: int = 0,
    by: Unit = "utterance",
    threshold: float = 0.0,
) -> pd.DataFrame:
    """Every other branch paired with `against`, the p-values adjusted for their number (Holm, 1979).

    Name in `against` what was chosen before the test was looked at (the champion on validation, the baseline).
    Columns: branch, against, metric, difference (branch minus against), low, high (95%, not adjusted), p, p_holm,
    comparisons, verdict ("better", "worse" or "no evidence", by p_holm below 0.05).
    InputError if `against` has no predictions.
    """
    chosen = metric_of(task, metric or primary_metrics(task)[0], threshold)
    stacked = stacks(task, predictions)
    if against not in stacked:
        raise InputError("differences", [f"branch '{against}' has no predictions; there is: {', '.join(stacked)}"])
    first = stacked[against]
    others = [branch for branch in stacked if branch != against]
    target = prepare(task, first.prediction, first.target)[1]
    groups = first.dialogues[labelled(task, first.target)] if by == "dialogue" else None
    resampler = Resampler.over(len(target), groups, resamples, seed)
    values = [prepare(task, stacked[branch].prediction, first.target)[0] for branch in [against, *others]]
    base, *rest = bootstrap({chosen.name: chosen}, values, target, resampler)
    made = [_difference(chosen, draws[chosen.name], base[chosen.name], resampler) for draws in rest]
    adjusted = holm([difference.p for difference in made])
    verdicts = {"a": "better", "b": "worse", "neither": "no evidence"}
    return pd.DataFrame(
        {
            "branch": others,
            "against": against,
            "metric": chosen.name,
            "difference": [difference.mean for difference in made],
            "low": [difference.low for difference in made],
            "high": [difference.high for difference in made],
            "p": [difference.p for difference in made],
            "p_holm": adjusted,
            "comparisons": len(made),
            "verdict": [
                verdicts[difference.favours] if p < 0.05 else "no evidence"
                for difference, p in zip(made, adjusted, strict=True)
            ],
        }
    )


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down rule; NaN stays NaN but counts as a comparison."""
    p = np.asarray(values, dtype=np.float64)
    order = np.argsort(np.where(np.isnan(p), np.inf, p), kind="stable")
    stepped = p[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(np.where(np.isnan(stepped), -np.inf, stepped)))
    return [float(value) for value in np.where(np.isnan(p), np.nan, adjusted)]
