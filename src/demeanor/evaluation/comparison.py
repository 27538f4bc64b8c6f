"""Systems side by side: means and deviations over seeds, bootstrap intervals, and the answer that looks at nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.metrics import Metric, labelled, metrics_of, prepare, primary_metrics
from demeanor.evaluation.predictions import Stack, stacks
from demeanor.evaluation.receipts import Receipt
from demeanor.evaluation.resampling import Draws, Resampler, Unit, bootstrap, interval

AGREEMENT = 1e-4
"""How far a receipt's metric may be from that of the predictions it goes with: they are kept in float32."""


def compare(
    task: Task,
    receipts: Iterable[Receipt],
    predictions: pd.DataFrame | None,
    *,
    train_target: ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
    by: Unit = "utterance",
    threshold: float = 0.0,
) -> pd.DataFrame:
    """One row per branch, best first by the task's first primary metric.

    receipts     of several tasks if need be; those of this task with all modalities are used, and have to agree on
                 corpus, split and data
    predictions  long table (demeanor.evaluation.predictions); without it there are no intervals
    train_target labels of the train split: adds the row of a constant answer (their mean or majority)

    Columns: branch, system, kind ("system" or "baseline"), corpus, split, synthetic, seeds, n, and for each metric
    <metric> (mean over seeds), <metric>_sd (ddof 1, NaN for one seed), <metric>_low and <metric>_high (95% percentile
    interval of the mean over seeds, resampling test utterances or whole dialogues; it says how much the test set
    matters, not the seed, which <metric>_sd does).
    """
    chosen = _receipts_of(task, receipts)
    branches = list(dict.fromkeys(receipt.branch for receipt in chosen))
    metrics = metrics_of(task, threshold)
    rows = [_row(chosen, branch, metrics) for branch in branches]
    if predictions is not None:
        stacked = stacks(task, predictions, branches)
        first = stacked[branches[0]]
        _check_seeds(task, chosen, stacked)
        if train_target is not None:
            rows.append(
                {**rows[0], "branch": baseline_name(task), "system": "constant", "kind": "baseline", "seeds": 1}
            )
        drawn = _drawn(task, metrics, stacked, first, train_target, resamples, seed, by)
        _check_agreement(task, rows, drawn)
        for row, draws in zip(rows, drawn, strict=True):
            for name, draw in draws.items():
                low, high = interval(draw.resampled)
                row |= {name: draw.mean, f"{name}_sd": draw.deviation, f"{name}_low": low, f"{name}_high": high}
    order = primary_metrics(task)[0]
    table = pd.DataFrame(rows)
    return table.sort_values(
        order, ascending=metrics[order].better == "min", kind="stable", na_position="last", ignore_index=True
    )


def _receipts_of(task: Task, receipts: Iterable[Receipt]) -> list[Receipt]:
    chosen = sorted(
        (receipt for receipt in receipts if receipt.task == task.name and not receipt.modalities),
        key=lambda receipt: (receipt.branch, receipt.seed),
    )
    if not chosen:
        raise InputError(f"task '{task.name}'", ["there is no receipt to compare"], "Score at least one system first.")
    problems = []
    for field in ("corpus", "split", "data_hash", "n"):
        values = sorted({str(getattr(receipt, field)) for receipt in chosen})
        if len(values) > 1:
            problems.append(f"different {field}: {', '.join(values)}")
    keys = [(receipt.branch, receipt.seed) for receipt in chosen]
    problems += [
        f"branch '{b}', seed {s} has several receipts" for b, s in sorted({k for k in keys if keys.count(k) > 1})
    ]
    if problems:
        raise InputError(f"receipts for task '{task.name}'", problems, "Compare only what was scored on the same data.")
    return chosen


def _row(receipts: Sequence[Receipt], branch: str, metrics: dict[str, Metric]) -> dict[str, Any]:
    own = [receipt for receipt in receipts if receipt.branch == branch]
    row: dict[str, Any] = {
        "branch": branch,
        "system": own[0].system,
        "kind": "system",
        "corpus": own[0].corpus,
        "split": own[0].split,
        "synthetic": own[0].synthetic,
        "seeds": len(own),
        "n": own[0].n,
    }
    for name in metrics:
        values = np.array([receipt.metrics.get(name, np.nan) for receipt in own])
        draws = Draws(values, np.empty(0))
        row |= {name: draws.mean, f"{name}_sd": draws.deviation, f"{name}_low": np.nan, f"{name}_high": np.nan}
    return row


def _drawn(
    task: Task,
    metrics: dict[str, Metric],
    found: dict[str, Stack],
    first: Stack,
    train_target: ArrayLike | None,
    resamples: int,
    seed: int,
    by: Unit,
) -> list[dict[str, Draws]]:
    """Draws of every branch, and last of the baseline, all on the same resamples."""
    groups = first.dialogues[labelled(task, first.target)] if by == "dialogue" else None
    predictions = []
    for stack in found.values():
        values, target = prepare(task, stack.prediction, first.target)
        predictions.append(values)
    if train_target is not None:
        constant = baseline_prediction(task, train_target, len(first.target))
        predictions.append(prepare(task, constant[None], first.target)[0])
    return bootstrap(metrics, predictions, target, Resampler.over(len(target), groups, resamples, seed))


def _check_seeds(task: Task, receipts: Sequence[Receipt], found: dict[str, Stack]) -> None:
    problems = []
    for branch, stack in found.items():
        said = tuple(sorted(receipt.seed for receipt in receipts if receipt.branch == branch))
        if said != stack.seeds:
            problems.append(f"branch '{branch}': receipts of seeds {said}, predictions of seeds {stack.seeds}")
    if problems:
        raise InputError(
            f"receipts for task '{task.name}'", problems, "Keep receipts and predictions of the same runs."
        )


def _check_agreement(task: Task, rows: Sequence[dict[str, Any]], drawn: Sequence[dict[str, Draws]]) -> None:
    """The receipts say what the predictions say."""
    problems = [
        f"branch '{row['branch']}': {name} is {row[name]:.6f} on the receipts, {draw.mean:.6f} by the predictions"
        for row, draws in zip(rows, drawn, strict=True)
        for name, draw in draws.items()
        if row["kind"] == "system"
        and not np.isclose(row[name], draw.mean, rtol=AGREEMENT, atol=AGREEMENT, equal_nan=True)
    ]
    if problems:
        raise InputError(
            f"receipts for task '{task.name}'", problems, "Keep receipts and predictions of the same runs."
        )


def baseline_name(task: Task) -> str:
    """The answer that looks at nothing, in the words of the tables."""
    return {"regression": "train mean", "classification": "train majority", "multilabel": "train majority per class"}[
        task.kind
    ]


def baseline_prediction(task: Task, train_target: ArrayLike, utterances: int) -> NDArray[np.float32]:
    """[utterances, outputs]: what answers without looking: the mean label, the majority class, or both per class.
    InputError if no training utterance has a label."""
    target = np.asarray(train_target)
    target = target[labelled(task, target)]
    if not len(target):
        raise InputError(f"task '{task.name}'", ["no training utterance has a label, so there is no constant answer"])
    if task.kind == "regression":
        answer = np.array([target.mean()])
    elif task.kind == "classification":
        counts = np.bincount(target.astype(np.int64), minlength=task.outputs)
        answer = np.eye(task.outputs)[counts.argmax()]
    else:
        known = ~np.isnan(target)
        share = np.where(known, target, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        answer = np.where(share > 0.5, 1.0, -1.0)
    return np.tile(answer.astype(np.float32), (utterances, 1))
