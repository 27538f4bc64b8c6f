"""Paired differences: direction, symmetry, error rate, adjustment, and what they say."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.metrics import metric_of
from demeanor.evaluation.paired import differences, holm, paired_bootstrap
from demeanor.evaluation.tables import differences_to_markdown

MOSI = Task(name="sentiment", kind="regression", column="sentiment")
MAE, CORR = metric_of(MOSI, "MAE"), metric_of(MOSI, "Corr")


def _pair(n: int = 150, seed: int = 0):
    generator = np.random.default_rng(seed)
    target = generator.normal(size=n).astype(np.float32)
    good, bad = target + 0.3 * generator.normal(size=n), target + generator.normal(size=n)
    return good, bad, target


def test_direction_and_symmetry():
    good, bad, target = _pair()
    found = paired_bootstrap(good, bad, target, MAE)
    assert found.mean == pytest.approx(np.abs(good - target).mean() - np.abs(bad - target).mean(), abs=1e-6)
    assert found.low < found.mean < found.high < 0
    assert found.p < 0.001
    assert found.favours == "a"
    turned = paired_bootstrap(bad, good, target, MAE)
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low), abs=1e-6)
    assert turned.favours == "b"
    assert paired_bootstrap(good, bad, target, CORR).favours == "a"
    assert "evidence that good is better" in found.describe("good", "bad")


def test_a_system_against_itself():
    good, _, target = _pair()
    found = paired_bootstrap(good, good, target, MAE)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert found.favours == "neither"
    assert "not evidence that they are equal" in found.describe()


def test_pairing_sees_what_two_single_intervals_cannot():
    generator = np.random.default_rng(1)
    target = generator.normal(size=100).astype(np.float32)
    shared = 2 * np.abs(generator.normal(size=100))
    found = paired_bootstrap(target + shared, target + shared + 0.05, target, MAE)
    assert found.favours == "a"
    assert found.high - found.low < 0.001


def test_equal_systems_are_rarely_told_apart():
    told = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        target = generator.normal(size=80).astype(np.float32)
        a, b = target + generator.normal(size=(2, 80))
        told += paired_bootstrap(a, b, target, MAE, resamples=500, seed=seed).favours != "neither"
    assert told <= 12  # 5 expected; more than 12 has a probability below 0.002


def test_seeds_and_dialogues():
    good, bad, target = _pair()
    seeds = np.stack([good, good + 0.01])[..., None]
    found = paired_bootstrap(seeds, bad[None, :, None], target, MAE, groups=np.arange(150) // 10)
    assert found.units == 15
    assert found.favours == "a"
    # Utterances of a dialogue that err together leave less evidence than so many single ones.
    together = np.repeat(np.random.default_rng(0).normal(size=15), 10)
    one = paired_bootstrap(target + together, target + 0.8, target, MAE)
    whole = paired_bootstrap(target + together, target + 0.8, target, MAE, groups=np.arange(150) // 10)
    assert whole.high - whole.low > 2 * (one.high - one.low)


def test_shapes_that_do_not_pair():
    with pytest.raises(InputError, match="do not pair"):
        paired_bootstrap(np.zeros(3), np.zeros(4), np.zeros(4), MAE)


def test_differences_against_one_branch(evaluation):
    table = differences(evaluation.task, evaluation.predictions, "weak", resamples=2000)
    assert table["branch"].tolist() == ["strong", "strong_twin"]
    assert (table["verdict"] == "better").all()
    assert (table["p_holm"] >= table["p"]).all()
    twin = differences(evaluation.task, evaluation.predictions, "strong", metric="Corr", resamples=2000, by="dialogue")
    verdicts = dict(zip(twin["branch"], twin["verdict"], strict=True))
    assert verdicts["weak"] == "worse"
    text = differences_to_markdown(table)
    assert "MAE minus that of weak" in text
    assert "2 comparisons" in text
    assert "not evidence that two systems are equal" in text
    with pytest.raises(InputError, match="no predictions"):
        differences(evaluation.task, evaluation.predictions, "absent")


def test_differences_agree_with_the_single_comparison(evaluation):
    table = differences(evaluation.task, evaluation.predictions, "weak", resamples=1000, seed=3).set_index("branch")
    own = evaluation.predictions.sort_values(["branch", "seed", "utterance_id"])
    known = own["target"].notna()
    arrays = {branch: part["prediction"].to_numpy().reshape(3, -1, 1) for branch, part in own[known].groupby("branch")}
    target = own[known & (own["branch"] == "weak") & (own["seed"] == 0)]["target"].to_numpy()
    found = paired_bootstrap(arrays["strong"], arrays["weak"], target, MAE, resamples=1000, seed=3)
    row = table.loc["strong"]
    assert (row["difference"], row["low"], row["high"], row["p"]) == pytest.approx(
        (found.mean, found.low, found.high, found.p)
    )


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    adjusted = holm([np.nan, 0.01])
    assert np.isnan(adjusted[0])
    assert adjusted[1] == pytest.approx(0.02)
