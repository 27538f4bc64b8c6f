"""Weights of experts: what says nothing counts for nothing, and what is independent counts in full."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.pool_weights import learn_weights

CLASSES = Task(name="emotion", kind="classification", column="emotion", classes=("a", "b", "c"))
LABELS = Task(name="emotions", kind="multilabel", column="emotions", classes=("a", "b"))
NUMBER = Task(name="sentiment", kind="regression", column="sentiment")


def normal(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def clues(generator: np.random.Generator, target: np.ndarray, noise: float) -> np.ndarray:
    """Log probabilities [N, 3] of the exact posterior (all classes alike) given a noisy reading of the class."""
    reading = np.eye(3)[target] + noise * generator.standard_normal((len(target), 3))
    return normal(reading / noise**2)


def test_a_member_that_is_noise_gets_a_small_weight(generator):
    target = generator.integers(0, 3, 400)
    good, noise = clues(generator, target, 0.6), normal(generator.standard_normal((400, 3)))
    weights, loss = learn_weights(CLASSES, np.stack([good, noise], axis=1)[None], np.zeros(3), target, 0.5, "valid")
    assert weights[0] == pytest.approx(1.0, abs=0.2)
    assert weights[1] < 0.15
    assert loss < -good[np.arange(400), target].mean() + 1e-6


def test_independent_evidence_counts_in_full_and_the_same_twice_once(generator):
    target = generator.integers(0, 3, 3000)
    one, other = clues(generator, target, 0.8), clues(generator, target, 0.8)
    weights, _ = learn_weights(CLASSES, np.stack([one, other], axis=1)[None], np.zeros(3), target, 0.5, "valid")
    np.testing.assert_allclose(weights, 1.0, atol=0.15)
    weights, _ = learn_weights(CLASSES, np.stack([one, one], axis=1)[None], np.zeros(3), target, 0.5, "valid")
    assert weights.sum() == pytest.approx(1.0, abs=0.1)


def test_labels_that_are_unknown_teach_nothing(generator):
    target = generator.integers(0, 2, (300, 2)).astype(np.float32)
    said = (4 * target - 2 + generator.standard_normal((300, 2)))[None, :, None]
    holes = target.copy()
    holes[::3, 0] = np.nan
    flipped = np.where(np.isnan(holes), 1 - target, target)
    known, _ = learn_weights(LABELS, said, np.zeros(2), holes, 1.0, "valid")
    wrong, _ = learn_weights(LABELS, said, np.zeros(2), flipped.astype(np.float32), 1.0, "valid")
    assert known[0] > 2 * wrong[0] > 0


def test_one_that_says_next_to_nothing_stays_as_it_is(generator):
    """By chance a factor of many would help a little: sixty rows are no reason for it."""
    target = generator.integers(0, 3, 60)
    good, faint = clues(generator, target, 0.6), normal(0.02 * generator.standard_normal((60, 3)))
    weights, _ = learn_weights(CLASSES, np.stack([good, faint], axis=1)[None], np.zeros(3), target, 1.0, "valid")
    assert weights[1] == pytest.approx(1.0, abs=0.2)


def test_seeds_of_a_row_are_one_row(generator):
    target = generator.integers(0, 3, 80)
    said = np.stack([clues(generator, target, 0.8), normal(generator.standard_normal((80, 3)))], axis=1)
    once, loss = learn_weights(CLASSES, said[None], np.zeros(3), target, 0.5, "valid")
    twice, same = learn_weights(CLASSES, np.stack([said, said]), np.zeros(3), target, 0.5, "valid")
    np.testing.assert_allclose(once, twice, atol=1e-3)
    assert loss == pytest.approx(same, abs=1e-5)


def test_they_are_learnt_on_validation_and_for_classes_alone():
    said = np.zeros((1, 2, 1, 1))
    with pytest.raises(InputError) as told:
        learn_weights(NUMBER, said, np.zeros(1), np.zeros(2), 1.0, "test")
    assert len(told.value.problems) == 2
