"""Shapley values: efficiency, symmetry, the modality that does nothing; conflict by hand."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.calibration import Calibration, SubsetCalibration, probabilities, subset_name
from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.attribution import disagreement, every_subset, shapley, value_of_answers

NUMBER = Task(name="s", kind="regression", column="s")
CLASSES = Task(name="e", kind="classification", column="e", classes=("a", "b", "c"))
LABELS = Task(name="m", kind="multilabel", column="m", classes=("a", "b"))
MODALITIES = ("text", "audio", "vision")


def _values(function) -> dict[str, np.ndarray]:
    return {
        subset_name(chosen): np.atleast_1d(function(set(chosen))).astype(float) for chosen in every_subset(MODALITIES)
    }


def test_contributions_sum_to_the_answer_minus_the_baseline():
    generator = np.random.default_rng(0)
    values = {subset_name(chosen): generator.normal(size=20) for chosen in every_subset(MODALITIES)}
    made = shapley(values)
    assert set(made) == set(MODALITIES)
    np.testing.assert_allclose(sum(made.values()), values["audio+text+vision"] - values[""], atol=1e-12)


def test_equal_modalities_have_equal_shares_and_an_idle_one_has_none():
    made = shapley(_values(lambda chosen: float({"text", "audio"} <= chosen)))
    assert made["text"] == made["audio"] == pytest.approx(0.5)
    assert made["vision"] == pytest.approx(0)


def test_three_modalities_by_hand():
    # v = 2 text + audio + 3 if text and vision: the 3 is shared by those two.
    made = shapley(_values(lambda c: 2 * ("text" in c) + ("audio" in c) + 3 * ({"text", "vision"} <= c)))
    assert made["text"] == pytest.approx(3.5)
    assert made["audio"] == pytest.approx(1)
    assert made["vision"] == pytest.approx(1.5)


def test_linear_in_the_values():
    generator = np.random.default_rng(1)
    one, two = ({subset_name(c): generator.normal(size=5) for c in every_subset(MODALITIES)} for _ in range(2))
    both = shapley({name: 2 * one[name] + two[name] for name in one})
    for name in MODALITIES:
        np.testing.assert_allclose(both[name], 2 * shapley(one)[name] + shapley(two)[name], atol=1e-12)


def test_a_missing_set_and_too_many_modalities_are_refused():
    with pytest.raises(InputError, match=r"'audio\+text'"):
        shapley({"": np.zeros(1), "audio": np.zeros(1), "text": np.zeros(1)})
    with pytest.raises(InputError, match="64 sets"):
        every_subset("abcdef")


def test_classes_are_valued_by_the_probability_of_the_answer():
    outputs = {"text": np.array([[2.0, 0.0, 0.0]]), "": np.zeros((1, 3))}
    values = value_of_answers(CLASSES, outputs, {"text": np.ones(1, bool)}, None)
    assert values[""][0] == pytest.approx(1 / 3)
    assert values["text"][0] == pytest.approx(probabilities(CLASSES, outputs["text"])[0, 0])
    none = value_of_answers(
        LABELS, {"text": np.array([[-2.0, -2.0]]), "": np.zeros((1, 2))}, {"text": np.ones(1, bool)}, None
    )
    assert none[""][0] == -1 < none["text"][0] < 0


def _calibration(**fits: SubsetCalibration) -> Calibration:
    pooled = next(iter(fits.values()))
    return Calibration(coverage=0.9, method="LAC", seeds=(1,), pooled=pooled, subsets=fits)


def test_numbers_conflict_where_their_intervals_do_not_meet():
    fit = SubsetCalibration(n=50, residuals=tuple(np.linspace(-1, 1, 41)))  # 80 % within 0.8
    alone = {"text": np.array([[1.0], [0.3], [2.0], [1.0]]), "audio": np.array([[-1.0], [-0.3], [0.5], [-1.0]])}
    present = {"text": np.ones(4, bool), "audio": np.array([True, True, True, False])}
    strength = disagreement(NUMBER, alone, present, _calibration(text=fit, audio=fit))
    assert strength == pytest.approx([2 / 1.6, 0.6 / 1.6, 0, 0], rel=0.05)  # far, near, same side, no sound


def test_classes_conflict_where_both_are_surer_than_not():
    fit = SubsetCalibration(n=50)
    alone = {
        "text": np.array([[3.0, 0, 0], [3.0, 0, 0], [3.0, 0, 0]]),
        "audio": np.array([[0, 3.0, 0], [0, 0.1, 0], [3.0, 0, 0]]),
    }
    present = {name: np.ones(3, bool) for name in alone}
    strength = disagreement(CLASSES, alone, present, _calibration(text=fit, audio=fit))
    assert strength[0] > 1 > strength[1] > 0 == strength[2]
    labels = {"text": np.array([[3.0, 3.0]]), "audio": np.array([[-3.0, 3.0]])}
    present = {name: np.ones(1, bool) for name in labels}
    assert disagreement(LABELS, labels, present, _calibration(text=fit, audio=fit))[0] > 1
