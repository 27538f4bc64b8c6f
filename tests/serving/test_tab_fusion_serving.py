"""A TAB fusion bundle scores a dialogue of raw clips: words, speech codes and neighbours are made as in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demeanor.checkpoints.speech_tokens import import_speech_tokens
from demeanor.data.bundle import Bundle
from demeanor.data.examples import Examples
from demeanor.data.utterances import make_table
from demeanor.features import find_extractor
from demeanor.features.base import Clip
from demeanor.features.clips import clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.inference.model import TrainedModel
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings
from tests.checkpoints.test_speech_tokens import PAIRS, release
from tests.project import DEMO
from tests.toy import EMOTION, toy_score

CLIPS = (
    sorted((DEMO / "Raw" / "synthetic_01").glob("*.mp4"))[:6]
    + sorted((DEMO / "Raw" / "synthetic_02").glob("*.mp4"))[:4]
)
SAID = ["what a lovely day", "this is awful", "are you sure", "well"]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The imported folder of a small release."""
    folder = tmp_path_factory.mktemp("speech")
    checkpoint = release(folder / "codes") / "vq-wav2vec_kmeans.pt"
    heard = find_extractor("vq_wav2vec_codes", {"checkpoint": str(checkpoint)}).extract(
        [Clip(path.stem, media=path) for path in CLIPS[:3]]
    )
    pairs = dict.fromkeys(f"{one}-{two}" for one, two in np.concatenate(heard).tolist())
    listed = [*pairs, *(pair for pair in PAIRS if pair not in pairs)][: len(PAIRS)]
    import_speech_tokens(release(folder / "release", pairs=listed)).save(folder / "imported")
    return folder / "imported"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory, speech: Path) -> Examples:
    folder = tmp_path_factory.mktemp("features")
    rows = [
        {
            "utterance_id": f"{path.parent.name}_{path.stem}", "corpus": "demo-synthetic",
            "split": "train" if path.parent.name == "synthetic_01" else "valid", "dialogue": path.parent.name,
            "turn": int(path.stem), "text": None if n == 2 else SAID[n % 4], "media": str(path.relative_to(DEMO)),
            "emotion": EMOTION.classes[n % 3],
        }
        for n, path in enumerate(CLIPS)
    ]  # fmt: skip
    table = make_table(rows)
    codes = {"checkpoint": str(speech / "vq_wav2vec.safetensors"), "dictionary": str(speech / "dict.txt")}
    window = {"model": "minilm", "pooling": "mean", "normalise": True, "before": 2, "after": 2}
    requests = {
        "text.tokens": StreamRequest(extractor="hf_tokens", parameters={"model": "minilm"}),
        "audio.tokens": StreamRequest(extractor="vq_wav2vec_ids", parameters=codes),
        "text.context": StreamRequest(extractor="hf_context", parameters=window),
    }
    streams, _ = extract_streams(clips_of(table, DEMO), requests, folder / "cache", folder / "out", 1, progress=False)
    return Examples.of(table, streams)


@pytest.fixture(scope="module")
def bundle(examples: Examples, speech: Path) -> Bundle:
    settings = BranchSettings(
        system="tab_fusion",
        task="emotion",
        streams={"text": "text.tokens", "audio": "audio.tokens", "context": "text.context"},
        model={"speech_encoder": str(speech)},
        recogniser="none",
        training={"epochs": 2, "batch_size": 4, "threads": 1},
    )
    return fit("tab", settings, EMOTION, examples, 1, toy_score, progress=False).bundle


def raw(examples: Examples) -> list[dict[str, Any]]:
    return [
        {
            "utterance_id": row.utterance_id, "video": str(DEMO / row.media), "dialogue": row.dialogue,
            "turn": row.turn, **({"text": row.text} if isinstance(row.text, str) else {}),
        }
        for row in examples.utterances.itertuples()
    ]  # fmt: skip


def probabilities(answers) -> np.ndarray:
    return answers[[f"probability_{name}" for name in EMOTION.classes]].to_numpy(dtype=float)


def test_a_dialogue_of_raw_clips(examples: Examples, bundle: Bundle, tmp_path: Path):
    bundle.save(tmp_path / "bundle")
    model = TrainedModel.load(tmp_path / "bundle")
    rows = raw(examples)
    answers = model.score(rows)
    assert (answers["problem"] == "").all()
    assert answers["modalities"].tolist() == ["audio" if n == 2 else "audio+text" for n in range(len(rows))]
    logits = model.predict(examples)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(answers), expected, atol=1e-4)
    # A neighbour's words are heard within two turns and not beyond, nor in the other dialogue.
    rows[0]["text"] = "I hate every minute of it"
    changed = np.abs(probabilities(model.score(rows)) - probabilities(answers)).max(axis=1) > 1e-6
    assert changed.tolist() == [True, True, False, False, False, False] + [False] * 4


def test_rows_that_lack_what_training_had(examples: Examples, bundle: Bundle):
    rows = raw(examples)[:1]
    alone = [{"text": "well"}, {"video": rows[0]["video"]}, {"text": " "}]
    answers = TrainedModel.load(bundle).score(alone)
    assert answers["modalities"].tolist()[:2] == ["text", "audio"]
    assert np.isfinite(probabilities(answers)[:2]).all()
    assert "nothing in it that this model reads" in answers["problem"].iloc[2]
