"""The linear models of a probe, which rows they are fitted on, and how their penalty is chosen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from demeanor.data.errors import InputError
from demeanor.data.examples import Examples

#: The reference searched logspace(-10, 2, 20); below 1e-4 nothing but the prior is left.
GRID = tuple(float(value) for value in np.logspace(-4, 2, 7))
FOLDS = 5


class VaryingColumns(VarianceThreshold):
    """Keeps the columns whose deviation is at least a millionth of the largest: the rest is rounding, and scaling it
    to one would let it drown everything in rows that were not fitted on."""

    def fit(self, x: np.ndarray, y: np.ndarray | None = None) -> VaryingColumns:
        """Finds the columns of x [rows, columns] that vary; y is not read."""
        deviation = np.std(np.asarray(x, dtype=np.float64), axis=0)
        self.threshold = float((1e-6 * deviation.max()) ** 2)
        self.variances_ = np.maximum(deviation**2, np.finfo(np.float64).tiny if self.threshold == 0 else 0.0)
        self.n_features_in_ = x.shape[1]
        return self


def scaling() -> Pipeline:
    """What comes before either model."""
    return make_pipeline(VaryingColumns(), StandardScaler())


def logistic(c: float) -> LogisticRegression:
    """L2 logistic regression by lbfgs, no class weights, as the reference's downstream step."""
    return LogisticRegression(C=c, max_iter=10_000, random_state=42)


def ridge(c: float) -> Ridge:
    """Ridge regression with penalty 1 / C, so that one grid serves both. Solved by singular values: with fewer rows
    than columns the normal equations are ill-conditioned where the penalty is weak."""
    return Ridge(alpha=1.0 / c, solver="svd")


def fitted(model: Any, x: np.ndarray, y: np.ndarray) -> Any:
    """`model` fitted on x [rows, columns] and y [rows], quiet about steps that were not enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def fit_logistic(x: Float[np.ndarray, "rows dimension"], y: Int[np.ndarray, " rows"], c: float) -> Pipeline:
    """StandardScaler, then `logistic`."""
    return fitted(make_pipeline(*scaling(), logistic(c)), x, y)


def choose_c(scores: Sequence[float], grid: Sequence[float]) -> float:
    """The C of the highest score; of equal ones the first, which is the strongest penalty of a rising grid."""
    return float(grid[int(np.argmax(scores))])


@dataclass(frozen=True)
class Rows:
    """Row numbers: fitted on to choose C, scored to choose C (None: folds of `fit`), fitted on at last, reported."""

    fit: np.ndarray
    choose: np.ndarray | None
    final: np.ndarray
    report: np.ndarray
    split: str


def protocol(examples: Examples, labelled: np.ndarray) -> Rows:
    """The rows of each role; see the head of demeanor.evaluation.probe.

    `labelled` [utterances] of truth values; InputError without labels on both sides.
    """
    split = examples.utterances["split"].to_numpy()
    train, valid, test = (np.flatnonzero((split == name) & labelled) for name in ("train", "valid", "test"))
    if len(train) == 0 or (len(valid) == 0 and len(test) == 0):
        raise InputError(
            "probe",
            [f"{len(train)} labelled utterances in train, {len(valid)} in valid, {len(test)} in test"],
            "A probe needs labelled utterances to fit and others to score.",
        )
    if len(test) and len(valid):
        return Rows(train, valid, np.concatenate([train, valid]), test, "test")
    return Rows(train, None, train, test if len(test) else valid, "test" if len(test) else "valid")


def _folds(rows: np.ndarray, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Folds that keep a dialogue together, where there are enough dialogues."""
    folds = min(FOLDS, len(np.unique(groups[rows])))
    if folds < 2:
        half = len(rows) // 2
        yield rows[:half], rows[half:]
        return
    for fit, choose in GroupKFold(folds).split(rows, groups=groups[rows]):
        yield rows[fit], rows[choose]


def fit_chosen(
    model: Callable[[float], Any], quality: Callable[[np.ndarray, np.ndarray], float], x: np.ndarray, y: np.ndarray,
    rows: Rows, groups: np.ndarray, grid: Sequence[float] = GRID,
) -> tuple[Pipeline, float]:  # fmt: skip
    """The probe fitted on `rows.final` with the C that scores best, and that C.

    x [utterances, columns], y [utterances], groups [utterances]: rows of one group stay in one fold.
    """
    pairs = [(rows.fit, rows.choose)] if rows.choose is not None else list(_folds(rows.fit, groups))
    # A fold without a second class has nothing to fit; a regression has always many values.
    pairs = [(a, b) for a, b in pairs if len(b) and len(np.unique(y[a])) > 1]
    losses = np.zeros((len(pairs), len(grid)))
    # The models are small: checking what they are given takes longer than fitting them.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        for n, (a, b) in enumerate(pairs):
            scaler = scaling().fit(x[a])
            x_fit, x_choose = scaler.transform(x[a]), scaler.transform(x[b])
            losses[n] = [quality(y[b], fitted(model(c), x_fit, y[a]).predict(x_choose)) for c in grid]
    c = choose_c(list(losses.mean(axis=0)), grid) if pairs else 1.0
    return fitted(make_pipeline(*scaling(), model(c)), x[rows.final], y[rows.final]), c
