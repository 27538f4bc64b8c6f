"""A recording in, a timeline out: with a scorer that needs no weights, so that what is tested is the way there."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from demeanor.data.errors import InputError
from demeanor.features.media import MediaError
from demeanor.timeline.given import GivenSpan
from demeanor.timeline.planning import Options
from demeanor.timeline.run import make_timeline
from demeanor.timeline.table import ModelHeader
from tests.timeline.examples import RATE, SENTIMENT, silence, voice, write_wav


class CountingScorer:
    """Answers with the length of each row's span; remembers what it was asked."""

    in_dialogue = False
    headers = (
        ModelHeader(
            uri="m", branch="b", system="s", weights_sha256="x", task=SENTIMENT,
            extractors={"audio.functionals": "x", "text.words": "x"},
        ),
    )  # fmt: skip

    def __init__(self):
        self.asked = []

    def score(self, rows):
        self.asked.append(list(rows))
        values = [min(row["end"] - row["start"], 3.0) for row in rows]
        used = ["audio+text" if row["text"] else "audio" for row in rows]
        names = [row["utterance_id"] for row in rows]
        return [pd.DataFrame({"utterance_id": names, "sentiment": values, "modalities": used, "problem": ""})]


def make(tmp_path, *sounds, **options):
    path = write_wav(tmp_path / "talk.wav", *sounds)
    scorer = CountingScorer()
    return make_timeline(path, scorer, Options(**{"voice": "energy", "recogniser": "none", **options})), scorer


def test_utterances_are_found_scored_and_say_what_was_missing(tmp_path):
    sound = np.concatenate([silence(1), voice(2), silence(0.3), voice(1), silence(1.2), voice(2), silence(1)])
    made, scorer = make(tmp_path, sound)
    assert [(span.start, span.end) for span in made.spans] == [
        (pytest.approx(1.0, abs=0.05), pytest.approx(4.3, abs=0.05)),
        (pytest.approx(5.5, abs=0.05), pytest.approx(7.5, abs=0.05)),
    ]
    assert made.spans[1].answers["sentiment"].value == pytest.approx(2.0, abs=0.1)
    assert made.spans[0].absent == {"text": "no words are known"}
    assert made.header.duration == pytest.approx(8.5, abs=0.01)
    assert len(made.header.sha256) == 64
    assert "cannot tell a voice from music" in made.header.voice_activity
    assert [row["turn"] for row in scorer.asked[0]] == [0, 1]


def test_a_long_stretch_has_windows_and_the_mean_of_their_answers(tmp_path):
    made, _ = make(tmp_path, voice(20))
    whole, *windows = made.spans
    assert len(windows) == 7
    assert all(window.parent == whole.span and window.seconds <= 10 for window in windows)
    mean = np.mean([window.answers["sentiment"].value for window in windows])
    assert whole.answers["sentiment"].value == pytest.approx(mean)


@pytest.mark.parametrize("sound", [silence(3), np.zeros(RATE), np.zeros(0), silence(0.01)])
def test_without_a_voice_there_are_no_spans_and_a_remark(tmp_path, sound):
    made, scorer = make(tmp_path, sound)
    assert made.spans == ()
    assert made.header.remarks == ("no voice was found",)
    assert scorer.asked == []
    assert made.to_frame().empty


def test_a_second_of_voice_is_one_utterance(tmp_path):
    made, _ = make(tmp_path, voice(1.0))
    assert len(made.spans) == 1
    assert made.spans[0].end <= made.header.duration


def test_an_empty_file_and_one_that_is_no_recording_are_errors_in_a_sentence(tmp_path):
    for content in (b"", b"no recording"):
        (tmp_path / "x.mp4").write_bytes(content)
        with pytest.raises(MediaError):
            make_timeline(tmp_path / "x.mp4", CountingScorer())


def test_given_spans_are_scored_as_they_are_and_what_lies_past_the_end_has_its_problem(tmp_path):
    spans = tmp_path / "spans.csv"
    spans.write_text("start,end,speaker,text\n0.5,2,a,one\n1,3,b,two\n3.5,9,a,three\n7,8,b,four\n", "utf-8")
    made, scorer = make(tmp_path, voice(4), spans=spans)
    assert [(span.start, span.end, span.speaker) for span in made.spans] == [
        (0.5, 2.0, "a"), (1.0, 3.0, "b"), (3.5, 4.0, "a"), (7.0, 8.0, "b")
    ]  # fmt: skip
    assert [span.overlap for span in made.spans] == [pytest.approx(2 / 3, abs=1e-3), 0.5, 0.0, 0.0]
    assert "cut there" in made.spans[2].problem
    assert "begins after the end" in made.spans[3].problem
    assert [span.answers["sentiment"].answered for span in made.spans] == [True, True, True, False]
    assert [row["text"] for row in scorer.asked[0]] == ["one", "two", "three"]
    assert made.spans[0].text_source == "given"


def test_wrong_spans_are_listed_all_at_once_before_a_model_is_asked(tmp_path):
    wrong = [GivenSpan(2, 1), GivenSpan(float("nan"), 1), GivenSpan(-1, 1), GivenSpan(0, 1e9)]
    with pytest.raises(InputError) as caught:
        make(tmp_path, voice(1), spans=wrong)
    assert len(caught.value.problems) == 4


def test_speakers_come_from_a_file_or_from_channels(tmp_path):
    rttm = tmp_path / "who.rttm"
    rttm.write_text("SPEAKER t 1 0 2.2 <NA> <NA> ann <NA> <NA>\nSPEAKER t 1 2.2 3 <NA> <NA> bob <NA> <NA>\n", "utf-8")
    made, _ = make(tmp_path, np.concatenate([voice(4), silence(1)]), speakers=rttm)
    assert [span.speaker for span in made.spans] == ["ann", "bob"]
    assert made.spans[0].end == 2.2
    left = np.concatenate([voice(2), silence(3)])
    right = np.concatenate([silence(1.5), voice(2, 220), silence(1.5)])
    made, scorer = make(tmp_path, left, right, speakers="channels")
    assert [span.speaker for span in made.spans] == ["channel 1", "channel 2"]
    assert made.spans[0].overlap == pytest.approx(0.25, abs=0.05)
    assert all(row["audio_bytes"][:4] == b"RIFF" for row in scorer.asked[0])


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("demeanor.timeline.run.TOGETHER", 2)
    path = write_wav(tmp_path / "talk.wav", voice(10))
    options = Options(spans=[GivenSpan(n, n + 1) for n in range(5)], voice="energy", recogniser="none")
    output = tmp_path / "out.json"

    class Failing(CountingScorer):
        def score(self, rows):
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().score(rows)

    with pytest.raises(KeyboardInterrupt):
        make_timeline(path, Failing(), options, output=output)
    parts = tmp_path / ".out.json.parts"
    assert sorted(file.name for file in parts.iterdir()) == ["batch_000000.json", "batch_000001.json", "plan.json"]
    again = CountingScorer()
    made = make_timeline(path, again, options, output=output)
    assert [row["start"] for row in again.asked[0]] == [4.0]
    assert len(made.spans) == 5
    assert made == make_timeline(path, CountingScorer(), options)
    # What other options left behind is not used.
    other = CountingScorer()
    changed = Options(spans=[GivenSpan(n, n + 0.5) for n in range(5)], recogniser="none")
    make_timeline(path, other, changed, output=output)
    assert sum(len(batch) for batch in other.asked) == 5
    assert json.loads((parts / "plan.json").read_text())["key"]
