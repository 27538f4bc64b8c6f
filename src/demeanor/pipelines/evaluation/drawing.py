"""The figures of the sealed test. A function that `draws` one is a node of the pipeline without being listed there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.task import Task, Tasks
from demeanor.pipelines.evaluation.settings import SETTINGS, TASKS, EvaluationSettings, ceiling_of, predictions_of

Figure = Any
"""matplotlib.figure.Figure, which takes long to import; Kedro wants to read every annotation when a run starts."""


@dataclass(frozen=True)
class Drawing:
    """A function that draws: names of its inputs in the catalog, and of the figure that it gives, or of several."""

    function: Callable[..., Any]
    inputs: list[str]
    figures: str | list[str]


DRAWINGS: list[Drawing] = []


def draws(*figures: str, of: Sequence[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a node of a function: it takes `of` and gives as many figures as are named, stored as `<figure>_figure`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        names = [f"{figure}_figure" for figure in figures]
        DRAWINGS.append(Drawing(function, list(of), names if len(names) > 1 else names[0]))
        return function

    return register


@draws("comparison", of=["comparison", TASKS, SETTINGS])
def draw_comparison(comparison: pd.DataFrame, tasks: Tasks, settings: EvaluationSettings) -> Figure:
    """Every system's test score with its interval, for the first task (of a union, on its first corpus)."""
    from demeanor.evaluation.figures import comparison_forest

    name, corpus = comparison["task"].iloc[0], comparison["corpus"].iloc[0]
    task = tasks[name]
    metric = task.selection_metric[0]
    ceilings = ceiling_of(settings, name, all_rows=False) or {}
    reference = {label: values[metric] for label, values in ceilings.items() if metric in values}
    return comparison_forest(
        task,
        comparison[(comparison["task"] == name) & (comparison["corpus"] == corpus)],
        metric=metric,
        reference=reference or None,
        title=titled(comparison),
    )


def titled(table: pd.DataFrame) -> str:
    """Title of a figure: the corpus, and that it is the sealed test."""
    return f"{table['corpus'].iloc[0]}, sealed test"


@draws("scatter", "confusion", of=["predictions", "champions", TASKS])
def draw_answers(
    predictions: pd.DataFrame, champions: dict[str, dict[str, Any]], tasks: Tasks
) -> tuple[Figure, Figure]:
    """The champions' answers: a scatter for numbers, a confusion matrix for classes (of the sign, without classes)."""
    from demeanor.evaluation.figures import confusion_matrix, regression_scatter
    from demeanor.evaluation.predictions import stacks

    scatter, confusion = None, None
    for name, champion in champions.items():
        task = tasks[name]
        stack = stacks(task, predictions_of(task, predictions), [champion["branch"]])[champion["branch"]]
        mean = stack.prediction.mean(axis=0)
        title = f"{champion['branch']}, mean of {len(stack.seeds)} seeds"
        if task.kind == "regression" and scatter is None:
            scatter = regression_scatter(task, mean, stack.target, title=title)
            confusion = confusion or confusion_matrix(*signs(task, mean, stack.target), title=f"{title}: sign")
        elif task.kind == "classification":
            confusion = confusion_matrix(task, mean, stack.target, title=title)
    return scatter or empty_figure("no regression task"), confusion or empty_figure("no classification task")


def signs(task: Task, prediction: np.ndarray, target: np.ndarray) -> tuple[Task, np.ndarray, np.ndarray]:
    """A number as two classes, negative and not negative, so that a regression has a confusion matrix too.

    prediction [utterances, 1] and target [utterances]; gives logits [utterances, 2] and classes [utterances].
    """
    classes = Task(name=task.name, kind="classification", column=task.column, classes=("negative", "not negative"))
    logits = np.stack([-prediction[:, 0], prediction[:, 0]], axis=1)
    return classes, logits, np.where(np.isnan(target), -1, target >= 0).astype(np.int64)


def empty_figure(text: str) -> Figure:
    """A figure that says in words why there is nothing to draw."""
    from matplotlib.figure import Figure as Sheet

    figure = Sheet(figsize=(4, 2))
    figure.text(0.5, 0.5, text, ha="center")
    return figure


@draws("ablation", of=["ablation", TASKS])
def draw_ablation(ablation: pd.DataFrame, tasks: Tasks) -> Figure:
    """What each subset of modalities is worth to the first champion."""
    from demeanor.evaluation.figures import modality_ablation_bars

    name = ablation["task"].iloc[0]
    metric = tasks[name].selection_metric[0]
    mine = ablation[ablation["task"] == name]
    return modality_ablation_bars(mine, metric=metric, title=f"{mine['branch'].iloc[0]}, sealed test")
