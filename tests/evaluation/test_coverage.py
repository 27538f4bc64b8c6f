"""What coverage chance leads to expect: by hand, and by drawing calibrations and tests of one kind many times."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.evaluation.conformal import conformal_quantile
from demeanor.evaluation.coverage import coverage_in_mix, design_effect, expected_coverage


def shares_held(generator: np.random.Generator, fitted: int, asked: int, alike: int, draws: int) -> np.ndarray:
    """[draws] coverages of 90 % quantiles; of `alike` clips in a row all have the score of the first."""
    made = []
    for _ in range(draws):
        scores = np.repeat(generator.random((fitted + asked) // alike), alike)
        # Ties would all be held at once: scores of a dialogue are alike, not the same.
        scores = scores + 1e-6 * generator.random(len(scores))
        made.append((scores[fitted:] <= conformal_quantile(scores[:fitted], 0.9)).mean())
    return np.array(made)


def test_coverages_of_one_kind_of_clips_lie_where_they_are_expected():
    low, high = expected_coverage(0.9, [(100, 200)])
    found = shares_held(np.random.default_rng(0), 100, 200, 1, 2000)
    assert 0.94 < ((found >= low) & (found <= high)).mean() < 0.98
    # The calibration's own chance is the larger half: a binomial interval of 200 clips is [0.86, 0.94].
    assert low < 0.83
    assert high > 0.955


def test_clips_that_come_in_dialogues_spread_further_and_the_design_effect_knows_it():
    generator = np.random.default_rng(1)
    found = shares_held(generator, 300, 600, 6, 800)
    alone = expected_coverage(0.9, [(300, 600)])
    together = expected_coverage(0.9, [(300, 600)], effect=6.0)
    assert ((found >= alone[0]) & (found <= alone[1])).mean() < 0.8
    assert 0.93 < ((found >= together[0]) & (found <= together[1])).mean() < 0.99
    held = np.repeat(generator.random(100) < 0.9, 6).astype(float)
    assert design_effect(held, np.repeat(np.arange(100), 6)) == pytest.approx(6, rel=0.02)
    assert design_effect(held, np.arange(600)) == pytest.approx(1)
    assert design_effect(generator.permutation(held), np.repeat(np.arange(100), 6)) < 1.6
    assert np.isnan(design_effect(held, np.arange(600) % 9)), "of nine dialogues it cannot be told"
    assert design_effect(np.ones(20), np.arange(20)) == 1.0


def test_several_fits_too_few_clips_and_none():
    one, two = expected_coverage(0.9, [(100, 200)]), expected_coverage(0.9, [(100, 100), (100, 100)])
    assert one[0] < two[0] < 0.9 < two[1] < one[1], "two calibrations share the chance"
    assert expected_coverage(0.9, [(5, 40)]) == (1.0, 1.0), "five clips are not enough for nine in ten"
    assert np.isnan(expected_coverage(0.9, [])).all()


def test_the_coverage_of_another_mix_of_classes_by_hand():
    held = np.array([1.0, 1.0, 1.0, 0.0, 0.5])
    target = np.array([0, 0, 0, 1, 1])
    assert coverage_in_mix(held, target, [0.5, 0.5]) == pytest.approx(0.625)
    assert coverage_in_mix(held, target, [0.25, 0.25, 0.5]) == pytest.approx(0.625), "the test has no third class"
    assert np.isnan(coverage_in_mix(held, target, [0, 0, 1]))
