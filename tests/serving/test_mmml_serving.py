"""MMML from a folder of recordings to the registry: what cannot be read is named, the rest is scored as it is."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demeanor.corpora.base import CorpusSettings
from demeanor.corpora.doctor import DoctorSettings
from demeanor.data.bundle import Bundle
from demeanor.data.cells import VARIABLE
from demeanor.data.examples import Examples
from demeanor.features.clips import clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.inference.model import TrainedModel
from demeanor.models.mmml.system import MMML
from demeanor.pipelines.ingestion.nodes import examine_corpus, keep_usable, probe_media
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.store import empty_store
from tests.toy import SENTIMENT, toy_score

RATE = 16_000
STREAMS = {
    "text.tokens": StreamRequest(extractor="hf_tokens", parameters={"model": "minilm"}),
    "audio.waveform": StreamRequest(extractor="waveform"),
}


def write_wav(path: Path, seconds: float, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 2000, round(seconds * RATE)).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory) -> Path:
    """Ten clips in capitals: one wav is no wav, one is empty, one transcript is empty, one clip lasts ten minutes."""
    root = tmp_path_factory.mktemp("corpus")
    rows = []
    for n in range(10):
        write_wav(root / "wav" / "video" / f"{n}.wav", 600.0 if n == 3 else 0.5 + 0.1 * n, n)
        text = "" if n == 2 else "I LOVED IT" if n % 2 else "IT WAS DULL"
        rows.append({"video_id": "video", "clip_id": n, "text": text, "label": 1.0 if n % 2 else -1.0,
                     "mode": "valid" if n % 5 == 4 else "train"})  # fmt: skip
    (root / "wav/video/5.wav").write_bytes(b"this is no sound")
    (root / "wav/video/6.wav").write_bytes(b"")
    pd.DataFrame(rows).to_csv(root / "label.csv", index=False)
    return root


@pytest.fixture(scope="module")
def examples(corpus_folder: Path, tmp_path_factory) -> Examples:
    """What the pipelines hand to training."""
    folder = tmp_path_factory.mktemp("features")
    settings = CorpusSettings(reader="label_csv", options={"path": str(corpus_folder), "letters": "sentence"})
    corpus = settings.read(folder / "read")
    doctor = DoctorSettings(bad_share=0.5)
    report, _, text = examine_corpus(corpus, probe_media(corpus), doctor)
    assert set(report.set_aside) == {"video_5", "video_6"}
    assert "cannot be decoded" in report.set_aside["video_5"]
    assert report.set_aside["video_6"] == "recording is an empty file"
    assert "too long for its transcript" in text  # the ten minutes
    assert "there is no transcript" in text
    usable = keep_usable(corpus, report, doctor)
    assert "I loved it" in set(usable["text"].dropna())
    streams, _ = extract_streams(clips_of(usable, corpus.root), STREAMS, folder / "cache", folder / "out", 1)
    return Examples.of(usable, streams)


@pytest.fixture(scope="module")
def bundle(examples: Examples) -> Bundle:
    """Tiny encoders, the 30 522 word pieces of MiniLM's tokenizer; 0.05 s of sound are read."""
    tiny = MMML.tiny().as_dict()
    tiny["text_configuration"] |= {"vocab_size": 30_522}
    settings = BranchSettings(
        system="mmml", streams={"text": "text.tokens", "audio": "audio.waveform"}, model=tiny,
        training=TrainingSettings(epochs=2, batch_size=4, threads=1, device="cpu"),
    )  # fmt: skip
    return fit("mmml", settings, SENTIMENT, examples, 1, toy_score, progress=False).bundle


def test_training_goes_through_and_knows_what_was_missing(examples: Examples, bundle: Bundle):
    lengths = {
        name: dict(zip(examples.ids, stream.ragged.lengths, strict=True)) for name, stream in examples.streams.items()
    }
    assert lengths["text.tokens"]["video_2"] == 0
    assert lengths["audio.waveform"]["video_3"] == 600 * RATE
    assert np.isfinite(list(bundle.card.metrics.values())).all()
    assert bundle.card.inputs["audio"].max_length == 800


@pytest.fixture
def rows(corpus_folder: Path) -> list[dict]:
    audio = corpus_folder / "wav/video"
    return [
        {"utterance_id": "whole", "text": "I loved it", "audio": str(audio / "1.wav")},
        {"utterance_id": "no words", "text": "", "audio": str(audio / "1.wav")},
        {"utterance_id": "no sound", "text": "I loved it"},
        {"utterance_id": "unreadable", "text": "I loved it", "audio": str(audio / "5.wav")},
        {"utterance_id": "empty file", "text": "I loved it", "audio": str(audio / "6.wav")},
        {"utterance_id": "ten minutes", "text": "It was dull", "audio": str(audio / "3.wav")},
        {"utterance_id": "nothing"},
    ]


def test_each_row_is_scored_or_says_why_not(bundle: Bundle, rows: list[dict]):
    answers = TrainedModel.load(bundle).score(rows).set_index("utterance_id")
    assert answers["modalities"].to_dict() == {
        "whole": "audio+text", "no_words": "audio", "no_sound": "text", "unreadable": "text", "empty_file": "text",
        "ten_minutes": "audio+text", "nothing": "",
    }  # fmt: skip
    faultless = answers["problem"] == ""
    assert list(answers.index[faultless]) == ["whole", "no_words", "no_sound", "ten_minutes"]
    sentiment = answers["sentiment"].astype(float)
    assert list(answers.index[sentiment.isna()]) == ["nothing"]
    assert np.isfinite(sentiment.drop("nothing")).all()
    # A broken sound costs the sound and not the words, which are answered as if there had been none; and it is told.
    for name, file in (("unreadable", "5.wav"), ("empty_file", "6.wav")):
        assert sentiment[name] == pytest.approx(sentiment["no_sound"], abs=1e-6)
        assert answers.loc[name, "problem"].startswith("without audio: ")
        assert file in answers.loc[name, "problem"]
    assert "not a readable recording" in answers.loc["unreadable", "problem"]
    assert "nothing in it that this model reads" in answers.loc["nothing", "problem"]


def test_the_registered_model_gives_the_same_answers(bundle: Bundle, rows: list[dict], tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    from demeanor.serving.locating import load_bundle
    from demeanor.serving.registry import register

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(Path(rows[0]["audio"]).parent))
    former = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(empty_store(tmp_path / "store.db"))
    try:
        with mlflow.start_run():
            made = register(bundle, "demeanor-toy-sentiment", {"system": "mmml"}, {"MAE": 1.0}, rows[0])
        expected = TrainedModel.load(bundle).score(rows)
        served = mlflow.pyfunc.load_model(made["uri"]).predict(pd.DataFrame(rows))
        loaded = TrainedModel.load(load_bundle(made["uri"])).score(rows)
    finally:
        mlflow.set_tracking_uri(former)
    for answers in (served, loaded):
        np.testing.assert_allclose(answers["sentiment"].astype(float), expected["sentiment"].astype(float), atol=1e-6)
        assert [bool(problem) for problem in answers["problem"]] == [bool(problem) for problem in expected["problem"]]
