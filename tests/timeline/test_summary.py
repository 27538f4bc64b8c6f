"""The conversation in numbers, and what is drawn of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demeanor.timeline.page import page_of
from demeanor.timeline.pictures import figure_of, write_picture
from demeanor.timeline.summary import summary_of
from demeanor.timeline.table import Answer, Header, ModelHeader, Span, Timeline
from tests.timeline.examples import EMOTION, SENTIMENT, timeline


def conversation() -> Timeline:
    """ann falls by a tenth a second; bob speaks over her once."""
    model = ModelHeader(uri="m", branch="b", system="s", weights_sha256="x", task=SENTIMENT)
    header = Header(recording="talk", duration=100.0, models=(model,))
    times = [(0, 10, "ann"), (8, 12, "bob"), (20, 30, "ann"), (40, 50, "ann"), (60, 70, "bob"), (80, 90, "ann")]
    return Timeline(
        header,
        tuple(
            Span("talk", f"u{n}", start, end, speaker=who, modalities=("audio",),
                 answers={"sentiment": Answer(2 - (start + end) / 60, answered=True)})
            for n, (start, end, who) in enumerate(times)
        ),
    )  # fmt: skip


def test_talking_time_turns_silence_and_interruptions():
    made = summary_of(conversation())
    ann, bob = made.speakers
    assert (ann.name, ann.seconds, ann.turns, ann.utterances, ann.interruptions) == ("ann", 40.0, 3, 4, 0)
    assert (bob.name, bob.seconds, bob.turns, bob.interruptions) == ("bob", 14.0, 2, 1)
    assert made.silence == pytest.approx(0.48)
    assert made.overlap == pytest.approx(0.02)


def test_the_course_has_its_slope_with_an_interval_and_the_largest_changes():
    (course,) = summary_of(conversation()).courses
    assert course.slope == pytest.approx(-2.0)
    assert course.low == pytest.approx(-2.0)
    assert course.high == pytest.approx(-2.0)
    assert [change.time for change in course.changes] == [20, 60, 80] or len(course.changes) == 3
    assert course.changes[-1].size == pytest.approx(2 / 3)
    text = str(summary_of(conversation()))
    assert "-2.00 a minute [-2.00, -2.00]" in text


def test_what_lies_past_the_end_is_no_talking_time_and_three_utterances_have_a_sane_interval():
    made = conversation()
    late = Span("talk", "u9", 110, 120, speaker="bob", answers={"sentiment": Answer()}, problem="begins after the end")
    assert summary_of(made.with_spans([*made.spans, late])) == summary_of(made)
    (course,) = summary_of(made.with_spans(made.spans[:3])).courses
    assert course.low is not None
    assert abs(course.low - course.slope) < 1
    assert abs(course.high - course.slope) < 1


def test_nothing_said_is_a_summary_too():
    made = summary_of(Timeline(conversation().header, ()))
    assert made.silence == 1.0
    assert made.speakers == ()
    assert str(made).startswith("talk: 100.0 s, 100% silence")


@pytest.mark.parametrize("made", [timeline(), conversation(), Timeline(conversation().header, ())])
def test_pictures_are_drawn_of_any_timeline(tmp_path, made):
    assert len(figure_of(made).axes) == 1 + len(made.tasks)
    write_picture(made, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"


def test_the_page_asks_nobody_else_and_shows_nothing_unescaped(tmp_path):
    made = timeline((SENTIMENT, EMOTION))
    header = made.header.model_copy(
        update={"recording": "<script>x", "frame_rate": 25.0, "medium": str(tmp_path / "a b.mp4")}
    )
    page = page_of(replace(made, header=header), tmp_path / "out" / "x.html")
    assert "<script>x" not in page
    assert "&lt;left&gt;" in page
    assert 'src="../a%20b.mp4"' in page
    assert page.count('<tr class="span"') == 3
    assert 'data-start="0.123"' in page
    outside = [part for part in page.split('"') if part.startswith(("http:", "https:", "//"))]
    assert all("w3.org" in part or "purl.org" in part or "creativecommons.org" in part for part in outside)
    assert not any(f'{name}="http' in page for name in ("src", "href"))
