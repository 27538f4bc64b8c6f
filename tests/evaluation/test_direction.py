"""Which way a metric points is said once, and everything that shows or chooses by a metric follows it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demeanor.data.task import Task, Tasks
from demeanor.evaluation.curves import training_curves
from demeanor.evaluation.metrics import direction_of, metrics_of, not_worse, score
from demeanor.evaluation.probe_table import probe_to_markdown
from demeanor.pipelines.fusion_training.nodes import draw_training
from demeanor.training.loop import selection_of
from demeanor.training.settings import TrainingSettings
from tests.models.examples import TASKS

SIMS = Task(name="sims", kind="regression", column="sentiment", low=-1, high=1, convention="sims")
EVERY = [*TASKS.values(), SIMS]


@pytest.mark.parametrize("task", EVERY, ids=lambda task: f"{task.name} {task.kind}")
def test_the_right_answer_is_the_better_one_by_every_metric(task: Task):
    """The direction of a metric against what it measures: right answers and those that are as wrong as can be."""
    generator = np.random.default_rng(0)
    if task.kind == "regression":
        target = generator.uniform(task.low, task.high, 40).astype(np.float32)
        right, wrong = target[:, None], -target[:, None]
    elif task.kind == "classification":
        target = generator.integers(0, 3, 40)
        right, wrong = np.eye(3)[target], np.eye(3)[(target + 1) % 3]
    else:
        target = generator.integers(0, 2, (40, 2)).astype(np.float32)
        right, wrong = target - 0.5, 0.5 - target
    good, bad = score(task, right, target), score(task, wrong, target)
    for name, metric in metrics_of(task).items():
        assert metric.better == direction_of(name)
        assert not_worse(name, good[name], bad[name]), name
        assert not not_worse(name, bad[name], good[name]), name
    assert task.selection_metric[1] == metrics_of(task)[task.selection_metric[0]].better


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("loss", "min"), ("valid_loss", "min"), ("train_loss", "min"), ("MAE", "min"), ("valid_MAE", "min"),
        ("sentiment.MAE", "min"), ("Corr", "max"), ("positive.UAR", "max"), ("valid_weighted_F1", "max"),
    ],
)  # fmt: skip
def test_names_with_a_split_or_a_part_before_them(name: str, direction: str):
    assert direction_of(name) == direction
    assert not not_worse(name, float("nan"), 0.5)


def test_training_selects_by_it():
    for name in ("loss", "MAE", "Corr"):
        assert selection_of(TASKS["regression"], TrainingSettings(selection=name)) == (name, direction_of(name))


def marked(figure) -> list[float]:
    """Heights of the dots."""
    dots = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    return [float(line.get_ydata()[0]) for line in dots]


def history(metric: str) -> pd.DataFrame:
    values = [0.4, 0.9, 0.2, 0.6]
    rows = [{"branch": "a", "seed": 1, "epoch": n + 1, "train_loss": 1.0, metric: v} for n, v in enumerate(values)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("metric", "best"), [("valid_MAE", 0.2), ("valid_weighted_F1", 0.9), ("valid_Corr", 0.9)])
def test_the_dot_of_a_training_curve_is_the_best_epoch(metric: str, best: float):
    assert marked(training_curves(history(metric), metric=metric)) == [best]


@pytest.mark.parametrize(("kind", "best"), [("regression", 0.2), ("classification", 0.9), ("multilabel", 0.9)])
def test_the_figure_of_a_run_marks_the_best_epoch(kind: str, best: float):
    task = TASKS[kind]
    tasks = Tasks({task.name: task})
    assert marked(draw_training(tasks, a_history=history(f"valid_{task.selection_metric[0]}"))) == [best]


def test_arrows_of_the_probe_follow_it():
    table = pd.DataFrame([{"representation": "a", "task": "sentiment", "MAE": 1.0, "Corr": 0.5, "positive.UAR": 0.5,
                           "utterances": 3.0}])  # fmt: skip
    header = probe_to_markdown(table, [TASKS["regression"]]).splitlines()[2]
    assert "MAE ↓" in header
    assert "Corr ↑" in header
    assert "positive.UAR ↑" in header
