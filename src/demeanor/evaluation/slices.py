"""The same figures on parts of a corpus: who is served worse than the others.

Parts are made by every column that the corpus states of its clips (who speaks, in which dialogue and session, a gender
that is stated, never one that is guessed), by their length, loudness and share of pictures with a face, and by which
modalities they have. Groups of fewer than `LEAST` clips are counted, not scored: their numbers would be chance.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from demeanor.data.calibration import Calibration
from demeanor.data.task import Task
from demeanor.data.utterances import COLUMNS, SENTIMENT_COLUMNS
from demeanor.evaluation.conformal import losses
from demeanor.evaluation.metrics import labelled, metric_of, primary_metrics
from demeanor.evaluation.resampling import Resampler, bootstrap, interval
from demeanor.evaluation.trust import held_of, size_of

Array = NDArray[Any]
LEAST = 30
MOST_GROUPS = 12
"""Different numbers of a column that are groups of their own; of more, thirds are."""
STATED = ("corpus", "speaker", "dialogue", "language")
"""Columns of every utterances table that make groups; those that only some corpora have do as well."""
LABELS = frozenset({*SENTIMENT_COLUMNS.values(), "annotation"})
"""Columns that repeat what is to be told, or how: their groups would not say who is served worse."""
UNITS = {"loudness": "dB", "face_share": "of pictures"}


def groups_of(
    utterances: pd.DataFrame,
    names: ArrayLike,
    measured: Mapping[str, ArrayLike] | None = None,
    labels: Collection[str] = (),
) -> dict[str, Array]:
    """Column -> group of each utterance [N], "" where it is not known.

    names [N] are the modalities that it has; measured: loudness [N] in dB and face_share [N] where they are known;
    labels: columns of the table that are not to make groups
    """
    made: dict[str, Array] = {}
    for column in utterances.columns:
        if column in STATED or (column not in COLUMNS and column not in LABELS and column not in labels):
            made[column] = _stated(utterances[column])
    made["modalities"] = np.array([str(name) for name in np.asarray(names, dtype=object)], dtype=object)
    seconds = (utterances["end"] - utterances["start"]).to_numpy(dtype=np.float64)
    made["length"] = _thirds(seconds, "s")
    words = np.array([0 if pd.isna(text) else len(str(text).split()) for text in utterances["text"]], dtype=np.float64)
    made["words"] = _thirds(np.where(words > 0, words, np.nan), "words")
    for column, given in (measured or {}).items():
        values = np.asarray(given, dtype=np.float64)
        nothing = (values == 0) & (column == "face_share")
        thirds = _thirds(np.where(nothing, np.nan, values), UNITS.get(column, ""))
        made[column] = np.where(nothing, "no face", thirds)
    return made


def labels_of(task: Task) -> set[str]:
    """Columns of the utterances table that hold the labels of a task."""
    return {task.column, *(f"{task.column}_{name}" for name in task.classes), *task.unimodal.values()}


def _stated(cells: pd.Series) -> Array:
    """Groups of one column: its values, or the thirds of numbers of which there are many."""
    if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells) and cells.nunique() > MOST_GROUPS:
        return _thirds(cells.to_numpy(dtype=np.float64), "")
    return np.array(["" if pd.isna(cell) else str(cell) for cell in cells.astype(object)], dtype=object)


def _thirds(values: Array, unit: str) -> Array:
    """The lower, middle and upper third of the known values; "" where unknown."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.full(len(values), "", dtype=object)
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    made = (f"up to {low:.3g} {unit}", f"{low:.3g} to {high:.3g} {unit}", f"over {high:.3g} {unit}")
    labels = tuple(label.strip() for label in made)
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
    measured: Mapping[str, ArrayLike] | None = None,
    labels: Collection[str] = (),
) -> pd.DataFrame:
    """One row per group of every column, the one of all clips first.

    outputs [S, N, outputs]; target as Task.targets; utterances the N rows of the table; names [N] as in `trust`;
    measured and labels as of `groups_of`.
    Columns: slice, group, n, <metric> (the task's first) with <metric>_low and <metric>_high (95 %, bootstrap over
    clips), wrong (share of wrong answers, see `losses`), coverage and size of intervals or sets (NaN without a
    calibration), worst (is it the worst scored group of its column?). Groups of fewer than 30 clips have n alone.
    """
    known, truth = labelled(task, np.asarray(target)), np.asarray(target)
    values, has = np.asarray(outputs, dtype=np.float64)[:, known], np.asarray(names, dtype=object)[known]
    truth, table = truth[known], utterances[known].reset_index(drop=True)
    metric = metric_of(task, primary_metrics(task)[0])
    known_measures = {name: np.asarray(given)[known] for name, given in (measured or {}).items()}
    parts = {
        "all": np.full(len(truth), "all", dtype=object),
        **groups_of(table, has, known_measures, {*labels_of(task), *labels}),
    }
    rows: list[dict[str, Any]] = []
    for column, groups in parts.items():
        found = [name for name in sorted(set(groups.tolist())) if name]
        if column != "all" and len(found) < 2:
            continue
        scored = []
        for name in found:
            inside = groups == name
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
