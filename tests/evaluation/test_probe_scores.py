"""The probe's scores are those of every other table: one definition of Corr, of MAE and of the class metrics."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.task import Task
from demeanor.evaluation.metrics import score
from demeanor.evaluation.probe import (
    bootstrap,
    bootstrap_classes,
    class_scores,
    compare,
    confusion,
    regression_scores,
)
from demeanor.evaluation.probe_table import probe_to_markdown
from tests.models.examples import TASKS
from tests.toy import SENTIMENT, toy_examples

SIMS = Task(name="sims", kind="regression", column="sentiment", low=-1, high=1, convention="sims")


@pytest.mark.parametrize("task", [TASKS["regression"], SIMS], ids=lambda task: task.name)
def test_numbers(task: Task):
    generator = np.random.default_rng(0)
    truth = generator.uniform(-1, 1, 50)
    for predicted in (truth + generator.normal(0, 1, 50), np.full(50, 0.3)):
        found, expected = regression_scores(task, truth, predicted), score(task, predicted, truth, warn=False)
        assert found == pytest.approx({name: expected[name] for name in found}, nan_ok=True)
    assert np.isnan(found["Corr"])  # of a constant, as in the table of systems


@pytest.mark.parametrize("classes", [(0, 1, 2), (0, 1), (1,)], ids=str)
def test_classes(classes: tuple[int, ...]):
    """With classes that are never predicted, and some that are not in the truth."""
    generator = np.random.default_rng(1)
    truth, predicted = generator.choice(classes, 60), generator.integers(0, 3, 60)
    found = class_scores(confusion(truth, predicted, 3))
    expected = score(TASKS["classification"], np.eye(3)[predicted], truth, warn=False)
    assert found == pytest.approx({name: expected[name] for name in found}, nan_ok=True)
    assert set(found) == set(expected)


def test_an_interval_of_what_is_never_defined_is_undefined():
    found = bootstrap(lambda rows: {"Corr": float("nan"), "MAE": float(rows.mean())}, 20, resamples=10)
    assert np.isnan(found["Corr.low"])
    assert found["MAE.low"] <= found["MAE.high"]


def test_all_resamples_at_once_are_those_that_are_scored_one_by_one():
    """With a class that some resamples lack, and one that none has."""
    generator = np.random.default_rng(2)
    truth, predicted = generator.choice((0, 0, 0, 0, 1), 12), generator.integers(0, 3, 12)
    one_by_one = bootstrap(lambda rows: class_scores(confusion(truth[rows], predicted[rows], 3)), 12, 5, 40)
    assert bootstrap_classes(truth, predicted, 3, 5, 40) == pytest.approx(one_by_one)


def test_the_mean_has_no_correlation_in_the_probe_s_table():
    development = toy_examples(noise=0.3).split("train", "valid")
    stream = development.stream("text.words")
    pooled = type(stream)(
        "representation.mean",
        type(stream.ragged).from_sequences(
            {name: stream.ragged[name].mean(axis=0, keepdims=True) for name in development.ids}, stream.dimension
        ),
        stream.provenance,
    )
    table = compare({"mean": pooled}, development, SENTIMENT)
    assert np.isnan(table.loc["majority", "Corr"])
    found = table.loc["mean"]
    assert found["Corr.low"] < found["Corr"] < found["Corr.high"]
    table = table.rename_axis("representation").reset_index()
    lines = probe_to_markdown(table.assign(task=SENTIMENT.name), [SENTIMENT]).splitlines()
    majority = next(line for line in lines if line.startswith("| majority"))
    assert [cell.strip() for cell in majority.split("|")][3] == "-"
