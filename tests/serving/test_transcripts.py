"""Rows without text: which of them are listened to, and what is told of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demeanor.data.bundle import BundleCard, InputSpecification
from demeanor.data.provenance import Provenance
from demeanor.data.raw_rows import Conversation
from demeanor.features import recogniser, recognition
from demeanor.features.base import SAMPLE_RATE, Clip, Word
from demeanor.features.hub import EncoderError
from demeanor.features.recognition import Recognised
from demeanor.inference.transcripts import ADVICE, Transcriber, with_text, with_transcript
from tests.toy import SENTIMENT

SOUND = np.full(SAMPLE_RATE, 0.5, np.float32)
WORDS = (Word("goed", 0.1, 0.3, 0.9), Word("zo", 0.3, 0.5, 0.8))


def card(stream: str = "text.words", recogniser: str = "auto") -> BundleCard:
    made = Provenance(extractor="hf_words", version="1")
    return BundleCard(
        branch="a", system="text_only", settings={}, task=SENTIMENT, languages=("en",), recogniser=recogniser,
        inputs={"one": InputSpecification(stream=stream, dimension=4, provenance=made)},
    )  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, list[str]]]:
    """What the recogniser was asked: the model, the language that is given, the expected ones."""
    calls = []

    def recognise_all(sounds, settings, expected):
        calls.append((settings.model, settings.language, expected))
        return [Recognised("goed zo", WORDS, settings.language or "nl", 0.9) for _ in sounds]

    monkeypatch.setattr(recognition, "recognise_all", recognise_all)
    monkeypatch.setattr(recognition, "maker_of", lambda model: f"recognised by {model} abc")
    monkeypatch.setattr(recogniser, "can_recognise", lambda: True)
    return calls


CLIPS = {
    "given": Clip("given", text="hello", recorded=SOUND), "heard": Clip("heard", recorded=SOUND),
    "dutch": Clip("dutch", recorded=SOUND), "silent": Clip("silent", recorded=0 * SOUND), "none": Clip("none"),
}  # fmt: skip


def test_only_sound_without_text_is_listened_to_and_a_foreign_language_is_told(asked: list):
    found = Transcriber(card())(CLIPS, {"dutch": "nl"})
    assert list(found) == ["heard", "dutch"]
    assert found["heard"].source == "recognised by whisper-base abc (nl)"
    assert found["heard"].note == "the words are in 'nl', the model was trained on en"
    assert asked == [("whisper-base", None, ["en"]), ("whisper-base", "nl", ["nl"])]
    clip = CLIPS["heard"]
    assert clip.waveform is not None
    new = with_transcript(clip, found["heard"], Conversation(("goed zo",)))
    assert (new.text, new.words, new.alignment, new.dialogue) == ("goed zo", WORDS, "recognised", ("goed zo",))
    assert new.waveform is clip.waveform, "sound is decoded once"
    table = pd.DataFrame({"utterance_id": list(CLIPS), "text": ["hello", None, None, None, None], "language": "en"})
    table = with_text(table.astype({"text": "str"}), found)
    assert table["text"].fillna("").tolist() == ["hello", "goed zo", "goed zo", "", ""]
    assert table["language"].tolist() == ["en", "nl", "nl", "en", "en"]


def test_a_model_without_words_or_with_none_listens_to_nothing(asked: list):
    assert Transcriber(card("audio.frames"))(CLIPS, {}) == {}
    assert Transcriber(card(recogniser="none"))(CLIPS, {}) == {}
    assert not asked


def test_without_packages_or_model_the_answer_comes_from_the_rest_and_says_why(
    asked: list, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recogniser, "can_recognise", lambda: False)
    found = Transcriber(card())(CLIPS, {})
    assert {name: (one.text, one.note) for name, one in found.items()} == {
        "heard": (None, ADVICE), "dutch": (None, ADVICE)
    }  # fmt: skip

    def refuse(*given):
        raise EncoderError("recogniser 'mine': there is no such folder.\nGive another.")

    monkeypatch.setattr(recognition, "recognise_all", refuse)
    found = Transcriber(card(recogniser="mine"))({"heard": CLIPS["heard"]}, {})
    assert found["heard"].note == "without words: recogniser 'mine': there is no such folder. Give another."

    def picky(sounds, settings, expected):
        if settings.language is not None:
            raise EncoderError(f"recogniser 'mine' does not know the language '{settings.language}'")
        return [Recognised("goed zo", WORDS, "nl", 0.9) for _ in sounds]

    monkeypatch.setattr(recognition, "recognise_all", picky)
    found = Transcriber(card(recogniser="mine"))(CLIPS, {"dutch": "eo"})
    assert found["heard"].text == "goed zo", "one row's language is no other's fault"
    assert found["dutch"].note == "without words: recogniser 'mine' does not know the language 'eo'"
