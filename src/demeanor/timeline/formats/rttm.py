"""RTTM, NIST's list of who spoke when: SPEAKER recording channel onset duration <NA> <NA> speaker <NA> <NA>."""

from __future__ import annotations

from pathlib import Path

from demeanor.data.texts import read_text
from demeanor.timeline.given import GivenSpan, checked
from demeanor.timeline.table import Timeline

ABSENT = "<NA>"


def write(timeline: Timeline, path: Path) -> None:
    """Write a line per utterance, seconds to the millisecond; words and answers have no place in RTTM."""
    name = _word(timeline.header.recording)
    blanks = f"{ABSENT} {ABSENT}"
    lines = [
        f"SPEAKER {name} 1 {span.start:.3f} {span.seconds:.3f} {blanks} {_word(span.speaker)} {blanks}\n"
        for span in timeline.utterances
    ]
    path.write_text("".join(lines), encoding="utf-8")


def _word(text: str) -> str:
    """Fields are separated by blanks, so a name has none; a name that is missing is <NA>."""
    return "_".join(text.split()) or ABSENT


def spans(path: Path) -> list[GivenSpan]:
    """Who spoke when. InputError, of all lines at once, where a line's times are no span."""
    given = []
    for number, line in enumerate(read_text(path).content.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith(";"):
            continue
        if fields[0] != "SPEAKER":  # other kinds of objects are no speech
            continue
        speaker = fields[7] if len(fields) > 7 and fields[7] != ABSENT else ""
        try:
            start, seconds = float(fields[3]), float(fields[4])
        except (IndexError, ValueError):
            start = seconds = float("nan")
        given.append(GivenSpan(start, start + seconds, speaker, None, f"line {number}"))
    return checked(given, str(path))
