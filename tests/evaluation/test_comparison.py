"""Comparison tables: from receipts and predictions that agree, with intervals, the baseline and the order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.comparison import baseline_prediction, compare
from demeanor.evaluation.metrics import metrics_of, score
from demeanor.evaluation.predictions import predictions_table, stacks
from demeanor.evaluation.receipts import Receipt
from demeanor.evaluation.tables import differences_to_markdown, to_markdown

LABELS = Task(name="emotions", kind="multilabel", column="emotion", classes=("happy", "sad"))


def test_one_row_per_branch_best_first(evaluation):
    table = compare(
        evaluation.task, evaluation.receipts, evaluation.predictions, train_target=np.array([1.0, np.nan, 0.0])
    )
    assert table["MAE"].is_monotonic_increasing
    assert list(table["branch"])[2:] == ["weak", "train mean"]
    assert set(table["kind"]) == {"system", "baseline"}
    own = [receipt.metrics["MAE"] for receipt in evaluation.receipts if receipt.branch == "weak"]
    row = table.set_index("branch").loc["weak"]
    assert row["MAE"] == pytest.approx(np.mean(own))
    assert row["MAE_sd"] == pytest.approx(np.std(own, ddof=1))
    assert (row["seeds"], row["n"], row["system"]) == (3, 119, "weak_system")
    for name in metrics_of(evaluation.task):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    baseline = table.set_index("branch").loc["train mean"]
    labels = evaluation.task.targets(evaluation.utterances)
    assert baseline["MAE"] == pytest.approx(np.nanmean(np.abs(labels - 0.5)))
    assert np.isnan(baseline["Corr"])
    assert np.isnan(baseline["Corr_low"])


def test_classes_are_ordered_by_the_higher_score():
    generator = np.random.default_rng(0)
    task = Task(name="emotion", kind="classification", column="emotion", classes=("a", "b", "c"))
    utterances = pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(60)],
            "dialogue": "d",
            "emotion": generator.choice(["a", "b", "c"], 60),
        }
    )
    target = task.targets(utterances)
    tables, receipts = [], []
    for branch, strength in {"poor": 0.2, "good": 3.0}.items():
        logits = generator.normal(size=(60, 3)) + strength * np.eye(3)[target]
        tables.append(predictions_table(task, branch, 0, utterances, logits))
        values = {"branch": branch, "system": "s", "task": "emotion", "corpus": "c", "split": "test", "data_hash": "h"}
        receipts.append(Receipt(**values, seed=0, n=60, metrics=score(task, logits, target)))
    table = compare(task, receipts, pd.concat(tables), train_target=target)
    assert table["branch"].iloc[0] == "good"
    assert table["weighted_F1"].is_monotonic_decreasing
    assert table["weighted_F1_sd"].isna().all()
    assert "± " not in to_markdown(task, table, notes=False)


def test_the_table_does_not_depend_on_the_order_of_rows(evaluation):
    shuffled = evaluation.predictions.sample(frac=1, random_state=0)
    once = compare(evaluation.task, evaluation.receipts, evaluation.predictions)
    again = compare(evaluation.task, evaluation.receipts[::-1], shuffled)
    pd.testing.assert_frame_equal(once, again)


def test_dialogues_as_units_and_no_predictions_at_all(evaluation):
    by_utterance = compare(evaluation.task, evaluation.receipts, evaluation.predictions)
    by_dialogue = compare(evaluation.task, evaluation.receipts, evaluation.predictions, by="dialogue")
    assert by_dialogue["MAE"].tolist() == by_utterance["MAE"].tolist()
    assert by_dialogue["MAE_low"].tolist() != by_utterance["MAE_low"].tolist()
    bare = compare(evaluation.task, evaluation.receipts, None)
    assert bare["MAE"].tolist() == pytest.approx(by_utterance["MAE"].tolist())
    assert bare["MAE_low"].isna().all()


def test_receipts_with_fewer_modalities_are_left_out(evaluation):
    without = [receipt.model_copy(update={"modalities": ("text",)}) for receipt in evaluation.receipts]
    table = compare(evaluation.task, [*evaluation.receipts, *without], evaluation.predictions)
    assert table["seeds"].tolist() == [3, 3, 3]


def test_receipts_that_do_not_belong_together_are_refused(evaluation):
    first, *rest = evaluation.receipts
    with pytest.raises(InputError, match="2 problems") as caught:
        compare(evaluation.task, [first.model_copy(update={"data_hash": "ffff", "split": "valid"}), *rest], None)
    assert "different data_hash" in str(caught.value)
    with pytest.raises(InputError, match="several receipts"):
        compare(evaluation.task, [first, *evaluation.receipts], None)
    with pytest.raises(InputError, match="no receipt"):
        compare(evaluation.task, [], None)
    wrong = first.model_copy(update={"metrics": {**first.metrics, "MAE": 0.0}})
    with pytest.raises(InputError, match="by the predictions"):
        compare(evaluation.task, [wrong, *rest], evaluation.predictions)
    with pytest.raises(InputError, match="of seeds"):
        compare(evaluation.task, rest, evaluation.predictions)


def test_predictions_that_cannot_be_paired_are_refused(evaluation):
    table = evaluation.predictions
    with pytest.raises(InputError, match="missing"):
        stacks(evaluation.task, table.iloc[:-1])
    with pytest.raises(InputError, match="occurs twice"):
        stacks(evaluation.task, pd.concat([table, table.iloc[-1:]]))
    changed = table.copy()
    changed.loc[len(changed) - 1, "target"] = 3.0
    with pytest.raises(InputError, match="targets differ"):
        stacks(evaluation.task, changed)
    with pytest.raises(InputError, match="no column 'prediction'"):
        stacks(evaluation.task, table.drop(columns="prediction"))
    with pytest.raises(InputError, match="has no predictions"):
        stacks(evaluation.task, table, ["weak", "unknown"])


def test_predictions_of_several_labels_survive_the_table():
    generator = np.random.default_rng(0)
    utterances = pd.DataFrame(
        {
            "utterance_id": list("cab"),
            "dialogue": "d",
            "emotion_happy": [1.0, 0.0, np.nan],
            "emotion_sad": [0.0, 2.0, 1.0],
        }
    )
    prediction = generator.normal(size=(3, 2)).astype(np.float32)
    table = predictions_table(LABELS, "one", 0, utterances, prediction)
    assert list(table)[4:] == ["target_happy", "target_sad", "prediction_happy", "prediction_sad"]
    stack = stacks(LABELS, table)["one"]
    assert stack.ids.tolist() == list("abc")
    assert np.array_equal(stack.prediction[0], prediction[[1, 2, 0]])
    assert np.array_equal(stack.target, LABELS.targets(utterances)[[1, 2, 0]], equal_nan=True)
    with pytest.raises(InputError, match="1 outputs"):
        predictions_table(LABELS, "one", 0, utterances, prediction[:, :1])


def test_baselines_answer_without_looking():
    emotion = Task(name="e", kind="classification", column="e", classes=("a", "b", "c"))
    assert baseline_prediction(emotion, np.array([1, 1, 2, -1]), 2).argmax(axis=1).tolist() == [1, 1]
    several = baseline_prediction(LABELS, np.array([[1, 0], [1, 1], [0, 0], [np.nan, np.nan]]), 2)
    assert (several > 0).tolist() == [[True, False]] * 2
    with pytest.raises(InputError, match="no training utterance"):
        baseline_prediction(emotion, np.array([-1]), 2)


def test_markdown_reads_well(evaluation):
    table = compare(evaluation.task, evaluation.receipts, evaluation.predictions, train_target=np.array([0.0, 1.0]))
    text = to_markdown(evaluation.task, table, reference={"ceiling": {"MAE": 0.25}})
    lines = text.splitlines()
    assert "synthetic" in lines[0]
    assert "119 utterances" in lines[0]
    rows = [line for line in lines if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    assert rows[0].startswith("| system ")
    assert "MAE ↓" in rows[0]
    assert "(train mean)" in rows[-2]
    assert rows[-1].split("|")[1:4] == [" *ceiling*    ", "     - ", "         0.250 "]
    assert "not a test" in lines[-1]
    short = to_markdown(evaluation.task, table, metrics=("Corr",), notes=False)
    assert short.startswith("| system")
    assert "MAE" not in short
    real = to_markdown(evaluation.task, table.assign(synthetic=False))
    assert "synthetic" not in real
    with pytest.raises(InputError, match="Did you mean 'MAE'"):
        to_markdown(evaluation.task, table, metrics=("MEA",))


def test_no_difference_to_show():
    assert "only one system" in differences_to_markdown(pd.DataFrame())
