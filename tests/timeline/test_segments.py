"""Cutting: what an utterance may cross, how long it is, who speaks over whom."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.timeline.given import GivenSpan
from demeanor.timeline.hearing import Hearing, energy, hear, loud_spans
from demeanor.timeline.segments import TimedWord, turns_of, utterances_of, windows_of
from tests.timeline.examples import silence, voice, write_wav


def times(pieces):
    return [(round(piece.start, 3), round(piece.end, 3)) for piece in pieces]


def said(text: str, start: float, pace: float = 0.4) -> list[TimedWord]:
    return [TimedWord(word, start + n * pace, start + n * pace + 0.3) for n, word in enumerate(text.split())]


def test_short_pauses_are_joined_and_half_a_second_of_silence_ends_an_utterance():
    turns = [GivenSpan(0.0, 1.0), GivenSpan(1.3, 2.0), GivenSpan(2.5, 3.0), GivenSpan(4.0, 4.1)]
    assert times(utterances_of(turns)) == [(0.0, 2.0), (2.5, 3.0)]


def test_no_utterance_crosses_a_change_of_speaker():
    turns = [GivenSpan(0, 2, "a"), GivenSpan(2.0, 2.4, "b"), GivenSpan(2.3, 4, "a")]
    found = utterances_of(turns)
    assert [(piece.speaker, piece.start) for piece in found] == [("a", 0), ("b", 2.0), ("a", 2.3)]
    assert found[1].overlap == pytest.approx(0.25)
    assert found[0].overlap == 0.0


def test_ends_of_sentences_cut_and_words_go_with_their_sentence():
    words = said("I like it. Do you? I see", 0.0)
    found = utterances_of([GivenSpan(0.0, 3.0)], words)
    assert [piece.text for piece in found] == ["I like it.", "Do you?", "I see"]
    assert times(found) == [(0.0, 1.15), (1.15, 1.95), (1.95, 3.0)]


def test_a_long_sentence_is_cut_at_its_longest_pause_and_one_without_a_pause_gets_windows():
    words = [*said("one two three", 0.0, 3.0), *said("four five six seven", 9.5, 3.0)]
    found = utterances_of([GivenSpan(0.0, 20.0)], words)
    assert all(0.25 <= piece.seconds <= 15 for piece in found)
    (whole,) = utterances_of([GivenSpan(1.0, 21.0)])
    windows = windows_of(whole)
    assert times(windows) == [(1, 4), (1, 7), (1, 10), (3, 13), (6, 16), (9, 19), (11, 21)]
    assert all(window.seconds <= 10 for window in windows)
    assert windows_of(utterances_of([GivenSpan(0.0, 15.0)])[0]) == []


def test_speakers_are_narrowed_to_where_a_voice_is():
    voice = [GivenSpan(0.5, 2.0), GivenSpan(4.0, 5.0)]
    turns = turns_of(voice, [GivenSpan(0, 4.5, "a"), GivenSpan(4.5, 6, "b"), GivenSpan(8, 9, "c")])
    assert [(turn.start, turn.end, turn.speaker) for turn in turns] == [
        (0.5, 2.0, "a"), (4.0, 4.5, "a"), (4.5, 5.0, "b"), (8, 9, "c")
    ]  # fmt: skip


def test_voice_is_found_in_blocks_as_in_the_whole_and_no_more_than_a_block_is_held(tmp_path, monkeypatch):
    parts = [silence(1), voice(2), silence(1.5), voice(4), silence(0.5), voice(1), silence(2), voice(3), silence(1)]
    path = write_wav(tmp_path / "talk.wav", np.concatenate(parts))
    whole = hear(path, energy())
    held = []

    def detect(samples, rate):
        held.append(len(samples) / rate)
        return loud_spans(samples, rate)

    monkeypatch.setattr("demeanor.timeline.hearing.BLOCK", 2.0)
    found = hear(path, Hearing(detect, "energy"))
    assert (found.seconds, whole.seconds) == (pytest.approx(16.0), pytest.approx(16.0))
    assert len(held) > 4
    assert max(held) < 2 * 2.0 + 1.0
    first, second = (
        np.concatenate([np.arange(round(span.start * 50), round(span.end * 50)) for span in one.spans])
        for one in (found, whole)
    )
    assert len(np.setxor1d(first, second)) < 0.05 * len(second)
