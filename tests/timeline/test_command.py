"""`demeanor timeline` and `demeanor predict --output`, and the conversation that the demo's generator makes."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from demeanor.__main__ import main
from demeanor.corpora.demo.conversation import course, make_conversation
from demeanor.corpora.demo.face import FRAME_RATE
from demeanor.corpora.demo.long import make_long
from demeanor.corpora.demo.synthesiser import library_name
from demeanor.features.media import decode_frames, probe
from demeanor.features.sound import decode_audio
from demeanor.timeline.formats import read_spans
from demeanor.timeline.planning import Options
from demeanor.timeline.run import make_timeline
from tests.timeline.examples import RATE, voice, write_wav
from tests.timeline.test_collection import NamingScorer
from tests.timeline.test_run import CountingScorer


class Loaded:
    """Stands for demeanor.analyser.Demeanor: no weights."""

    def __init__(self, *models):
        self.scorer, self.bundles = NamingScorer(), {}

    def timeline(self, recording, **keywords):
        output = keywords.pop("output")
        return make_timeline(recording, CountingScorer(), Options(**keywords), output=output)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("demeanor.analyser.Demeanor", Loaded)
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "talk.wav", voice(2))
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


def test_every_output_is_written_and_the_summary_told(run, tmp_path):
    chosen = ("--model", "x", "--voice", "energy", "--words", "none")
    result = run("timeline", "talk.wav", *chosen, "--output", "a.json", "--output", "b.vtt", "--output", "c.html")
    assert result.exit_code == 0, result.output
    assert "times real time" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.vtt", "c.html", "talk.wav"}


@pytest.mark.parametrize(
    "words",
    [
        ("timeline", "nowhere.wav", "--model", "x"),
        ("timeline", "talk.wav", "--model", "x", "--output", "a.doc"),
        ("timeline", "talk.wav", "--model", "x", "--output", "talk.wav"),
        ("timeline", "talk.wav", "--model", "x", "--spans", "nowhere.eaf"),
        ("predict", ".", "--model", "x"),
        ("predict", "nowhere", "--model", "x", "--output", "a.csv"),
        ("predict", ".", "--model", "x", "--output", "a.doc"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_leaves_nothing(run, tmp_path, words):
    result = run(*words)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit)
    assert "Error" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"talk.wav"}


def test_standard_input_is_scored_as_it_comes(run, tmp_path):
    chosen = ("live", "-", "--model", "x", "--voice", "energy", "--step", "1", "--rate", "8000")
    result = CliRunner().invoke(main, chosen, input=(tmp_path / "talk.wav").read_bytes())
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [["0.0", "to", "1.0", "s"], ["0.0", "to", "2.0", "s"]]
    result = CliRunner().invoke(main, chosen, input=(tmp_path / "talk.wav").read_bytes()[44:])
    assert len(result.output.splitlines()) == 1 + 4, "as bare samples of 8 kHz it is twice as long"


def test_a_folder_is_scored_into_a_table(run):
    result = run("predict", ".", "--model", "x", "--output", "answers.csv", "--processes", 1)
    assert result.exit_code == 0, result.output
    assert pd.read_csv("answers.csv")["file"].tolist() == ["talk.wav"]


def test_the_planted_course_falls_and_rises_again():
    values = course(21)
    assert (values[0], values[10], values[20]) == (2.2, -2.2, 2.2)


@pytest.mark.skipif(library_name() is None, reason="espeak-ng is not installed")
def test_planted_turns_are_found_again(tmp_path, monkeypatch):
    def grey(planted, cast, samples, duration, random):
        """Its faces, which cost most of the time that it takes to make, are not looked at here."""
        return [np.full((32, 32, 3), 128, np.uint8)] * round(duration * FRAME_RATE)

    monkeypatch.setattr("demeanor.corpora.demo.conversation._pictures", grey)
    planted = make_conversation(tmp_path / "talk.mp4", turns=6, people=2)
    options = Options(speakers=tmp_path / "talk.rttm", recogniser="none")
    made = make_timeline(tmp_path / "talk.mp4", CountingScorer(), options)
    assert made.header.duration == pytest.approx(planted.duration, abs=0.1)
    found = [(span.start, span.end, span.speaker) for span in made.utterances]
    assert [who for _, _, who in found] == [turn.speaker for turn in planted.turns]
    edges = np.array([(start, end) for start, end, _ in found])
    truth = np.array([(turn.start, turn.end) for turn in planted.turns])
    assert np.abs(edges - truth).max() < 0.35
    quiet = planted.silence
    assert all(end <= quiet[0] + 0.3 or start >= quiet[1] - 0.3 for start, end, _ in found)
    assert [span.overlap > 0 for span in made.utterances] == [False, False, True, True, False, False]
    _joined_twice(tmp_path, planted)


def _joined_twice(tmp_path, part):
    """A long recording holds its parts at the times that its truth says; those that are there are not made again."""
    parts = tmp_path / "parts"
    parts.mkdir()
    for ending in (".mp4", ".json"):
        shutil.copy(tmp_path / f"talk{ending}", parts / f"conversation_6_1{ending}")
    made = make_long(tmp_path / "long.mp4", part.duration + 1, parts, count=1, turns=6)
    assert made.duration == pytest.approx(2 * part.duration, abs=0.002)
    assert [turn.start for turn in made.turns[6:]] == pytest.approx(
        [turn.start + part.duration for turn in part.turns], abs=0.002
    )
    assert (made.turns[:6], len(made.silences), len(made.faceless)) == (part.turns, 2, 2)
    info = probe(tmp_path / "long.mp4")
    assert info.duration == pytest.approx(made.duration, abs=0.1)
    whole, once = decode_audio(tmp_path / "long.mp4"), decode_audio(tmp_path / "talk.mp4")
    shift = round(round(part.duration, 3) * RATE)
    for turn in part.turns:
        first, last = round(turn.start * RATE), round(turn.end * RATE)
        for start in (0, shift):
            assert np.corrcoef(once[first:last], whole[first + start : last + start])[0, 1] > 0.99
    pictures = sum(1 for _ in decode_frames(tmp_path / "long.mp4"))
    assert pictures == round(2 * part.duration * FRAME_RATE)
    who = read_spans(tmp_path / "long.rttm")
    assert [(span.start, span.speaker) for span in who[6:7]] == [(made.turns[6].start, made.turns[6].speaker)]
