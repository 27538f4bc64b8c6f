"""The probe's scores are those of every other table: one definition of Corr, of MAE and of the class metrics."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.task import Task
from demeanor.evaluation.metrics import score
from demeanor.evaluation.probe import compare
from demeanor.evaluation.probe_scores import (
    bootstrap_classes,
    bootstrap_regression,
    class_scores,
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


def one_by_one(score, rows: int, seed: int, resamples: int) -> dict[str, float]:
    """The plain bootstrap: each resample is scored by itself; undefined ones are left out of the interval."""
    generator = np.random.default_rng(seed)
    drawn = [score(generator.integers(0, rows, rows)) for _ in range(resamples)]
    found = {}
    for name in drawn[0]:
        values = np.array([scores[name] for scores in drawn])
        low, high = np.quantile(values[~np.isnan(values)], (0.025, 0.975))
        found |= {f"{name}.low": low, f"{name}.high": high}
    return found


def test_an_interval_of_what_is_never_defined_is_undefined():
    generator = np.random.default_rng(0)
    found = bootstrap_regression(TASKS["regression"], generator.normal(size=20), np.zeros(20), resamples=10)
    assert np.isnan(found["Corr.low"])
    assert found["MAE.low"] <= found["MAE.high"]


def test_all_resamples_of_a_regression_at_once_are_those_that_are_scored_one_by_one():
    generator = np.random.default_rng(1)
    task, truth = TASKS["regression"], generator.uniform(-3, 3, 15)
    predicted = truth + generator.normal(size=15)
    expected = one_by_one(lambda rows: regression_scores(task, truth[rows], predicted[rows]), 15, 5, 40)
    assert bootstrap_regression(task, truth, predicted, 5, 40) == pytest.approx(expected, rel=1e-5)


def test_all_resamples_at_once_are_those_that_are_scored_one_by_one():
    """With a class that some resamples lack, and one that none has."""
    generator = np.random.default_rng(2)
    truth, predicted = generator.choice((0, 0, 0, 0, 1), 12), generator.integers(0, 3, 12)
    expected = one_by_one(lambda rows: class_scores(confusion(truth[rows], predicted[rows], 3)), 12, 5, 40)
    assert bootstrap_classes(truth, predicted, 3, 5, 40) == pytest.approx(expected)


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
