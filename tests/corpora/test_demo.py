"""The bundled demo corpus: its layout, what is promised of it, and its planted truth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from demeanor.corpora.demo.ceiling import markdown_table, write_ceiling
from demeanor.features.media import decode_frames, probe
from demeanor.features.sound import decode_audio
from tests.project import DEMO


@pytest.fixture(scope="module")
def labels() -> pd.DataFrame:
    return pd.read_csv(DEMO / "label.csv", dtype={"clip_id": str})


@pytest.fixture(scope="module")
def sidecar() -> dict:
    return json.loads((DEMO / "sidecar.json").read_text(encoding="utf-8"))["utterances"]


def clip(row) -> Path:
    return DEMO / "Raw" / row.video_id / f"{row.clip_id}.mp4"


def test_layout_counts_and_size(labels):
    wanted = ["video_id", "clip_id", "text", "label", "label_T", "label_A", "label_V", "annotation", "mode"]
    assert list(labels) == wanted
    assert labels["mode"].value_counts().to_dict() == {"train": 200, "valid": 60, "test": 140}
    assert 35 <= labels["video_id"].nunique() <= 45
    assert labels[["label", "label_T", "label_A", "label_V"]].abs().max().max() <= 3
    assert all(clip(row).is_file() for row in labels.itertuples())
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 15e6
    assert (DEMO / "README.md").read_text(encoding="utf-8").splitlines()[0].startswith("This corpus is synthetic")


def test_speakers_are_disjoint_between_splits_and_dialogues_are_of_one_or_two(labels, sidecar):
    table = labels.assign(speaker=[sidecar[f"{r.video_id}_{r.clip_id}"]["speaker"] for r in labels.itertuples()])
    assert table["speaker"].nunique() >= 10
    assert (table.groupby("speaker")["mode"].nunique() == 1).all()
    assert set(table.groupby("video_id")["speaker"].nunique()) == {1, 2}


def test_every_clip_holds_film_and_sound_of_two_to_four_seconds(labels):
    for row in labels.itertuples():
        info = probe(clip(row))
        assert info.has_video, row
        assert info.has_audio, row
        assert (info.width, info.height) == (96, 96)
        assert 10 <= info.frame_rate <= 15
        assert info.sample_rate >= 16000
        assert 1.9 <= info.duration <= 4.2, row


def test_some_clips_decode_and_their_words_are_where_the_voice_is(labels, sidecar):
    shares = []
    for row in labels.iloc[::20].itertuples():
        entry = sidecar[f"{row.video_id}_{row.clip_id}"]
        assert len(entry["words"]) == len(row.text.split())
        samples = decode_audio(clip(row), rate=16000)
        assert len(list(decode_frames(clip(row)))) >= 19
        assert entry["words"][-1][2] <= len(samples) / 16000 + 0.1
        if "audio" in entry["missing"]:
            assert np.abs(samples).max() < 1e-4
            continue
        inside = np.zeros(len(samples), dtype=bool)
        for _, start, end in entry["words"]:
            inside[int(start * 16000) : int(end * 16000)] = True
        energy = samples.astype(float) ** 2
        shares.append(energy[inside].sum() / energy.sum())
    assert min(shares) > 0.9


def test_the_planted_truth_is_on_record(labels, sidecar):
    entries = [sidecar[f"{row.video_id}_{row.clip_id}"] for row in labels.itertuples()]
    assert np.allclose([entry["sentiment"] for entry in entries], labels["label"])
    assert 15 <= sum(entry["contradiction"] is not None for entry in entries) <= 60
    assert sum("audio" in entry["missing"] for entry in entries) >= 8
    assert sum("vision" in entry["missing"] for entry in entries) >= 8
    emotions = {entry["emotion"] for entry in entries}
    assert emotions == {"neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise"}


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """All leaves of nested dicts and lists by their path."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = ((str(n), entry) for n, entry in enumerate(value))
    else:
        return {name: value}
    return {key: leaf for part, entry in parts for key, leaf in flat(entry, f"{name}/{part}").items()}


def test_ceilings_are_what_the_command_computes_and_more_modalities_allow_more(tmp_path):
    for name in ("label.csv", "sidecar.json"):
        shutil.copy(DEMO / name, tmp_path / name)
    found = write_ceiling(tmp_path)
    table = json.loads((DEMO / "ceiling.json").read_text())
    made, committed = (json.loads((folder / "ceiling.json").read_text()) for folder in (tmp_path, DEMO))
    made, committed = flat(made), flat(committed)
    numbers = {name for name, value in committed.items() if isinstance(value, float)}
    assert made.keys() == committed.keys()
    assert {name: made[name] for name in made.keys() - numbers} == {n: committed[n] for n in made.keys() - numbers}
    # Made on another machine: the last bits may differ.
    assert [made[name] for name in sorted(numbers)] == pytest.approx([committed[n] for n in sorted(numbers)], rel=1e-6)
    assert markdown_table(table).splitlines()[-1] in (DEMO / "README.md").read_text(encoding="utf-8")
    sentiment = found["rows"]["sentiment"]
    for single in ("text", "audio", "vision"):
        assert sentiment["planted ceiling"]["MAE"] < sentiment[f"ceiling, {single}"]["MAE"]
        assert sentiment[f"ceiling, {single}"]["Corr"] > 0.5


def test_words_of_the_test_are_mostly_new(labels):
    train = set(labels.loc[labels["mode"] == "train", "text"])
    test = labels.loc[labels["mode"] == "test", "text"]
    assert test.isin(train).mean() < 0.05


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed; using the corpus needs none")
def test_the_generator_makes_clips(tmp_path):
    from demeanor.corpora.demo.generate import generate

    made = generate(tmp_path / "demo", seed=2, jobs=1, only=2)
    assert len(made) == 2
    paths = sorted((tmp_path / "demo").rglob("*.mp4"))
    assert [probe(path).has_audio for path in paths] == [True, True]
