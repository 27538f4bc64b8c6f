"""Conformal intervals and sets: ranks by hand, coverage on exchangeable data, fits per set of modalities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from demeanor.data.calibration import (
    CalibrationSettings,
    SubsetCalibration,
    calibrated_probabilities,
    class_sets,
    confidences,
    intervals,
    probabilities,
)
from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.calibration import adaptive_calibration_error, brier_score
from demeanor.evaluation.conformal import (
    conformal_quantile,
    fit_calibration,
    losses,
    presence_names,
)

NUMBER = Task(name="s", kind="regression", column="s")
CLASSES = Task(name="e", kind="classification", column="e", classes=("a", "b", "c"))
LABELS = Task(name="m", kind="multilabel", column="m", classes=("a", "b"))


def test_the_rank_of_the_quantile_by_hand():
    assert conformal_quantile(np.arange(1, 10), 0.9) == 9  # rank ceil(10 * 0.9) = 9 of 9
    assert conformal_quantile(np.arange(1, 9), 0.9) == float("inf")  # rank 9 of 8 clips
    assert conformal_quantile(np.arange(1, 20), 0.9) == 18
    # Two seeds of nine clips are nine clips: the whole of their joined scores, not the 17th of 18.
    assert conformal_quantile([np.arange(1, 10), np.arange(1, 10) + 0.5], 0.9) == 9.5


def _numbers(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    label = generator.uniform(-2, 2, n)
    return (label + generator.normal(0, 0.5, n))[:, None], label.astype(np.float32)


def _classes(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    logits = 2 * generator.normal(size=(n, 3))
    chances = probabilities(CLASSES, logits)
    return 3 * logits, (generator.random((n, 1)) > chances.cumsum(axis=1)).sum(axis=1)


def _labels(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    logits = 2 * generator.normal(size=(n, 2))
    return logits, (generator.random((n, 2)) < probabilities(LABELS, logits)).astype(np.float32)


@pytest.mark.parametrize(
    ("task", "make"), [(NUMBER, _numbers), (CLASSES, _classes), (LABELS, _labels)], ids=["number", "classes", "labels"]
)
def test_coverage_on_exchangeable_data_is_what_was_promised(task, make):
    generator = np.random.default_rng(3)
    outputs, target = make(generator, 3000)
    fitted = fit_calibration(
        task, {"text": outputs}, {"text": np.ones(3000, bool)}, target, [1], CalibrationSettings(), "valid"
    )
    new, truth = make(generator, 3000)
    names = np.full(3000, "text", dtype=object)
    if task.kind == "regression":
        low, high = intervals(task, new, fitted, names)
        held = (truth >= low) & (truth <= high)
    else:
        sets = class_sets(task, calibrated_probabilities(task, new, fitted, names), fitted, names)
        held = sets[np.arange(3000), truth] if task.kind == "classification" else sets[truth > 0]
    # The quantile is an estimate too, which about doubles the variance of the plain binomial.
    low_count, high_count = binom.interval(0.9999, len(held), 0.9)
    assert low_count - 2 * np.sqrt(len(held) * 0.09) < held.sum() < high_count + 2 * np.sqrt(len(held) * 0.09)
    assert fitted.pooled.n == 3000


def test_confidences_of_numbers_and_classes_are_frequencies():
    generator = np.random.default_rng(4)
    for task, make in ((NUMBER, _numbers), (CLASSES, _classes)):
        outputs, target = make(generator, 4000)
        fitted = fit_calibration(
            task, {"text": outputs}, {"text": np.ones(4000, bool)}, target, [1], CalibrationSettings(), "valid"
        )
        new, truth = make(generator, 4000)
        sure = confidences(task, new, fitted, np.full(4000, "text", dtype=object))
        right = 1 - losses(task, new, truth)
        assert sure.mean() == pytest.approx(right.mean(), abs=0.03)
        unsure = sure < np.median(sure)
        assert sure[unsure].mean() == pytest.approx(right[unsure].mean(), abs=0.04)
    assert np.isnan(confidences(NUMBER, outputs, None, np.array(["text"] * 4000, dtype=object))).all()


def test_each_set_of_modalities_has_its_own_fit_and_few_clips_fall_back_to_all():
    generator = np.random.default_rng(5)
    label = generator.uniform(-2, 2, 200).astype(np.float32)
    outputs = {
        "audio+text": (label + generator.normal(0, 0.2, (2, 200)))[..., None],
        "text": (label + generator.normal(0, 0.4, (2, 200)))[..., None],
        "audio": (label + generator.normal(0, 1.0, (2, 200)))[..., None],
    }
    present = {"text": np.ones(200, bool), "audio": np.arange(200) < 20}
    fitted = fit_calibration(NUMBER, outputs, present, label, [1, 2], CalibrationSettings(), "valid")
    assert set(fitted.subsets) == {"text"}  # twenty clips with sound are too few
    assert fitted.of(["text"]).n == 200
    assert fitted.of(["audio"]) == fitted.pooled
    assert fitted.of(["text"]).width == pytest.approx(0.4 * 1.645, rel=0.25)
    assert fitted.pooled.width == pytest.approx(0.2 * 1.645, rel=0.25)
    assert presence_names(present)[[0, 30]].tolist() == ["audio+text", "text"]
    assert "2 seeds joined" in fitted.describe()
    with pytest.raises(InputError, match="Fit it on 'valid'"):
        fit_calibration(NUMBER, outputs, present, label, [1, 2], CalibrationSettings(), "test")


def test_too_few_clips_give_the_whole_scale_and_every_class():
    names = np.array(["text"] * 3, dtype=object)
    there = {"text": np.ones(3, bool)}
    number = fit_calibration(
        NUMBER, {"text": np.zeros((3, 1))}, there, np.zeros(3, np.float32), [1], CalibrationSettings(), "valid"
    )
    low, high = intervals(NUMBER, np.zeros((3, 1)), number, names)
    assert low.tolist() == [-3] * 3
    assert high.tolist() == [3] * 3
    logits = np.eye(3)
    classes = fit_calibration(CLASSES, {"text": logits}, there, np.arange(3), [1], CalibrationSettings(), "valid")
    assert class_sets(CLASSES, probabilities(CLASSES, logits), classes, names).all()


def test_a_risk_sets_the_confidence_below_which_answers_are_withheld():
    generator = np.random.default_rng(6)
    outputs, target = _classes(generator, 3000)
    there, settings = {"text": np.ones(3000, bool)}, CalibrationSettings(risk=0.1)
    fitted = fit_calibration(CLASSES, {"text": outputs}, there, target, [1], settings, "valid")
    new, truth = _classes(generator, 3000)
    sure = confidences(CLASSES, new, fitted, np.full(3000, "text", dtype=object))
    answered = sure >= fitted.below
    wrong = losses(CLASSES, new, truth)
    assert 0.2 < answered.mean() < 0.99
    assert wrong[answered].mean() == pytest.approx(0.1, abs=0.03)
    assert wrong.mean() > 0.15


def test_losses_by_hand():
    assert losses(NUMBER, np.array([[0.5], [-0.5], [0.0]]), np.array([1.0, 0.0, 0.0])).tolist() == [0, 1, 0]
    assert losses(CLASSES, np.eye(3), np.array([0, 1, 0])).tolist() == [0, 0, 1]
    wrong = losses(LABELS, np.array([[1.0, -1.0], [1.0, 1.0], [1.0, 1.0]]), np.array([[1, 0], [1, 0], [1, np.nan]]))
    assert wrong.tolist() == [0, 1, 0]


def test_brier_and_adaptive_error_by_hand():
    two = Task(name="e", kind="classification", column="e", classes=("a", "b"))
    chances, target = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]]), np.array([0, 0, 0, 1])
    assert brier_score(two, chances, target) == pytest.approx((0.02 + 0.72 + 0.18 + 0.08) / 4)
    # Sorted: 0.6 wrong, 0.7 right | 0.8 right, 0.9 right.
    expected = (2 * abs(0.5 - 0.65) + 2 * abs(1 - 0.85)) / 4
    assert adaptive_calibration_error(two, chances, target, bins=2) == pytest.approx(expected)
    assert brier_score(LABELS, np.array([[0.9, 0.5]]), np.array([[1.0, np.nan]])) == pytest.approx(0.01)
    with pytest.raises(InputError, match="number"):
        brier_score(NUMBER, np.zeros((2, 1)), np.zeros(2))


def test_a_card_holds_it_and_gives_it_back():
    fit = SubsetCalibration(n=40, width=None, residuals=(-1.0, 0.0, 1.0))
    assert SubsetCalibration(**fit.as_dict()) == fit
