"""Nodes of ingestion and feature_engineering that pass something on from one modality to another."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from demeanor.corpora.base import Card, Corpus
from demeanor.data.errors import DemeanorError
from demeanor.data.utterances import make_table
from demeanor.features import whisper_base
from demeanor.features.base import Word
from demeanor.features.recogniser import Recogniser
from demeanor.features.recognition import Recognised, RecognitionSettings
from demeanor.pipelines.feature_engineering import nodes as feature_nodes
from demeanor.pipelines.ingestion import nodes as ingestion_nodes
from tests.features.media_samples import voice, write_recording

WORDS_PER_CLIP = {"a": "one two three", "b": "four five"}


@pytest.fixture
def spoken(tmp_path: Path) -> tuple[pd.DataFrame, Path]:
    """Three recordings; what is said in the third is not known."""
    rows = []
    for turn, (name, text) in enumerate({**WORDS_PER_CLIP, "c": None}.items()):
        write_recording(tmp_path / f"{name}.wav", voice(1.0, pitch=120 + 20 * turn), audio_codec="pcm_s16le")
        rows.append(
            {
                "utterance_id": name, "corpus": "made", "split": "train", "dialogue": "d", "turn": turn, "text": text,
                "media": f"{name}.wav",
            }
        )  # fmt: skip
    return make_table(rows), tmp_path


def test_times_of_words_made_from_text_reach_the_audio_streams(spoken: tuple[pd.DataFrame, Path], tmp_path: Path):
    table, root = spoken
    settings = feature_nodes.FeatureSettings.model_validate(
        {
            "text": {"text.word_times": {"extractor": "uniform_word_times"}},
            "audio": {"audio.words": {"extractor": "per_word", "parameters": {"extractor": "librosa_frames"}}},
            "workers": 1,
        }
    )
    where = (str(root), settings, str(tmp_path / "streams"), str(tmp_path / "cache"), {})
    text = feature_nodes.extract_text(table, {}, *where)
    audio = feature_nodes.after_text("audio")(table, {}, text, *where)
    lengths = {name: len(audio["audio.words"].ragged[name]) for name in table["utterance_id"]}
    assert lengths == {"a": 3, "b": 2, "c": 0}
    alone = (str(root), settings, str(tmp_path / "alone"), *where[3:])
    without = feature_nodes.after_text("audio")(table, {}, {}, *alone)
    assert not len(without["audio.words"].ragged.values)


def test_a_stream_may_wait_until_a_branch_reads_it(
    spoken: tuple[pd.DataFrame, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One that wants weights which not everybody has does not stop a run that never reads it; one that does is told in
    a line what to install."""
    table, root = spoken
    monkeypatch.setattr("demeanor.features.whisper_base.PARTS", ("no_such_part_one", "no_such_part_two"))
    monkeypatch.setattr("demeanor.features.speech.resolve", lambda model: whisper_base._data(0))
    waiting = {"extractor": "hf_speech_statistics", "when_read": True}
    settings = feature_nodes.FeatureSettings.model_validate({"audio": {"audio.speech": waiting}, "workers": 1})
    where = (str(root), settings, str(tmp_path / "streams"), str(tmp_path / "cache"))
    branch = {"system": "audio_only", "streams": {"audio": "audio.speech"}}
    stands_ready = {"speech": {**branch, "enabled": False}}
    assert set(feature_nodes.after_text("audio")(table, {}, {}, *where, stands_ready)) == set()
    with pytest.raises(DemeanorError, match="pip install 'demeanor\\[speech\\]'"):
        feature_nodes.after_text("audio")(table, {}, {}, *where, {"speech": branch})


def test_only_missing_transcripts_are_recognised(
    spoken: tuple[pd.DataFrame, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    table, root = spoken
    corpus = Corpus("made", table, root, Card("Made"))
    assert ingestion_nodes.recognise_speech(corpus, table, ingestion_nodes.SpeechRecognition())[0] is table
    asked = []

    def heard(clips, settings):
        asked.extend(clip.utterance_id for clip in clips)
        words = tuple(Word(word, 0.1 * n, 0.1 * n + 0.1, 0.9) for n, word in enumerate(["what", "was", "heard"]))
        return [Recognised("what was heard", words, "nl", 0.9) for _ in clips]

    monkeypatch.setattr("demeanor.features.recognition.transcribe", heard)
    monkeypatch.setattr("demeanor.features.recognition.load_recogniser", lambda model: Recogniser(None, "abc" * 20))
    settings = ingestion_nodes.SpeechRecognition(whisper=RecognitionSettings(model="minilm"))
    with caplog.at_level("INFO"):
        filled, streams = ingestion_nodes.recognise_speech(corpus, table, settings)
    assert asked == ["c"]
    assert filled["text"].tolist() == [*WORDS_PER_CLIP.values(), "what was heard"]
    assert filled["transcript"][0] == "corpus"
    assert filled["transcript"][2].startswith("recognised by minilm")
    assert "1 of 3 transcripts were recognised by minilm" in caplog.text
    assert filled["language"].tolist() == ["en", "en", "nl"]
    times = streams["text.word_times"]
    assert (times.provenance.alignment, times.provenance.weights_sha256) == ("recognised", "abc" * 20)
    assert {name: len(times.ragged[name]) for name in filled["utterance_id"]} == {"a": 0, "b": 0, "c": 3}
    decoded, _ = ingestion_nodes.decode_audio_tracks(corpus, filled.assign(media=None), streams, "", "", "1")
    assert decoded["text.word_times"] is times
