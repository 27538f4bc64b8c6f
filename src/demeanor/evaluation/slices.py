"""The same figures on parts of a corpus: who is served worse than the others.

Parts are made by what the corpus states of its clips (who speaks, in which dialogue, session and language, a gender
that is stated, never one that is guessed), by their length, and by which modalities they have. Groups of fewer than
`LEAST` clips are counted, not scored: their numbers would be chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from demeanor.data.calibration import Calibration
from demeanor.data.task import Task
from demeanor.evaluation.conformal import losses
from demeanor.evaluation.metrics import labelled, metric_of, primary_metrics
from demeanor.evaluation.resampling import Resampler, bootstrap, interval
from demeanor.evaluation.trust import held_of, size_of

Array = NDArray[Any]
LEAST = 30
STATED = ("speaker", "dialogue", "gender", "session", "language", "age")
"""Columns of the utterances table that make groups, where it has them."""


def groups_of(utterances: pd.DataFrame, names: ArrayLike) -> dict[str, Array]:
    """Column -> group of each utterance [N], "" where it is not known; `names` [N] are the modalities that it has."""
    made: dict[str, Array] = {}
    for column in STATED:
        if column in utterances:
            cells = utterances[column].astype(object)
            made[column] = np.array(["" if pd.isna(cell) else str(cell) for cell in cells], dtype=object)
    made["modalities"] = np.array([str(name) for name in np.asarray(names, dtype=object)], dtype=object)
    seconds = (utterances["end"] - utterances["start"]).to_numpy(dtype=np.float64)
    made["length"] = _thirds(seconds, "s")
    words = np.array([0 if pd.isna(text) else len(str(text).split()) for text in utterances["text"]], dtype=np.float64)
    made["words"] = _thirds(np.where(words > 0, words, np.nan), "words")
    return made


def _thirds(values: Array, unit: str) -> Array:
    """Short, middle and long by the thirds of the known values; "" where unknown."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.full(len(values), "", dtype=object)
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    labels = (f"up to {low:.3g} {unit}", f"{low:.3g} to {high:.3g} {unit}", f"over {high:.3g} {unit}")
    return np.array(
        [labels[int(value > low) + int(value > high)] if np.isfinite(value) else "" for value in values], dtype=object
    )


def slice_table(
    task: Task,
    outputs: ArrayLike,
    target: ArrayLike,
    utterances: pd.DataFrame,
    names: ArrayLike,
    calibration: Calibration | None,
    resamples: int = 1000,
) -> pd.DataFrame:
    """One row per group of every column, the one of all clips first.

    outputs [S, N, outputs]; target as Task.targets; utterances the N rows of the table; names [N] as in `trust`.
    Columns: slice, group, n, <metric> (the task's first) with <metric>_low and <metric>_high (95 %, bootstrap over
    clips), wrong (share of wrong answers, see `losses`), coverage and size of intervals or sets (NaN without a
    calibration), worst (is it the worst scored group of its column?). Groups of fewer than 30 clips have n alone.
    """
    known, truth = labelled(task, np.asarray(target)), np.asarray(target)
    values, has = np.asarray(outputs, dtype=np.float64)[:, known], np.asarray(names, dtype=object)[known]
    truth, table = truth[known], utterances[known].reset_index(drop=True)
    metric = metric_of(task, primary_metrics(task)[0])
    parts = {"all": np.full(len(truth), "all", dtype=object), **groups_of(table, has)}
    rows: list[dict[str, Any]] = []
    for column, labels in parts.items():
        groups = [name for name in sorted(set(labels.tolist())) if name]
        if column != "all" and len(groups) < 2:
            continue
        scored = []
        for name in groups:
            inside = labels == name
            row: dict[str, Any] = {"slice": column, "group": name, "n": int(inside.sum()), "worst": False}
            if inside.sum() >= LEAST or column == "all":
                row |= _figures(task, metric, values[:, inside], truth[inside], has[inside], calibration, resamples)
                scored.append(row)
            rows.append(row)
        if len(scored) > 1:
            pick = max if metric.better == "min" else min
            pick(scored, key=lambda row: row[metric.name])["worst"] = True
    return pd.DataFrame(rows)


def _figures(
    task: Task, metric: Any, values: Array, target: Array, names: Array, calibration: Calibration | None, resamples: int
) -> dict[str, float]:
    drawn = bootstrap(
        {metric.name: metric}, [values.astype(np.float32)], target, Resampler.over(len(target), None, resamples, 0)
    )[0][metric.name]
    low, high = interval(drawn.resampled)
    made = {
        metric.name: drawn.mean,
        f"{metric.name}_low": low,
        f"{metric.name}_high": high,
        "wrong": float(np.mean([losses(task, one, target).mean() for one in values])),
    }
    if calibration is not None:
        made["coverage"] = float(
            np.nanmean([np.nanmean(held_of(task, one, target, names, calibration)) for one in values])
        )
        made["size"] = float(np.mean([size_of(task, one, names, calibration).mean() for one in values]))
    return made
