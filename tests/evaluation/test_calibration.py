"""Calibration: hand-computed bins, recovery of a known temperature, regression bias and slope."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.calibration import probabilities
from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.calibration import (
    calibration,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_curve,
)

TWO = Task(name="e", kind="classification", column="e", classes=("a", "b"))
FIVE = Task(name="five", kind="classification", column="e", classes=tuple("abcde"))
LABELS = Task(name="emotions", kind="multilabel", column="emotion", classes=("happy", "sad"))
MOSI = Task(name="sentiment", kind="regression", column="sentiment")


def test_bins_by_hand():
    chances = np.array([[0.9, 0.1], [0.1, 0.9], [0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    target = np.array([0, 0, 1, 0, -1])
    curve = reliability_curve(TWO, chances, target, bins=4)
    assert curve["n"].tolist() == [0, 0, 1, 3]  # 0.75 closes its bin, the unlabelled row is left out
    assert curve["accuracy"].iloc[-1] == pytest.approx(2 / 3)
    assert curve["confidence"].iloc[-1] == pytest.approx(2.8 / 3)
    assert np.isnan(curve["accuracy"].iloc[0])
    expected = (1 * abs(1 - 0.75) + 3 * abs(2 / 3 - 2.8 / 3)) / 4
    assert expected_calibration_error(TWO, chances, target, bins=4) == pytest.approx(expected)


def _sampled(task: Task, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels drawn from the chances that they state."""
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(n, task.outputs))
    chances = probabilities(task, logits)
    if task.kind == "multilabel":
        return logits, (generator.random(chances.shape) < chances).astype(np.float32)
    return logits, (generator.random((n, 1)) > chances.cumsum(axis=1)).sum(axis=1)


@pytest.mark.parametrize("task", [FIVE, LABELS], ids=lambda task: task.name)
def test_temperature_is_recovered_and_mends_the_calibration(task: Task):
    logits, target = _sampled(task)
    assert calibration(task, logits, target)["ECE"] < 0.03
    sure = 3 * logits
    assert calibration(task, sure, target)["ECE"] > 0.08
    temperature = fit_temperature(task, sure, target, "valid")
    assert temperature == pytest.approx(3, rel=0.1)
    mended = calibration(task, sure, target, temperature)
    assert mended["ECE"] < 0.03
    assert mended["NLL"] < calibration(task, sure, target)["NLL"]
    cooled = probabilities(task, sure, temperature)
    if task is LABELS:
        assert np.array_equal(cooled > 0.5, probabilities(task, sure) > 0.5)
    else:
        assert np.array_equal(cooled.argmax(axis=1), sure.argmax(axis=1))


def test_temperature_is_fitted_on_validation_alone():
    logits, target = _sampled(FIVE, 50)
    for split in ("test", "train"):
        with pytest.raises(InputError, match=f"'{split}'"):
            fit_temperature(FIVE, logits, target, split)
    with pytest.raises(InputError, match="no temperature"):
        fit_temperature(MOSI, np.zeros(3), np.zeros(3), "valid")
    with pytest.raises(InputError, match="no utterance"):
        fit_temperature(FIVE, logits, np.full(50, -1), "valid")
    # Separable data would want a temperature of zero; the search stays within its bounds.
    assert 0.04 < fit_temperature(TWO, np.eye(2)[[0, 1, 0]], np.array([0, 1, 0]), "valid") < 0.06


def test_probabilities_are_stable_and_checked():
    assert probabilities(TWO, [[1000.0, 0.0]]).tolist() == [[1.0, 0.0]]
    assert probabilities(LABELS, [[0.0, -1000.0]]).tolist() == [[0.5, 0.0]]
    assert negative_log_likelihood(TWO, np.array([[0.0, 0.0]]), np.array([1])) == pytest.approx(np.log(2))
    assert negative_log_likelihood(LABELS, np.array([[0.0, 9.0]]), np.array([[1, np.nan]])) == pytest.approx(np.log(2))
    with pytest.raises(InputError, match="no probabilities"):
        reliability_curve(TWO, np.array([[3.0, -2.0]]), np.array([0]))
    with pytest.raises(InputError, match="predicts a number"):
        reliability_curve(MOSI, np.zeros(3), np.zeros(3))


def test_bias_and_slope_of_a_number():
    target = np.linspace(-2, 2, 41)
    found = calibration(MOSI, 2 * target + 0.5, target)
    assert found == pytest.approx({"bias": 0.5, "slope": 0.5, "intercept": -0.25}, abs=1e-6)
    constant = calibration(MOSI, np.ones(41), target)
    assert constant["bias"] == pytest.approx(1.0)
    assert np.isnan(constant["slope"])
    nothing = calibration(MOSI, np.ones(2), np.full(2, np.nan))
    assert all(np.isnan(value) for value in nothing.values())
    assert np.isnan(calibration(TWO, np.zeros((1, 2)), np.array([-1]))["ECE"])
