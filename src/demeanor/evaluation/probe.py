"""Linear probe: what a linear model reads out of an embedding (docs/systems/conv_autoencoder.md#downstream, #q14).

The reference reports accuracy and weighted F1, near the majority's for the rarer emotions; here every table also has
unweighted average recall, macro F1, both binarisations of a sentiment, the majority or mean baseline and a bootstrap
interval.

Protocol. With a labelled test split: C is chosen on valid, the model is fitted again on train and valid, and scored
on test. Without one (pretraining never sees it): C is chosen by five folds within train, and valid is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.stream import Stream
from demeanor.data.task import IGNORED, Task
from demeanor.evaluation.probe_models import Rows, fit_chosen, logistic, protocol, ridge
from demeanor.evaluation.probe_scores import (
    CLASS_SCORES,
    bootstrap_classes,
    bootstrap_regression,
    class_scores,
    confusion,
    regression_scores,
)


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
    for metric in CLASS_SCORES:
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
