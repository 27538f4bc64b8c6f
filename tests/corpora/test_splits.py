"""Frozen splits: whole groups, the same every time, refused when they were changed."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from pydantic import ValidationError

from demeanor.corpora.splits import Split, SplitSettings, hold_out, k_fold, leave_one_out, random_split
from demeanor.data.errors import InputError
from demeanor.data.utterances import make_table


def table(dialogues=20, speakers=6) -> pd.DataFrame:
    rows = [
        {"utterance_id": f"d{d}_{t}", "corpus": "toy", "split": "test" if d >= 15 else "train", "dialogue": f"d{d}",
         "turn": t, "speaker": f"s{d % speakers}"}
        for d in range(dialogues) for t in range(3 + d % 4)
    ]  # fmt: skip
    return make_table(rows)


def groups_are_whole(split: Split, data: pd.DataFrame, by: str) -> bool:
    return bool(split.apply(data).groupby(by)["split"].nunique().max() == 1)


@pytest.mark.parametrize("by", ["dialogue", "speaker"])
def test_random_split(by):
    data = table()
    split = random_split(data, by, (0.6, 0.2, 0.2), seed=3)
    assert groups_are_whole(split, data, by)
    counts = split.counts()
    assert sum(counts.values()) == len(data)
    assert all(counts.values())
    if by == "dialogue":
        assert abs(counts["train"] / len(data) - 0.6) < 0.1
    assert random_split(data.sample(frac=1, random_state=0), by, (0.6, 0.2, 0.2), 3).sha256 == split.sha256
    assert random_split(data, by, (0.6, 0.2, 0.2), 4).sha256 != split.sha256


def test_hold_out_leaves_test_alone():
    data = table()
    made = hold_out(data, "dialogue", 0.2, seed=1).apply(data)
    before = set(data.loc[data["split"] == "test", "utterance_id"])
    assert set(made.loc[made["split"] == "test", "utterance_id"]) == before
    assert made.groupby("dialogue")["split"].nunique().max() == 1
    assert (made["split"] == "valid").any()
    with pytest.raises(InputError, match="stands in train and in test"):
        hold_out(data, "speaker", 0.2, seed=1)


def test_k_fold_tests_everything_once():
    data = table()
    folds = k_fold(data, "dialogue", 5, seed=1)
    tested = [name for split in folds for name in split.parts["test"]]
    assert sorted(tested) == sorted(data["utterance_id"])
    assert all(groups_are_whole(split, data, "dialogue") for split in folds)
    assert all(split.counts()["valid"] > 0 for split in folds)


def test_leave_one_out():
    data = table()
    folds = leave_one_out(data, "speaker", seed=1)
    assert len(folds) == 6
    for split in folds:
        made = split.apply(data)
        assert made.loc[made["split"] == "test", "speaker"].unique().tolist() == [split.made_by["left_out"]]
        assert split.made_by["left_out"] not in set(made.loc[made["split"] != "test", "speaker"])


def test_file(tmp_path):
    data = table()
    split = random_split(data, "dialogue", (0.6, 0.2, 0.2), 3)
    path = tmp_path / "split.json"
    split.save(path)
    split.save(path)
    assert Split.load(path) == Split(split.name, {part: tuple(ids) for part, ids in split.parts.items()}, split.made_by)
    with pytest.raises(InputError, match="not overwritten"):
        random_split(data, "dialogue", (0.6, 0.2, 0.2), 4).save(path)
    with pytest.raises(InputError, match="made for other data"):
        Split.load(path).apply(data.iloc[:10])


def test_changed_files_are_refused(tmp_path):
    path = tmp_path / "split.json"
    random_split(table(), "dialogue", (0.6, 0.2, 0.2), 3).save(path)
    content = json.loads(path.read_text())
    moved = json.loads(path.read_text())
    moved["parts"]["test"].append(moved["parts"]["train"].pop())
    twice = json.loads(path.read_text())
    twice["parts"]["test"].append(twice["parts"]["train"][0])
    for changed, message in (
        (moved, "do not fit its hash"),
        (twice, "twice"),
        ({**content, "format": "x"}, "not a file"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=message):
            Split.load(path)
    for text in ("", "[1, 2]", "not json", '{"format": "demeanor.split"}'):
        path.write_text(text)
        with pytest.raises(InputError):
            Split.load(path)


def test_settings_make_once_and_reuse(tmp_path):
    data = table()
    settings = SplitSettings(file=tmp_path / "s.json", scheme="random", shares=(0.6, 0.2, 0.2), seed=3)
    first = settings.make(data)
    other_seed = settings.model_copy(update={"seed": 99})
    assert other_seed.make(data).sha256 == first.sha256  # the file decides
    for scheme in ("k_fold", "leave_one_out"):
        assert SplitSettings(scheme=scheme, fold=2).make(data).counts()["test"] > 0
        with pytest.raises(InputError, match="numbered from 0"):
            SplitSettings(scheme=scheme, fold=50).make(data)


@pytest.mark.parametrize(
    "wrong", [{"by": "utterance"}, {"shares": (0.5, 0.2, 0.2)}, {"shares": (1.2, -0.2, 0.0)}, {"fold": -1}]
)
def test_senseless_settings(wrong):
    with pytest.raises(ValidationError):
        SplitSettings(**wrong)


def test_impossible_splits():
    data = table(dialogues=2)
    for make in (
        lambda: random_split(data, "dialogue", (0.6, 0.2, 0.2), 1),
        lambda: random_split(data, "dialog", (0.6, 0.2, 0.2), 1),
        lambda: k_fold(data, "dialogue", 5, 1), lambda: leave_one_out(data.assign(speaker=None), "speaker", 1),
        lambda: hold_out(data.iloc[:3], "dialogue", 0.5, 1),
    ):  # fmt: skip
        with pytest.raises(InputError):
            make()
