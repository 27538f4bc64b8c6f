"""Every subset of modalities is asked for once and set against the full one."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.metrics import score
from demeanor.evaluation.robustness import modality_ablation, subsets

MOSI = Task(name="sentiment", kind="regression", column="sentiment")
EMOTION = Task(name="emotion", kind="classification", column="emotion", classes=("neutral", "happy", "sad"))


def test_subsets_begin_with_all():
    found = subsets(["text", "audio", "vision"])
    assert len(found) == 7
    assert found[0] == ("text", "audio", "vision")
    assert found[-3:] == [("text",), ("audio",), ("vision",)]
    assert subsets(["text", "text"]) == [("text",)]


@pytest.mark.parametrize("grouped", [False, True], ids=["utterances", "dialogues"])
def test_drops_are_positive_where_a_modality_is_missed(grouped: bool):
    generator = np.random.default_rng(0)
    target = generator.normal(size=200).astype(np.float32)
    target[3] = np.nan
    noise = {name: generator.normal(size=200) for name in ("text", "audio")}
    asked = []

    def predict(chosen: list[tuple[str, ...]]) -> list[np.ndarray]:
        asked.append(chosen)
        means = [np.nan_to_num(target) + sum(noise[name] for name in subset) / len(subset) for subset in chosen]
        return [np.stack([mean, mean + 0.01])[..., None] for mean in means]

    groups = np.arange(200) // 20 if grouped else None
    table = modality_ablation(MOSI, predict, target, ["text", "audio"], groups=groups, resamples=500)
    assert asked == [subsets(["text", "audio"])]
    assert table["modalities"].tolist() == ["text + audio", "text", "audio"]
    assert table["n"].tolist() == [199] * 3
    assert table["seeds"].tolist() == [2] * 3
    full, text = table.iloc[0], table.iloc[1]
    assert (full["MAE_drop"], full["MAE_drop_low"], full["MAE_drop_high"]) == (0, 0, 0)
    assert text["MAE_drop"] == pytest.approx(text["MAE"] - full["MAE"])
    assert text["Corr_drop"] == pytest.approx(full["Corr"] - text["Corr"])
    assert 0 < text["MAE_drop_low"] < text["MAE_drop"] < text["MAE_drop_high"]
    assert text["Corr_drop_low"] > 0
    assert text["MAE_low"] < text["MAE"] < text["MAE_high"]


def test_classes_and_a_single_modality():
    generator = np.random.default_rng(0)
    logits, target = generator.normal(size=(60, 3)), generator.integers(-1, 3, 60)
    table = modality_ablation(EMOTION, lambda chosen: [logits], target, ["text"], resamples=50)
    assert len(table) == 1
    expected = score(EMOTION, logits, target)
    assert {name: table[name].iloc[0] for name in expected} == pytest.approx(expected)


def test_wrong_predictions_are_refused():
    with pytest.raises(InputError, match="do not belong together"):
        modality_ablation(MOSI, lambda chosen: [np.zeros(4)], np.zeros(5), ["text"])
    with pytest.raises(InputError, match="no modality"):
        modality_ablation(MOSI, lambda chosen: [np.zeros(5)], np.zeros(5), [])
