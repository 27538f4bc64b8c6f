"""Metrics: hand-computed cases, scikit-learn where the definitions coincide, properties, and what is undefined."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sk

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation import metrics
from demeanor.evaluation import sufficient_statistics as stats
from demeanor.evaluation.metrics import (
    Metric,
    UndefinedMetricWarning,
    direction_of,
    metric_of,
    metrics_of,
    prepare,
    primary_metrics,
    score,
)
from demeanor.evaluation.receipts import Receipt
from demeanor.evaluation.seeds import COLUMNS, seeds_to_markdown
from demeanor.reference.mmsa_three_classes import score_three_classes
from tests.pages import TABLES

MOSI = Task(name="sentiment", kind="regression", column="sentiment")
SIMS = Task(name="sims", kind="regression", column="sentiment", low=-1, high=1, convention="sims")
EMOTION = Task(name="emotion", kind="classification", column="emotion", classes=("neutral", "happy", "sad"))
LABELS = Task(name="emotions", kind="multilabel", column="emotion", classes=("happy", "sad"))
TASKS = (MOSI, SIMS, EMOTION, LABELS)


def test_mosi_by_hand():
    prediction = np.array([2.5, -0.5, 0.0, -0.2, 3.9], dtype=np.float32)
    target = np.array([2.0, 0.0, -1.0, 0.0, 3.0], dtype=np.float32)
    found = score(MOSI, prediction, target)
    assert found["MAE"] == pytest.approx((0.5 + 0.5 + 1.0 + 0.2 + 0.9) / 5)
    # rint: 2, -0, 0, -0, 3 against 2, 0, -1, 0, 3; half goes to even, 3.9 is clipped to 3
    assert found["Mult_acc_7"] == 4 / 5
    # clipped to 2: 2, 0, 0, 0, 2 against 2, 0, -1, 0, 2
    assert found["Mult_acc_5"] == 4 / 5
    # >= 0: yes no yes no yes against yes yes no yes yes
    assert found["Has0_acc_2"] == 2 / 5
    # without the zero labels: > 0 yes no yes against yes no yes (a prediction of zero is negative)
    assert found["Non0_acc_2"] == 1.0
    assert found["Non0_F1_score"] == 1.0


def test_negative_zero_is_non_negative():
    found = score(MOSI, np.array([-0.0, -1.0]), np.array([1.0, -0.0]))
    assert found["Has0_acc_2"] == 0.5
    assert found["Non0_acc_2"] == 0.0


def test_sims_by_hand():
    prediction = np.array([0.0, 0.1, 0.1000001, -0.7, 5.0], dtype=np.float32)
    target = np.array([0.0, 0.1, 0.1, -0.7, 1.0], dtype=np.float32)
    found = score(SIMS, prediction, target)
    assert found["Mult_acc_2"] == 1.0  # zero is on the negative side for both
    assert found["Mult_acc_3"] == 4 / 5  # float32(0.1) <= 0.1 holds; the next number up is in the class above
    assert found["Mult_acc_5"] == 4 / 5
    assert found["MAE"] == pytest.approx(0.0, abs=1e-6)  # 5.0 is clipped to 1 before the error is taken


def test_zero_is_on_opposite_sides_in_the_two_conventions():
    prediction, target = np.array([0.0, 0.5]), np.array([0.5, 0.5])
    assert score(MOSI, prediction, target, warn=False)["Has0_acc_2"] == 1.0
    assert score(SIMS, prediction, target, warn=False)["Mult_acc_2"] == 0.5


@pytest.mark.parametrize("classes", [2, 5])
def test_classification_equals_scikit_learn(classes: int):
    generator = np.random.default_rng(classes)
    task = Task(name="e", kind="classification", column="e", classes=tuple("abcde"[:classes]))
    target, logits = generator.integers(0, classes, 200), generator.normal(size=(200, classes))
    predicted = logits.argmax(axis=1)
    assert score(task, logits, target) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(target, predicted),
            "UAR": sk.balanced_accuracy_score(target, predicted),
            "weighted_F1": sk.f1_score(target, predicted, average="weighted"),
            "macro_F1": sk.f1_score(target, predicted, average="macro"),
        }
    )


def test_classes_that_the_truth_lacks():
    target, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    found = score(EMOTION, np.eye(3)[predicted], target)
    assert found["UAR"] == pytest.approx(0.75)
    assert found["macro_F1"] == pytest.approx(sk.f1_score(target, predicted, average="macro"))
    assert found["weighted_F1"] == pytest.approx(sk.f1_score(target, predicted, average="weighted"))


def test_sentiment_equals_scikit_learn():
    generator = np.random.default_rng(1)
    target = np.round(generator.normal(size=300), 1).astype(np.float32)
    prediction = (target + generator.normal(size=300)).astype(np.float32)
    found, kept = score(MOSI, prediction, target), target != 0
    assert found["Corr"] == pytest.approx(np.corrcoef(prediction, target)[0, 1])
    assert found["MAE"] == pytest.approx(sk.mean_absolute_error(target, prediction))
    assert found["Has0_F1_score"] == pytest.approx(sk.f1_score(target >= 0, prediction >= 0, average="weighted"))
    assert found["Non0_F1_score"] == pytest.approx(
        sk.f1_score(target[kept] > 0, prediction[kept] > 0, average="weighted")
    )


def test_multilabel_equals_scikit_learn():
    generator = np.random.default_rng(2)
    target = (generator.random((150, 2)) < 0.3).astype(np.float32)
    logits = generator.normal(size=(150, 2)) + target
    target[:20, 0], target[10:30, 1] = np.nan, np.nan
    found = score(LABELS, logits, target)
    each = []
    for column, name in enumerate(LABELS.classes):
        known = ~np.isnan(target[:, column])
        truth, predicted = target[known, column] > 0, logits[known, column] > 0
        balanced = sk.balanced_accuracy_score(truth, predicted)
        weighted = sk.f1_score(truth, predicted, average="weighted")
        assert found[f"{name}_weighted_accuracy"] == pytest.approx(balanced)
        assert found[f"{name}_weighted_F1"] == pytest.approx(weighted)
        each.append((balanced, weighted, sk.f1_score(truth, predicted)))
    means = np.mean(each, axis=0)
    assert [found[f"mean_{name}"] for name in ("weighted_accuracy", "weighted_F1")] == pytest.approx(list(means[:2]))
    assert found["macro_F1"] == pytest.approx(means[2])
    chances = 1 / (1 + np.exp(-logits))
    assert score(LABELS, chances, target, threshold=0.5) == pytest.approx(found)


def test_correlation_keeps_a_tiny_spread_around_a_large_mean():
    target = np.linspace(-1, 1, 50)
    assert score(MOSI, 2.0 + 1e-4 * target, target)["Corr"] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("prediction", "target", "undefined", "reason"),
    [
        ([1.0, 1.0, 1.0], [1.0, 2.0, -1.0], {"Corr"}, "constant prediction"),
        ([0.1, 0.1, 0.1], [1.0, 2.0, -1.0], {"Corr"}, "constant prediction"),
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], {"Corr", "Non0_acc_2", "Non0_F1_score"}, "no label other than zero"),
        ([1.0], [1.0], {"Corr"}, "too few"),
        ([1.0, 2.0], [np.nan, np.nan], set(metrics_of(MOSI)), "too few"),
        ([], [], set(metrics_of(MOSI)), "too few"),
        ([np.nan, 1.0, -1.0], [1.0, 2.0, -1.0], {"MAE", "Corr"}, "not finite"),
        ([np.inf, 1.0, -1.0], [1.0, 2.0, -1.0], {"Corr"}, "not finite"),
    ],
)
def test_undefined_is_nan_with_one_warning(prediction, target, undefined, reason):
    with pytest.warns(UndefinedMetricWarning, match=reason) as caught:
        found = score(MOSI, np.array(prediction), np.array(target))
    assert len(caught) == 1
    assert {name for name, value in found.items() if np.isnan(value)} == undefined


def test_undefined_classes():
    with pytest.warns(UndefinedMetricWarning, match="too few"):
        found = score(EMOTION, np.zeros((2, 3)), np.array([-1, -1]))
    assert all(np.isnan(value) for value in found.values())
    with pytest.warns(UndefinedMetricWarning, match="happy_weighted_accuracy"):
        found = score(LABELS, np.ones((3, 2)), np.array([[1, 0], [1, 1], [1, np.nan]], dtype=np.float32))
    assert np.isnan(found["happy_weighted_accuracy"])
    assert found["mean_weighted_accuracy"] == found["sad_weighted_accuracy"] == 0.5
    with pytest.warns(UndefinedMetricWarning, match="not finite"):
        found = score(EMOTION, np.array([[np.nan, 0, 0], [1, 0, 0]]), np.array([0, 0]))
    assert found["accuracy"] == 0.5


def test_warnings_can_be_left_out():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score(MOSI, np.ones(3), np.arange(3.0), warn=False)
    assert np.isnan(found["Corr"])


def test_unlabelled_rows_do_not_count():
    target = np.array([1.0, np.nan, -2.0, 3.0])
    kept = ~np.isnan(target)
    prediction = np.array([0.5, 9.0, -1.0, 2.0])
    assert score(MOSI, prediction, target) == score(MOSI, prediction[kept], target[kept])
    classes = np.array([0, -1, 2])
    logits = np.random.default_rng(0).normal(size=(3, 3))
    assert score(EMOTION, logits, classes) == score(EMOTION, logits[[0, 2]], classes[[0, 2]])


@pytest.mark.parametrize(
    ("task", "prediction", "target"),
    [(MOSI, (3, 2), 3), (MOSI, (3,), 4), (EMOTION, (3, 2), 3), (LABELS, (3, 2), 3), (EMOTION, (3,), 3)],
)
def test_shapes_that_do_not_belong_together(task: Task, prediction, target):
    with pytest.raises(InputError, match="do not belong together"):
        score(task, np.zeros(prediction), np.zeros(target))


def test_a_class_index_out_of_range():
    with pytest.raises(InputError, match="3 classes"):
        score(EMOTION, np.zeros((2, 3)), np.array([0, 3]))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_metric_is_named_defined_and_documented(task: Task):
    text = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    found = metrics_of(task)
    assert set(primary_metrics(task)) <= set(found)
    assert task.selection_metric[0] == primary_metrics(task)[0]
    assert found[task.selection_metric[0]].better == task.selection_metric[1]
    for name, metric in found.items():
        documented = name
        for label in LABELS.classes:
            documented = documented.replace(f"{label}_", "<class>_")
        assert f"`{documented}`" in text
        assert metric.definition
    with pytest.raises(InputError, match="Did you mean"):
        metric_of(task, primary_metrics(task)[0] + "x")


NUMBERS = st.one_of(
    st.sampled_from([-3.0, -2.5, -1.0, -0.5, -0.0, 0.0, 0.1, 0.5, 1.5, 2.5, 3.0]), st.floats(-5, 5, width=32)
)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12).flatmap(lambda n: st.tuples(*[arrays.arrays(np.float32, n, elements=NUMBERS)] * 2)), st.randoms()
)
def test_properties_of_regression(pair, random):
    prediction, target = pair
    for task in (MOSI, SIMS):
        found = score(task, prediction, target, warn=False)
        for name, value in found.items():
            if np.isnan(value):
                assert name in ("Corr", "Non0_acc_2", "Non0_F1_score")
            elif name == "Corr":
                assert -1 <= value <= 1
            elif name != "MAE":
                assert 0 <= value <= 1
        order = np.array(random.sample(range(len(target)), len(target)))
        again = score(task, prediction[order], target[order], warn=False)
        assert again == pytest.approx(found, abs=1e-6, nan_ok=True)
        twice = score(task, np.tile(prediction, 2), np.tile(target, 2), warn=False)
        assert twice == pytest.approx(found, abs=1e-6, nan_ok=True)
        perfect = score(task, target, target, warn=False)
        assert perfect["MAE"] == 0
        assert all(
            value == pytest.approx(1) for name, value in perfect.items() if name != "MAE" and not np.isnan(value)
        )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 15).flatmap(lambda n: st.tuples(*[arrays.arrays(np.int64, n, elements=st.integers(0, 2))] * 2)))
def test_properties_of_classification(pair):
    predicted, target = pair
    found = score(EMOTION, np.eye(3)[predicted], target)
    assert found["accuracy"] == pytest.approx(np.mean(predicted == target))
    assert found["macro_F1"] == pytest.approx(sk.f1_score(target, predicted, average="macro"))
    assert found["weighted_F1"] == pytest.approx(sk.f1_score(target, predicted, average="weighted"))
    assert all(0 <= value <= 1 for value in found.values())


def test_prepare_keeps_seeds_in_front():
    values, target = prepare(MOSI, np.zeros((4, 3, 1)), np.array([1.0, np.nan, 2.0]))
    assert values.shape == (4, 2, 1)
    assert target.tolist() == [1.0, 2.0]


def test_three_classes_without_and_with_the_published_fault():
    logits, target = np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 2])
    assert set(score_three_classes(logits, target).values()) == {1.0}
    published = score_three_classes(logits, target, reference=True)
    assert published["Non0_acc_2"] == pytest.approx(1 / 3)
    assert published["Acc_3"] == 1.0


def test_a_new_metric_is_said_once(monkeypatch: pytest.MonkeyPatch):
    """One line in its list: scores, direction, tables and documentation know it."""
    error = Metric("half_error", "half of |p − t|", stats.absolute_error, lambda s: stats.ratio(s) / 2, "min", rank=6)
    every = [*metrics._mosi(), error]
    monkeypatch.setattr(metrics, "_mosi", lambda: every)
    monkeypatch.setattr(metrics, "_falling", metrics._falling.__wrapped__)
    scores = score(MOSI, np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    assert scores["half_error"] == scores["MAE"] / 2 == 0.75
    assert direction_of("sentiment.valid_half_error") == "min"
    assert primary_metrics(MOSI)[-1] == "half_error"
    receipt = Receipt(
        branch="a", system="a", task="sentiment", corpus="c", split="test", seed=1, metrics=scores, n=2, data_hash="0"
    )
    header = [cell.strip() for cell in seeds_to_markdown(MOSI, [receipt]).splitlines()[0].strip("|").split("|")]
    assert [name.split()[0] for name in header[2:-1]] == list(COLUMNS["mosi"])
    assert header[-1] == "half_error ↓"
    assert r"| `half_error` | half of \|p − t\| |" in TABLES["docs/metrics.md", "mosi"]()
