"""Every seed and their mean, in the columns in which MMML's authors print them (docs/systems/mmml.md#metrics,
#results)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.metrics import metrics_of, primary_metrics
from demeanor.evaluation.receipts import Receipt
from demeanor.evaluation.tables import ABSENT, aligned

MEAN = "mean"
#: Convention of a regression task -> metrics in the published order; those that were not published come after them.
COLUMNS = {
    "mosi": (
        "Has0_acc_2", "Has0_F1_score", "Non0_acc_2", "Non0_F1_score", "Mult_acc_5", "Mult_acc_7", "MAE", "Corr",
    ),
    "sims": ("Mult_acc_2", "F1_score", "Mult_acc_3", "Mult_acc_5", "MAE", "Corr"),
}  # fmt: skip


def seeds_to_markdown(task: Task, receipts: Iterable[Receipt], decimals: int = 4) -> str:
    """One row per system and seed, and below more than one the plain mean over seeds, which is what papers print.

    Receipts of the task's whole test split are taken, those with modalities left out are not. An undefined metric
    is shown as a dash, and so is a mean with one in it. Two receipts of a system and seed are an InputError.
    """
    better = {name: metric.better for name, metric in metrics_of(task).items()}
    published = COLUMNS[task.convention] if task.kind == "regression" else primary_metrics(task)
    columns = (*published, *(name for name in better if task.kind == "regression" and name not in published))
    chosen = [one for one in receipts if one.task == task.name and one.split == "test" and not one.modalities]
    branches = list(dict.fromkeys(one.branch for one in chosen))
    body, problems = [], []
    for branch in branches:
        rows = sorted((one for one in chosen if one.branch == branch), key=lambda one: one.seed)
        seeds = [one.seed for one in rows]
        twice = {seed for seed in seeds if seeds.count(seed) > 1}
        problems += [f"{branch} has several receipts of seed {seed}" for seed in twice]
        values = np.array([[one.metrics.get(name, np.nan) for name in columns] for one in rows], dtype=np.float64)
        body += [[branch, str(seed), *_cells(row, decimals)] for seed, row in zip(seeds, values, strict=True)]
        if len(rows) > 1:
            body.append([branch, MEAN, *_cells(values.mean(axis=0), decimals)])
    if problems:
        raise InputError(f"receipts of task '{task.name}'", sorted(problems), "Keep one of each.")
    header = ["system", "seed", *(f"{name} {'↓' if better[name] == 'min' else '↑'}" for name in columns)]
    return "\n".join(aligned(header, body, left=1)) + "\n"


def _cells(values: np.ndarray, decimals: int) -> list[str]:
    return [f"{value:.{decimals}f}" if np.isfinite(value) else ABSENT for value in values]
