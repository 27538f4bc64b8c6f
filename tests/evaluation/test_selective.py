"""Risk and coverage: curves by hand, ties, thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.evaluation.selective import (
    augrc,
    aurc,
    coverage_at_risk,
    risk_at_coverage,
    risk_coverage,
    threshold_for_risk,
)

SURE, WRONG = [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1]


def test_a_curve_by_hand():
    curve = risk_coverage(SURE, WRONG)
    assert curve["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve["risk"].tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert curve["generalised_risk"].tolist() == pytest.approx([0, 0.25, 0.25, 0.5])
    assert aurc(SURE, WRONG) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert augrc(SURE, WRONG) == pytest.approx(1 / 4)
    assert coverage_at_risk(SURE, WRONG, 0.35) == 0.75
    assert coverage_at_risk([0.9], [1], 0.5) == 0
    assert risk_at_coverage(SURE, WRONG, 0.75) == pytest.approx(1 / 3)
    assert threshold_for_risk(SURE, WRONG, 0.35) == 0.7
    assert threshold_for_risk([0.9], [1], 0.5) == float("inf")


def test_answers_of_equal_confidence_go_together_whatever_their_order():
    generator = np.random.default_rng(0)
    sure, wrong = np.repeat([0.9, 0.5], 50), generator.integers(0, 2, 100)
    mixed = generator.permutation(100)
    assert aurc(sure, wrong) == pytest.approx(aurc(sure[mixed], wrong[mixed]))
    assert augrc(np.ones(100), wrong) == pytest.approx(wrong.mean() * 101 / 200)
    assert coverage_at_risk([0.9, 0.9], [0, 1], 0.4) == 0
    assert threshold_for_risk([0.9, 0.9, 0.5], [0, 0, 1], 0.1) == 0.9


def test_an_order_that_knows_its_errors_beats_one_that_does_not():
    generator = np.random.default_rng(1)
    wrong = generator.random(500) < 0.3
    assert aurc(-wrong.astype(float), wrong) < aurc(generator.random(500), wrong)
    assert augrc(-wrong.astype(float), wrong) < augrc(generator.random(500), wrong)


def test_nothing_and_nonsense():
    assert np.isnan(aurc([], []))
    assert np.isnan(augrc([], []))
    assert np.isnan(coverage_at_risk([], [], 0.1))
    with pytest.raises(InputError, match="not finite"):
        risk_coverage([0.1, np.nan], [0, 1])
    with pytest.raises(InputError, match="do not pair"):
        risk_coverage([0.1], [0, 1])
    with pytest.raises(InputError, match="no answer"):
        threshold_for_risk([], [], 0.1)
