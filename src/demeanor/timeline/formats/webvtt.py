"""WebVTT (https://www.w3.org/TR/webvtt1/): who speaks and what is said, the answers as a second line."""

from __future__ import annotations

import html
import re
from pathlib import Path

from demeanor.data.errors import InputError
from demeanor.data.texts import read_text
from demeanor.timeline.formats.comma_separated import seconds_of
from demeanor.timeline.formats.wording import score_line
from demeanor.timeline.given import GivenSpan, checked
from demeanor.timeline.table import Timeline, milliseconds

ARROW = "-->"
VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>", re.IGNORECASE)
TAG = re.compile(r"<[^>]*>")
SCORES = "<c.scores>"


def write(timeline: Timeline, path: Path) -> None:
    """Write a cue per utterance."""
    blocks = ["WEBVTT\n"]
    about = timeline.header
    blocks.append(f"NOTE {_escaped(about.recording)}, made by demeanor {about.demeanor}. {about.note}\n")
    for span in timeline.utterances:
        text = _escaped(" ".join((span.text or "").split()))
        voice = f"<v {_escaped(span.speaker)}>{text}</v>" if span.speaker else text
        scores = score_line(span, timeline)
        lines = [span.span, f"{clock(span.start)} {ARROW} {clock(span.end)}", voice or "..."]
        lines += [f"{SCORES}{_escaped(scores)}</c>"] if scores else []
        blocks.append("\n".join(lines) + "\n")
    path.write_text("\n".join(blocks), encoding="utf-8")


def clock(seconds: float) -> str:
    """hh:mm:ss.ttt"""
    whole = milliseconds(seconds)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}.{whole % 1000:03d}"


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


def spans(path: Path) -> list[GivenSpan]:
    """Cues with the speaker of their voice tag; InputError for a file that is no WebVTT."""
    content = read_text(path).content
    if not content.lstrip("\ufeff").startswith("WEBVTT"):
        raise InputError(str(path), ["its first line is not WEBVTT"])
    given = []
    for number, block in enumerate(re.split(r"\n[ \t]*\n", content)):
        lines = block.strip().splitlines()
        timing = next((place for place, line in enumerate(lines[:2]) if ARROW in line), None)
        if timing is None or lines[0].startswith("NOTE"):
            continue
        begin, _, rest = lines[timing].partition(ARROW)
        ending = rest.split()
        payload = [line for line in lines[timing + 1 :] if not line.startswith(SCORES)]
        joined = " ".join(payload)
        voice = VOICE.search(joined)
        text = html.unescape(TAG.sub("", joined)).strip()
        speaker = html.unescape(voice.group(1)) if voice else ""
        times = seconds_of(begin), seconds_of(ending[0]) if ending else float("nan")
        given.append(GivenSpan(*times, speaker, "" if text == "..." else text, f"cue {number}"))
    return checked(given, str(path))
