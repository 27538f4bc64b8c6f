"""Linear probe: what a linear model reads out of an embedding (docs/systems/conv_autoencoder.md#downstream, #q14).

The reference reports accuracy and weighted F1, near the majority's for the rarer emotions; here every table also has
unweighted average recall, macro F1, both binarisations of a sentiment, the majority or mean baseline and a bootstrap
interval.

Protocol. With a labelled test split: C is chosen on valid, the model is fitted again on train and valid, and scored
on test. Without one (pretraining never sees it): C is chosen by five folds within train, and valid is scored.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
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
from demeanor.data.stream import Stream
from demeanor.data.task import IGNORED, Task
from demeanor.evaluation import sufficient_statistics as stats
from demeanor.evaluation.metrics import metric_of, prepare

#: The reference searched logspace(-10, 2, 20); below 1e-4 nothing but the prior is left.
GRID = tuple(float(value) for value in np.logspace(-4, 2, 7))
FOLDS = 5
RESAMPLES = 1000
REGRESSION_SCORES = ("MAE", "Corr")
CLASS_SCORES = {
    "accuracy": stats.accuracy, "UAR": stats.mean_recall, "macro_F1": stats.macro_f1, "weighted_F1": stats.weighted_f1,
}  # fmt: skip


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


def confusion(truth: Int[np.ndarray, " rows"], predicted: Int[np.ndarray, " rows"], classes: int) -> np.ndarray:
    """[classes, classes] counts, rows are the truth."""
    flat = truth.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def class_scores(counts: Int[np.ndarray, "classes classes"]) -> dict[str, float]:
    """accuracy, UAR, macro_F1 and weighted_F1 as `metrics` defines them."""
    totals = np.concatenate([np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)])
    return {name: float(finalize(totals)) for name, finalize in CLASS_SCORES.items()}


def regression_scores(
    task: Task, truth: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " rows"]
) -> dict[str, float]:
    """MAE and Corr as `metrics` defines them for the task: Corr of a constant is NaN."""
    values, target = prepare(task, predicted, truth)
    return {name: metric_of(task, name)(values, target) for name in REGRESSION_SCORES}


def bootstrap_classes(
    truth: Int[np.ndarray, " rows"], predicted: Int[np.ndarray, " rows"], classes: int, seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, float]:  # fmt: skip
    """Percentile interval of 95 % for each of `class_scores`: name.low and name.high. All resamples at once: a sum over
    a resample is one over the rows, each counted as often as it was drawn."""
    rows = len(truth)
    times = np.stack([np.bincount(chosen, minlength=rows) for chosen in _resamples(rows, seed, resamples)])
    totals = stats.confusion_counts(predicted, truth, classes).astype(np.int64) @ times.T
    return _intervals({name: np.asarray(value(totals)) for name, value in CLASS_SCORES.items()})


def bootstrap_regression(
    task: Task, truth: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " rows"], seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, float]:  # fmt: skip
    """The same of `regression_scores`."""
    values, target = prepare(task, predicted, truth)
    times = np.stack(
        [np.bincount(chosen, minlength=len(target)) for chosen in _resamples(len(target), seed, resamples)]
    )
    drawn = {}
    for name in REGRESSION_SCORES:
        metric = metric_of(task, name)
        totals = metric.statistics(values, target).astype(np.float64) @ times.T
        with np.errstate(invalid="ignore", over="ignore"):
            drawn[name] = np.asarray(metric.finalize(totals))
    return _intervals(drawn)


def _resamples(rows: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    return (generator.integers(0, rows, rows) for _ in range(resamples))


def _intervals(drawn: Mapping[str, np.ndarray]) -> dict[str, float]:
    intervals: dict[str, float] = {}
    for name, values in drawn.items():
        defined = values[~np.isnan(values)]
        low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (np.nan, np.nan)
        intervals |= {f"{name}.low": float(low), f"{name}.high": float(high)}
    return intervals


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
    """The rows of each role; see the head of this module.

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


def vectors(embeddings: Stream, examples: Examples) -> Float[np.ndarray, "utterances dimension"]:
    """One vector per utterance; the mean of the train split stands in for one that has none. InputError if an utterance
    has more than one."""
    ragged = embeddings.select(examples.ids).ragged
    if int(ragged.lengths.max(initial=0)) > 1:
        raise InputError(f"stream '{embeddings.name}'", ["an utterance has more than one vector"], "Pool it first.")
    values, mask = ragged.gather(np.arange(len(ragged)))
    values, there = values[:, 0].astype(np.float32, copy=True), mask[:, 0]
    known = there & (examples.utterances["split"].to_numpy() == "train")
    values[~there] = values[known].mean(axis=0) if known.any() else 0.0
    return values


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


