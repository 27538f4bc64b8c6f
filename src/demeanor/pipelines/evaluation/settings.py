"""What the evaluation is told, and two views on its data that several nodes share."""

from __future__ import annotations

import pandas as pd

from demeanor.data.errors import InputError
from demeanor.data.files import read_json
from demeanor.data.places import anchored
from demeanor.data.settings import Settings
from demeanor.data.task import Task

TASKS, SETTINGS = "params:tasks", "params:evaluation"
"""Names that nodes of the evaluation ask the catalog for."""


class EvaluationSettings(Settings):
    """
    register   store the champions in the MLflow model registry
    ceiling    JSON file with the best achievable scores of a corpus whose truth is known: task -> row -> metrics
    resamples  of every bootstrap interval
    registered_as  what the registry calls the corpus; null: as it is called where the champion learnt (of a union all)
    """

    register_champions: bool = True
    ceiling: str | None = None
    resamples: int = 2000
    registered_as: str | None = None


PLANTED = "planted ceiling"
"""The row of a ceiling file that all modalities together allow."""


def ceiling_of(settings: EvaluationSettings, task: str, all_rows: bool = True) -> dict[str, dict[str, float]] | None:
    """The best achievable scores of a task, row -> metric -> value: of all subsets of modalities, or the planted.
    InputError if the file is not there."""
    if settings.ceiling is None:
        return None
    path = anchored(settings.ceiling)
    if not path.is_file():
        raise InputError("parameter 'evaluation.ceiling'", [f"there is no file {settings.ceiling}"], "Set it to null.")
    row = read_json(path)["rows"].get(task, {})
    return {name: row[name] for name in row if all_rows or name == PLANTED} or None


def predictions_of(task: Task, predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of one task, with the columns and the target type that are its own."""
    mine = predictions[predictions["task"] == task.name].dropna(axis=1, how="all").drop(columns="task")
    return mine.astype({"target": "int64"}) if task.kind == "classification" else mine
