"""Speech to text: what nobody says is no word, one language per recording, and the packaged Whisper hears the demo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demeanor.data.errors import MissingExtraError
from demeanor.data.utterances import make_table
from demeanor.features import recogniser, recognition, whisper_base
from demeanor.features.base import SAMPLE_RATE, Clip, Word
from demeanor.features.hub import EncoderError
from demeanor.features.recogniser import Recogniser, place_of, reach, whole_words
from demeanor.features.recognition import RecognitionSettings, fill_transcripts, recognise, recognise_all
from demeanor.features.sound import decode_audio
from demeanor.features.voice import Span
from tests.features.test_voice import CLIP, chords

pytest.importorskip("faster_whisper")
SAID = ["this", "match", "is", "really", "annoying", "it", "scares", "me"]


class Deaf(Recogniser):
    """Hears one word per stretch, its language, and takes everything for Dutch; remembers the sizes of its passes."""

    def knows(self, language: str) -> bool:
        return language != "eo"

    def hear(
        self, pieces: Sequence[np.ndarray], choose: Callable[[int, Callable[[], Mapping[str, float]]], str]
    ) -> Any:
        self.model["passes"].append(len(pieces))
        assert len({reach(len(piece)) for piece in pieces}) == 1
        shares = {"nl": self.model["nl"], "en": 1 - self.model["nl"]}
        return [[Word(choose(number, lambda: shares), 0.25, 99.0, 0.5)] for number in range(len(pieces))]


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Deaf:
    made = Deaf({"nl": 0.9, "passes": []}, "abc" * 20)
    monkeypatch.setattr(recognition, "load_recogniser", lambda model: made)
    monkeypatch.setattr(recognition, "voice_spans", lambda sound, rate, settings: spans_of(sound))
    return made


def spans_of(sound: np.ndarray) -> list[Span]:
    """One span of four seconds in every forty."""
    return [Span(float(start), start + 4.0) for start in range(1, len(sound) // SAMPLE_RATE - 4, 40)]


def test_stretches_share_passes_and_stand_where_they_were_said(deaf: Deaf):
    sounds = [np.zeros(seconds * SAMPLE_RATE, np.float32) for seconds in (90, 6, 3)]
    first, second, third = recognise_all([*sounds], RecognitionSettings(together=2), ["en", "de", "en"])
    assert [(word.start, word.end) for word in first.words] == [(1.25, 5.0), (41.25, 45.0), (81.25, 85.0)]
    assert (first.text, first.language, first.probability) == ("nl nl nl", "nl", 0.9)
    assert (second.text, third.text, third.language) == ("nl", None, "")
    assert deaf.model["passes"] == [2, 2]


def test_a_doubtful_language_gives_way_to_the_expected_one(deaf: Deaf):
    sound = np.zeros(6 * SAMPLE_RATE, np.float32)
    deaf.model["nl"] = 0.6
    assert recognise(sound, SAMPLE_RATE).language == "en"
    deaf.model["nl"] = 0.9
    assert recognise(sound, SAMPLE_RATE).language == "nl"
    assert recognise(sound, SAMPLE_RATE, RecognitionSettings(language="fr")).text == "fr"


def test_a_language_that_the_model_does_not_know(deaf: Deaf):
    sound = np.zeros(6 * SAMPLE_RATE, np.float32)
    deaf.model["nl"] = 0.6
    assert recognise(sound, SAMPLE_RATE, expected="eo").language == "nl"
    assert recognise(sound, SAMPLE_RATE, expected="en-US").language == "en"
    assert recognise(sound, SAMPLE_RATE, RecognitionSettings(language="DE_at")).language == "de"
    with pytest.raises(EncoderError, match="does not know the language 'eo'"):
        recognise(sound, SAMPLE_RATE, RecognitionSettings(language="eo"))


def test_given_text_wins_and_the_maker_is_told(deaf: Deaf):
    sound = np.full(6 * SAMPLE_RATE, 0.5, np.float32)
    clips = [Clip("a", text="given words", language="en", recorded=sound), Clip("b", recorded=sound), Clip("d")]
    rows = [
        {"utterance_id": c.utterance_id, "corpus": "x", "split": "train", "dialogue": "d", "turn": n, "text": c.text}
        for n, c in enumerate(clips)
    ]
    table, words = fill_transcripts(make_table(rows), clips, RecognitionSettings(model="mine"))
    assert table["text"][:2].tolist() == ["given words", "nl"]
    assert table["transcript"][:2].tolist() == ["corpus", "recognised by mine abcabcabcabc"]
    assert table["language"].tolist() == ["en", "nl", "en"]
    assert table["text"].isna().tolist() == table["transcript"].isna().tolist() == [False, False, True]
    assert {name: len(found) for name, found in words.items()} == {"b": 1}


def test_pieces_of_words_are_put_together():
    timing = [
        {"word": " Dad", "start": 0.0, "end": 0.2, "probability": 0.5},
        {"word": "'s", "start": 0.2, "end": 0.4, "probability": 1.0},
        {"word": " ", "start": 0.4, "end": 0.4, "probability": 0.0},
        {"word": " here.", "start": 0.5, "end": 0.8, "probability": 0.25},
    ]
    assert whole_words(timing) == [Word("Dad's", 0.0, 0.4, 0.75), Word("here.", 0.5, 0.8, 0.25)]
    assert [reach(SAMPLE_RATE * seconds) for seconds in (1, 8, 9, 13, 18, 25, 30)] == [10, 10, 15, 15, 20, 30, 30]


@pytest.mark.skipif(not recogniser.can_recognise(), reason="the packages with Whisper's weights are not installed")
def test_the_packaged_whisper_hears_the_demo_and_nothing_where_nothing_is_said():
    sound = decode_audio(CLIP, 0.0, None, SAMPLE_RATE)
    assert sound is not None
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE).astype(np.float32)
    nothing = [None, np.zeros(SAMPLE_RATE, np.float32), noise, chords(3.0)]
    answers = recognise_all([sound, *nothing], RecognitionSettings(), ["en"] * 5)
    said = answers[0]
    assert said.text is not None
    assert said.language == "en"
    heard = "".join(letter for letter in said.text.lower() if letter.isalpha() or letter == " ").split()
    assert len(set(heard) & set(SAID)) >= 3, said.text
    assert [word.text for word in said.words] == said.text.split()
    edges = [edge for word in said.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[-1] <= len(sound) / SAMPLE_RATE
    assert all(0 <= word.confidence <= 1 for word in said.words)
    assert [(one.text, one.words) for one in answers[1:]] == [(None, ())] * 4


def test_models_that_cannot_be_had_are_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(EncoderError, match="there is no such folder"):
        place_of(str(tmp_path / "nowhere"))
    with pytest.raises(EncoderError, match=r"has no model\.bin, no config\.json, no tokenizer\.json"):
        place_of(str(tmp_path))
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        recogniser.load_recogniser(str(tmp_path))
    with pytest.raises(EncoderError, match="neither from a local folder nor from the Hugging Face hub"):
        place_of("nobody/whisper-nothing")
    monkeypatch.setattr(whisper_base, "PARTS", ("no_such_package_1", "no_such_package_2"))
    whisper_base.recogniser_folder.cache_clear()
    with pytest.raises(whisper_base.WeightsError, match="not installed"):
        place_of("whisper-base")
    monkeypatch.setitem(__import__("sys").modules, "faster_whisper", None)
    with pytest.raises(MissingExtraError, match=r"demeanor\[speech\]"):
        recogniser.load_recogniser("another")
