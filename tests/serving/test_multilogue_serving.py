"""A Multilogue-Net bundle scores a conversation of raw clips, whether it is told who speaks or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from demeanor.__main__ import main
from demeanor.data.examples import Examples
from demeanor.data.utterances import make_table
from demeanor.features.clips import clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.inference.model import TrainedModel
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings
from tests.project import DEMO
from tests.toy import EMOTION, toy_score

CLIPS = [
    *sorted((DEMO / "Raw" / "synthetic_01").glob("*.mp4"))[:5],
    *sorted((DEMO / "Raw" / "synthetic_02").glob("*.mp4"))[:4],
]
SAID = ["what a lovely day", "this is awful", "are you sure", "well"]
REQUESTS = {
    "text.sentence": StreamRequest(extractor="hf_sentence"),
    "audio.functionals": StreamRequest(extractor="opensmile_functionals"),
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    folder = tmp_path_factory.mktemp("features")
    rows = [
        {
            "utterance_id": f"{path.parent.name}_{path.stem}", "corpus": "demo-synthetic",
            "split": "train" if path.parent.name == "synthetic_01" else "valid", "dialogue": path.parent.name,
            "turn": n, "speaker": "ab"[n % 2], "text": SAID[n % 4], "media": str(path.relative_to(DEMO)),
            "emotion": EMOTION.classes[n % 3],
        }
        for n, path in enumerate(CLIPS)
    ]  # fmt: skip
    table = make_table(rows)
    streams, _ = extract_streams(clips_of(table, DEMO), REQUESTS, folder / "cache", folder / "out", 1, progress=False)
    return Examples.of(table, streams)


@pytest.fixture(scope="module")
def folder(examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the bundle is."""
    settings = BranchSettings(
        system="multilogue_net",
        task="emotion",
        streams={"text": "text.sentence", "audio": "audio.functionals"},
        model={"context_size": 8, "party_size": 8, "emotion_size": 8, "fused_size": 8},
        training={"epochs": 3, "batch_size": 2, "learning_rate": 0.02, "threads": 1},
    )
    place = tmp_path_factory.mktemp("model") / "bundle"
    fit("talk", settings, EMOTION, examples, 1, toy_score, progress=False).bundle.save(place)
    return place


def raw(examples: Examples, *columns: str) -> list[dict[str, Any]]:
    table = examples.utterances[["utterance_id", "media", "text", *columns]].rename(columns={"media": "video"})
    return [{**row, "video": str(DEMO / row["video"])} for row in table.to_dict(orient="records")]


def probabilities(answers) -> np.ndarray:
    return answers[[f"probability_{name}" for name in EMOTION.classes]].to_numpy(dtype=float)


def test_a_conversation_of_raw_clips(examples: Examples, folder: Path):
    model = TrainedModel.load(folder)
    answers = model.score(raw(examples, "dialogue", "turn", "speaker"))
    assert (answers["problem"] == "").all()
    logits = model.predict(examples)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(answers), expected, atol=1e-4)
    # Who speaks matters, and so does what was said before; without them the rows are answered all the same.
    nobody = model.score(raw(examples, "dialogue", "turn"))
    alone = model.score(raw(examples))
    for other in (nobody, alone):
        assert (other["problem"] == "").all()
        assert np.abs(probabilities(other) - probabilities(answers)).max() > 1e-5


def test_the_command_takes_a_conversation_with_and_without_speakers(examples: Examples, folder: Path):
    rows = raw(examples, "dialogue")[:3]
    words = [part for row in rows for part in ("--text", row["text"])]
    asked = ["predict", *(row["video"] for row in rows), *words, "--dialogue", "--json", "--model", str(folder)]
    found = []
    for speakers in ([], ["--speaker", "a", "--speaker", "b", "--speaker", "a"]):
        done = CliRunner().invoke(main, [*asked, *speakers])
        assert done.exit_code == 0, done.output
        (answers,) = json.loads(done.output[done.output.index("{") :]).values()
        assert [answer["modalities"] for answer in answers] == ["audio+text"] * 3
        found.append([answer[f"probability_{EMOTION.classes[0]}"] for answer in answers])
    assert found[0] != found[1]