def _classify(x: np.ndarray, y: np.ndarray, rows: Rows, groups: np.ndarray, classes: int, prefix: str) -> dict:
    """Scores of a logistic probe and of the majority; with a single class to fit on the two are the same."""

    def quality(truth: np.ndarray, predicted: np.ndarray) -> float:
        return class_scores(confusion(truth, predicted, classes))["weighted_F1"]

    truth = y[rows.report]
    majority = np.full(len(truth), np.bincount(y[rows.final], minlength=classes).argmax())
    if len(np.unique(y[rows.final])) > 1:
        model, c = fit_chosen(logistic, quality, x, y, rows, groups)
        predicted = model.predict(x[rows.report])
    else:
        predicted, c = majority, float("nan")

    scores = (
        class_scores(confusion(truth, predicted, classes)) | bootstrap_classes(truth, predicted, classes) | {"C": c}
    )
    scores |= {f"majority.{k}": v for k, v in class_scores(confusion(truth, majority, classes)).items()}
    return {f"{prefix}{name}": value for name, value in scores.items()}


def _regress(task: Task, x: np.ndarray, y: np.ndarray, rows: Rows, groups: np.ndarray) -> dict[str, float]:
    model, c = fit_chosen(ridge, lambda t, p: -regression_scores(task, t, p)["MAE"], x, y, rows, groups)
    truth, predicted = y[rows.report], model.predict(x[rows.report])
    mean = np.full(len(truth), y[rows.final].mean())
    found = {**regression_scores(task, truth, predicted), **bootstrap_regression(task, truth, predicted), "C": c}
    return found | {f"majority.{name}": value for name, value in regression_scores(task, truth, mean).items()}


def probe(embeddings: Stream, examples: Examples, task: Task) -> dict[str, float]:
    """Scores of a linear probe on `embeddings`, flat, with <metric>.low and .high (95 %) and majority.<metric>.

    regression      MAE, Corr by ridge (majority.*: the mean); and by logistic regression non_negative.* (y >= 0) and
                    positive.* (y > 0, zeros dropped) with accuracy, UAR, macro_F1, weighted_F1
    classification  the four by one model over all classes, and <class>.* for each class against the rest
    multilabel      <class>.* for each class, and their means
    """
    x, table = vectors(embeddings, examples), examples.utterances
    groups = table["dialogue"].to_numpy()
    y, labelled = task.targets(table), task.labelled(table)
    rows = protocol(examples, labelled)
    row: dict[str, float] = {"utterances": float(len(rows.report)), "dimension": float(x.shape[1])}
    if task.kind == "regression":
        row |= _regress(task, x, y.astype(np.float64), rows, groups)
        for name, binary, part_rows in (
            ("non_negative", y >= 0, labelled),
            ("positive", y > 0, labelled & (y != 0)),
        ):
            part = protocol(examples, part_rows)
            row |= _classify(x, binary.astype(np.int64), part, groups, 2, f"{name}.")
        return row
    if task.kind == "classification":
        row |= _classify(x, y, rows, groups, len(task.classes), "")
        names = list(enumerate(task.classes)) if len(task.classes) > 2 else []
        for n, name in names:
            row |= _classify(x, np.where(y == IGNORED, 0, y == n).astype(np.int64), rows, groups, 2, f"{name}.")
        return row
    for n, name in enumerate(task.classes):
        row |= _classify(x, np.nan_to_num(y[:, n]).astype(np.int64), rows, groups, 2, f"{name}.")
    for metric in ("accuracy", "UAR", "macro_F1", "weighted_F1"):
        for start in ("", "majority."):
            row[f"{start}{metric}"] = float(np.mean([row[f"{name}.{start}{metric}"] for name in task.classes]))
    return row


def probe_reporting(
    embeddings: Stream, examples: Examples, task: Task, report: Callable[..., None]
) -> dict[str, float]:
    """`probe` as a worker is asked for it; there is nothing to report on the way."""
    return probe(embeddings, examples, task)


def compare(candidates: Mapping[str, Stream], examples: Examples, task: Task) -> pd.DataFrame:
    """`compared` of what `probe` finds in each embedding."""
    return compared({name: probe(stream, examples, task) for name, stream in candidates.items()})


def compared(probes: Mapping[str, dict[str, float]]) -> pd.DataFrame:
    """One row per embedding (index: its name) and a first row `majority`; columns as `probe`, intervals included.
    InputError if there is none."""
    if not probes:
        raise InputError("probe", ["no embedding to compare"])
    first = next(iter(probes.values()))
    baseline = {name.replace("majority.", "", 1): value for name, value in first.items() if "majority." in name} | {
        "utterances": first["utterances"]
    }
    rows = {"majority": baseline} | {
        name: {k: v for k, v in values.items() if "majority." not in k} for name, values in probes.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")
