"""Words by recognition: heard once, over the voice, and handed to utterances, spans and models."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from demeanor.data.bundle import BundleCard, InputSpecification
from demeanor.data.errors import MissingExtraError
from demeanor.data.provenance import Provenance
from demeanor.features.base import Word
from demeanor.features.recogniser import PIECE
from demeanor.features.recognition import Recognised, RecognitionSettings
from demeanor.inference.extraction import Extraction
from demeanor.inference.model import TrainedModel, score_together
from demeanor.timeline.given import GivenSpan
from demeanor.timeline.planning import Options
from demeanor.timeline.run import make_timeline
from demeanor.timeline.segments import TimedWord
from demeanor.timeline.words import (
    ADVICE,
    AROUND,
    LONGEST,
    Recogniser,
    _groups,
    _heard,
    _pieces,
    _sound,
    recogniser_of,
)
from tests.timeline.examples import RATE, SENTIMENT, silence, voice, write_wav
from tests.timeline.test_run import CountingScorer, make


class Dictation:
    """A recogniser that hears what a test says, and remembers over which stretches it was asked."""

    def __init__(self, *words: TimedWord, language: str = "en"):
        self.words, self.language, self.asked = words, language, []

    def __call__(self, path, spans, channel):
        self.asked.append((channel, [(span.start, span.end) for span in spans]))
        return list(self.words), self.language

    def recogniser(self) -> Recogniser:
        return Recogniser(self, "recognised by dictation")


def said(*entries: tuple[str, float]) -> list[TimedWord]:
    return [TimedWord(text, start, start + 0.3, 0.5 + 0.1 * n) for n, (text, start) in enumerate(entries)]


def test_words_are_cut_with_their_sentences_and_reach_the_models_and_the_table(tmp_path):
    dictation = Dictation(*said(("Gut.", 1.2), ("Und", 2.0), ("jetzt?", 2.4)), language="de")
    sound = np.concatenate([silence(1), voice(2), silence(1)])
    made, scorer = make(tmp_path, sound, recogniser=dictation.recogniser())
    assert [span.text for span in made.utterances] == ["Gut.", "Und jetzt?"]
    assert {(span.text_source, span.language) for span in made.utterances} == {("recognised by dictation", "de")}
    assert [span.text_confidence for span in made.utterances] == [pytest.approx(0.5), pytest.approx(0.65)]
    assert [(row["text"], row["language"]) for row in scorer.asked[0]] == [("Gut.", "de"), ("Und jetzt?", "de")]
    assert made.header.recognition == "recognised by dictation"
    ((channel, heard),) = dictation.asked
    assert channel is None
    assert heard == [(pytest.approx(1.0, abs=0.05), pytest.approx(3.0, abs=0.05))]


def test_given_words_win_and_what_has_them_is_not_heard(tmp_path):
    spans = [GivenSpan(0, 1, "a", "mine"), GivenSpan(1, 2, "b")]
    dictation = Dictation(*said(("wrong", 0.4), ("yours", 1.4)))
    made, _ = make(tmp_path, voice(3), spans=spans, recogniser=dictation.recogniser())
    assert [(span.text, span.text_source) for span in made.spans] == [
        ("mine", "given"), ("yours", "recognised by dictation")
    ]  # fmt: skip
    assert dictation.asked == [(None, [(1.0, 2.0)])]
    every = [GivenSpan(0, 1, "a", "mine")]
    made, _ = make(tmp_path, voice(3), spans=every, recogniser=dictation.recogniser())
    assert (made.header.recognition, len(dictation.asked)) == ("", 1)


def test_what_is_heard_on_a_channel_belongs_to_whoever_speaks_there(tmp_path):
    class Channels(Dictation):
        def __call__(self, path, spans, channel):
            super().__call__(path, spans, channel)
            return said((f"number-{channel}", 1.6)), "en"

    left, right = np.concatenate([voice(3), silence(1)]), np.concatenate([silence(1), voice(3, 220)])
    made, _ = make(tmp_path, left, right, speakers="channels", recogniser=Channels().recogniser())
    assert {span.speaker: span.text for span in made.utterances} == {"channel 1": "number-0", "channel 2": "number-1"}


def test_without_the_package_a_sentence_stands_in_the_header_and_the_rest_goes_on(tmp_path, monkeypatch):
    def missing(model: str, workers: int) -> str:
        raise MissingExtraError("speech recognition", "speech")

    monkeypatch.setattr("demeanor.features.recognition.maker_of", missing)
    made, _ = make(tmp_path, voice(2), recogniser="auto")
    assert made.header.remarks == (ADVICE,)
    assert made.spans[0].text is None
    assert made.spans[0].answers["sentiment"].answered
    with pytest.raises(MissingExtraError):
        recogniser_of("some-model", None)


def test_what_is_heard_at_once_is_short_apart_and_misses_no_voice(monkeypatch):
    assert LONGEST <= PIECE
    monkeypatch.setattr("demeanor.timeline.words.LONGEST", 13.0)
    sound = voice(100).astype(np.float32)
    sound[70 * RATE : 70 * RATE + 3200] = 0.0
    given = [(1.0, 3.0), (3.4, 20.0), (50.0, 63.5), (63.7, 99.0)]
    pieces = _pieces(sound, given)
    assert all(0 < sum(end - start for start, end in piece) <= 13.0 + 1e-6 for piece in pieces)
    parts = [part for piece in pieces for part in piece]
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(parts))
    for start, end in given:
        assert sum(max(min(end, last) - max(start, first), 0) for first, last in parts) == pytest.approx(end - start)
    assert sum(end - start for start, end in parts) <= 68.5 + 1e-6, "the long silence is not heard"
    assert any(70.0 < end < 70.2 for _, end in parts), "cut where it is quiet"


def test_words_stand_where_they_were_said_although_silence_is_left_out(monkeypatch):
    """A recogniser that finds a word in every tenth of a second that is loud."""
    asked = []

    def recognise_all(sounds, settings, expected, spans, workers):
        (sound,), ((*pieces,),) = sounds, spans
        asked.append((len(sound) / RATE, [(piece.start, piece.end) for piece in pieces]))
        loud = [n / 10 for n in range(len(sound) // 1600) if np.abs(sound[n * 1600 :][:1600]).max() > 0.01]
        return [Recognised("x", tuple(Word("x", start, start + 0.1, 0.5) for start in loud), "en", 1.0)]

    monkeypatch.setattr("demeanor.features.recognition.recognise_all", recognise_all)
    sound = np.concatenate([silence(5), voice(2), silence(9), voice(3), silence(4)]).astype(np.float32)
    heard = _heard(100.0, sound, [(5.0, 7.0), (16.0, 19.0)], RecognitionSettings(), 1)
    ((seconds, pieces),) = asked
    assert seconds == pytest.approx(5 + 4 * AROUND)
    assert pieces == [(0.0, pytest.approx(seconds))]
    times = np.array([(start, end) for _, start, end, _ in heard["words"]]) - 100
    assert ((times >= 4.8) & (times <= 7.2) | (times >= 15.8) & (times <= 19.2)).all()
    assert np.abs(times[:, 0, None] - [5.0, 6.9, 16.0, 18.9]).min(axis=0).max() < 0.2


def test_a_long_recording_is_held_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("demeanor.timeline.words.HELD", 4.0)
    path = write_wav(tmp_path / "long.wav", voice(20))
    spans = [GivenSpan(0, 1), GivenSpan(2, 3), GivenSpan(5, 19), GivenSpan(18, 20)]
    parts = [_sound(path, group, None) for group in _groups(spans)]
    assert max(len(samples) for _, samples, _ in parts) <= 4.5 * RATE
    assert sum(end - start for _, _, inside in parts for start, end in inside) == pytest.approx(17.0, abs=0.05)


def test_a_stopped_run_does_not_hear_again_what_it_has_heard(tmp_path, monkeypatch):
    monkeypatch.setattr("demeanor.timeline.words.HELD", 4.0)
    monkeypatch.setattr("demeanor.features.recognition.maker_of", lambda model, workers: f"recognised by {model}")
    heard = []

    def recognise_all(sounds, settings, expected, spans, workers):
        if len(heard) == 2:
            raise KeyboardInterrupt
        heard.append(settings.language)
        return [Recognised("Word.", (Word("Word.", 0.5, 0.9, 0.5),), "de", 0.9)]

    monkeypatch.setattr("demeanor.features.recognition.recognise_all", recognise_all)
    path, output = write_wav(tmp_path / "talk.wav", voice(12)), tmp_path / "out.json"
    options = Options(spans=[GivenSpan(n, n + 3) for n in (0, 4, 8)], recogniser="whisper-base")
    with pytest.raises(KeyboardInterrupt):
        make_timeline(path, CountingScorer(), options, output=output)
    assert len(list((tmp_path / ".out.json.words").iterdir())) == 2
    heard.clear()
    made = make_timeline(path, CountingScorer(), options, output=output)
    assert heard == ["de"], "the third part alone, in the language of the first"
    assert [span.text for span in made.spans] == ["Word."] * 3
    heard.clear()
    write_wav(path, 0.5 * voice(12))
    with pytest.raises(KeyboardInterrupt):
        make_timeline(path, CountingScorer(), options, output=output)
    assert heard == [None, "de"], "another recording is heard from its beginning"


def card(version: str = "1", recogniser: str = "auto") -> BundleCard:
    made = Provenance(extractor="e", version=version, licence="l")
    inputs = {"audio": InputSpecification(stream="audio.x", dimension=2, provenance=made)}
    return BundleCard(
        branch="a", system="late_fusion", settings={}, task=SENTIMENT, inputs=inputs, recogniser=recogniser
    )


def test_models_that_read_the_same_are_served_by_one_extraction():
    class Model(TrainedModel):
        """One whose answers say which extraction they were made from."""

        def __init__(self, extraction):
            self.extraction = extraction

        def answer(self, read, explained, anyway):
            return pd.DataFrame({"extraction": [read], "explained": [explained]})

    class Counting(Extraction):
        def __call__(self, rows, words=True, beside=False):
            asked.append(self)
            return len(asked)

    asked: list[Extraction] = []
    models = [Model(Counting(one)) for one in (card(), card(), card("2"), card(recogniser="none"), card())]
    answers = score_together(models, [{}], [True, False, False, False, True])
    assert [tuple(answer.iloc[0]) for answer in answers] == [
        (1, True), (1, False), (2, False), (3, False), (1, True)
    ]  # fmt: skip
