"""The bootstrap as a matrix product equals scoring the drawn rows one by one."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.task import Task
from demeanor.evaluation.metrics import metric_of, metrics_of, prepare, score
from demeanor.evaluation.resampling import Draws, Resampler, bootstrap, interval, two_sided_p

MOSI = Task(name="sentiment", kind="regression", column="sentiment")
SIMS = Task(name="sims", kind="regression", column="sentiment", low=-1, high=1, convention="sims")
EMOTION = Task(name="emotion", kind="classification", column="emotion", classes=("neutral", "happy", "sad"))
LABELS = Task(name="emotions", kind="multilabel", column="emotion", classes=("happy", "sad"))


def _example(task: Task, n: int, generator: np.random.Generator):
    if task.kind == "regression":
        target = np.clip(np.round(generator.normal(size=n), 1), task.low, task.high).astype(np.float32)
        return target[:, None] + generator.normal(size=(n, 1)), target
    if task.kind == "classification":
        return generator.normal(size=(n, 3)), generator.integers(-1, 3, n)
    target = (generator.random((n, 2)) < 0.5).astype(np.float32)
    target[0, 0] = np.nan
    return generator.normal(size=(n, 2)), target


def _rows(resampler: Resampler, utterances: int) -> np.ndarray:
    """[resamples, utterances] how often each utterance was drawn."""
    return resampler.sums(np.eye(utterances)).T


@pytest.mark.parametrize("task", [MOSI, SIMS, EMOTION, LABELS], ids=lambda task: task.name)
@pytest.mark.parametrize("grouped", [False, True], ids=["utterances", "dialogues"])
def test_every_metric_equals_scoring_the_drawn_rows(task: Task, grouped: bool):
    generator = np.random.default_rng(3)
    prediction, target = prepare(task, *_example(task, 24, generator))
    n = len(target)
    groups = generator.integers(0, 6, n) if grouped else None
    resampler = Resampler.over(n, groups, resamples=25, seed=7)
    draws = bootstrap(metrics_of(task), [prediction[None]], target, resampler)[0]
    times = np.rint(_rows(resampler, n)).astype(int)
    for place, count in enumerate(times):
        rows = np.repeat(np.arange(n), count)
        found = score(task, prediction[rows], target[rows], warn=False)
        expected = {name: draw.resampled[place] for name, draw in draws.items()}
        assert expected == pytest.approx(found, abs=1e-6, nan_ok=True)


def test_draws_have_the_size_of_the_data_and_keep_dialogues_whole():
    resampler = Resampler.over(30, resamples=50)
    assert (_rows(resampler, 30).sum(axis=1) == 30).all()
    groups = np.repeat(["a", "b", "c"], 10)
    resampler = Resampler.over(30, groups, resamples=50)
    assert resampler.units == 3
    times = _rows(resampler, 30).reshape(50, 3, 10)
    assert (times == times[:, :, :1]).all()
    assert (times[:, :, 0].sum(axis=1) == 3).all()


def test_the_same_seed_gives_the_same_draws_whatever_the_chunks(monkeypatch):
    statistics = np.random.default_rng(0).normal(size=(2, 40))
    whole = Resampler.over(40, resamples=100, seed=1).sums(statistics)
    assert np.array_equal(whole, Resampler.over(40, resamples=100, seed=1).sums(statistics))
    assert not np.array_equal(whole, Resampler.over(40, resamples=100, seed=2).sums(statistics))
    monkeypatch.setattr("demeanor.evaluation.resampling.LARGEST", 40 * 20)
    assert np.allclose(whole, Resampler.over(40, resamples=100, seed=1).sums(statistics))


def test_the_interval_has_about_the_width_of_theory():
    generator = np.random.default_rng(5)
    target = np.zeros(400, dtype=np.float32)
    prediction = np.abs(generator.normal(size=(1, 400, 1))).astype(np.float32)
    draws = bootstrap({"MAE": metric_of(MOSI, "MAE")}, [prediction], target, Resampler.over(400, resamples=4000))
    low, high = interval(draws[0]["MAE"].resampled)
    expected = 2 * 1.96 * prediction.std() / np.sqrt(400)
    assert high - low == pytest.approx(expected, rel=0.08)
    assert low < prediction.mean() < high


def test_seeds_are_averaged_within_each_resample():
    generator = np.random.default_rng(6)
    prediction, target = (
        generator.normal(size=(3, 20, 1)).astype(np.float32),
        generator.normal(size=20).astype(np.float32),
    )
    metric = {"MAE": metric_of(MOSI, "MAE")}
    resampler = Resampler.over(20, resamples=30)
    together = bootstrap(metric, [prediction], target, resampler)[0]["MAE"]
    apart = bootstrap(metric, list(prediction[:, None]), target, resampler)
    assert together.resampled == pytest.approx(np.mean([part["MAE"].resampled for part in apart], axis=0), abs=1e-6)
    assert together.deviation == pytest.approx(np.std([part["MAE"].mean for part in apart], ddof=1))


def test_a_metric_that_is_mostly_undefined_has_no_interval():
    assert np.isnan(interval(np.array([1.0, np.nan]))).all()
    assert np.isnan(interval(np.empty(0))).all()
    assert np.isnan(two_sided_p(np.array([np.nan] * 5)))
    low, high = interval(np.append(np.linspace(0, 1, 99), np.nan))
    assert (low, high) == (pytest.approx(0.025), pytest.approx(0.975))
    assert np.isnan(Draws(np.array([1.0]), np.empty(0)).deviation)


def test_p_is_two_sided_and_never_zero():
    assert two_sided_p(np.ones(99)) == pytest.approx(2 / 100)
    assert two_sided_p(np.zeros(99)) == 1.0
    assert two_sided_p(np.concatenate([np.ones(75), -np.ones(24)])) == pytest.approx(2 * 25 / 100)


def test_no_utterance_is_no_crash():
    draws = bootstrap(metrics_of(MOSI), [np.zeros((1, 0, 1), np.float32)], np.zeros(0, np.float32), Resampler.over(0))
    assert np.isnan(draws[0]["MAE"].mean)


def test_a_resample_of_one_utterance_alone_has_no_correlation():
    generator = np.random.default_rng(0)
    prediction, target = prepare(MOSI, generator.normal(size=20), generator.normal(size=20))
    corr = metric_of(MOSI, "Corr")
    statistics = corr.statistics(prediction, target).astype(np.float64)
    assert corr.finalize(7 * statistics.sum(axis=1)) == pytest.approx(corr(prediction, target))
    # Rounding leaves a spread of about 1e-16, which must not become a number.
    times = np.arange(1.0, 30.0)
    assert np.isnan(corr.finalize(statistics[:, :, None] * times)).all()
