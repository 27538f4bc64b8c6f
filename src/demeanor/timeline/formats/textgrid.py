"""Praat's TextGrid, in its long form: of every speaker a tier of utterances, one of single words where their times are
known, and one per task.

Intervals of one tier may not overlap, which a speaker's own utterances do not; the few that do, of spans that
somebody gave, go into a further tier of the same speaker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from demeanor.data.errors import InputError
from demeanor.data.texts import read_text
from demeanor.timeline.formats.wording import answer_text
from demeanor.timeline.given import GivenSpan, checked
from demeanor.timeline.table import Span, SpokenWord, Timeline, milliseconds

NOBODY = "speech"
#: Between a speaker and what a tier holds of them.
JOINT = " | "
#: What a tier of single words is called; no task has a blank in its name.
WORD_TIMES = "word times"
TOKEN = re.compile(r'"((?:[^"]|"")*)"|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(<exists>|<absent>)')


def write(timeline: Timeline, path: Path) -> None:
    """Write the tiers, each from 0 to the recording's end."""
    ends = [span.end for span in timeline.spans]
    last = max([timeline.header.duration or 0.0, *ends, 0.001])
    tiers: list[tuple[str, list[tuple[float, float, str]]]] = []
    for name, spans in lanes(timeline.utterances):
        tiers.append((name, _filled(spans, [span.text or "" for span in spans], last)))
        if words := words_within(spans):
            tiers.append((f"{name}{JOINT}{WORD_TIMES}", _filled(words, [word.word for word in words], last)))
        for task in timeline.tasks:
            said = [answer_text(span.answers[task.name], task) for span in spans]
            tiers.append((f"{name}{JOINT}{task.name}", _filled(spans, said, last)))
    path.write_text(_long_form(tiers, last), encoding="utf-8")


def lanes(spans: Sequence[Span]) -> list[tuple[str, list[Span]]]:
    """(name, spans that do not overlap): one lane per speaker, further ones where a speaker's own spans overlap."""
    found: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        speaker, number = span.speaker or NOBODY, 1
        name = speaker
        while name in found and found[name][-1].end > span.start:
            number += 1
            name = f"{speaker} ({number})"
        found.setdefault(name, []).append(span)
    return list(found.items())


def words_within(spans: Sequence[Span]) -> list[SpokenWord]:
    """The words of a lane one after the other: each within its utterance, none over the one before, none without a
    length, for that is what tiers take. A word that would be left no room is left out."""
    words: list[SpokenWord] = []
    for span in spans:
        position = span.start
        for word in span.word_times:
            start = max(word.start, position)
            end = min(max(word.end, start + 0.001), span.end)
            if milliseconds(end) > milliseconds(start):
                words.append(replace(word, start=start, end=end))
                position = end
    return words


def _filled(spans: Sequence[Span | SpokenWord], told: Sequence[str], last: float) -> list[tuple[float, float, str]]:
    """Intervals from 0 to the end without a gap, as Praat wants them."""
    intervals, position = [], 0.0
    for span, text in zip(spans, told, strict=True):
        if span.start > position:
            intervals.append((position, span.start, ""))
        # An interval with words and one without look alike to a reader of a tier of words that are missing.
        intervals.append((span.start, span.end, text or "..."))
        position = span.end
    if position < last:
        intervals.append((position, last, ""))
    return intervals


def _long_form(tiers: Sequence[tuple[str, list[tuple[float, float, str]]]], last: float) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {last:.3f}"]
    lines += ["tiers? <exists>" if tiers else "tiers? <absent>"]
    if tiers:
        lines += [f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers, 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {last:.3f}", f"        intervals: size = {len(intervals)}"]
        for place, (start, end, text) in enumerate(intervals, 1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {start:.3f}",
                f"            xmax = {end:.3f}",
            ]
            lines += [f"            text = {_quoted(text)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace('"', '""') + '"'


def spans(path: Path) -> list[GivenSpan]:
    """Intervals with a text, of every tier that is not a task's; the tier is the speaker. Long and short form.
    InputError for a file that is no TextGrid."""
    content = read_text(path).content
    where = str(path)
    body = content.partition("TextGrid")[2]
    # The long form says what each value is, in words outside of quotation marks; what counts are the values.
    without = re.sub(r"\[\d*\]", "", body.partition("\n")[2]) if "[" in body else body.partition("\n")[2]
    values = [
        match.group(1).replace('""', '"') if match.group(1) is not None else match.group(2) or match.group(3)
        for match in TOKEN.finditer(without)
    ]
    kinds = [match.group(1) is not None for match in TOKEN.finditer(without)]
    if len(values) < 3:
        raise InputError(where, ["is no TextGrid of Praat in text form"])
    if values[2] == "<absent>":
        return []
    try:
        return checked(_intervals(values, kinds), where)
    except (IndexError, ValueError):
        raise InputError(where, ["is no TextGrid of Praat: it ends, or goes on, where it should not"]) from None


def _intervals(values: Sequence[str], kinds: Sequence[bool]) -> list[GivenSpan]:
    given = []
    place = 4
    for number in range(int(values[3])):
        if not kinds[place]:
            raise ValueError("a tier begins with its class")
        kind, name, size = values[place], values[place + 1], int(values[place + 4])
        place += 5
        for entry in range(size):
            if kind != "IntervalTier":  # points: a time and a mark
                place += 2
                continue
            start, end, text = float(values[place]), float(values[place + 1]), values[place + 2]
            place += 3
            if text.strip() and JOINT not in name:
                said = "" if text == "..." else text
                speaker = "" if name == NOBODY else re.sub(r" \(\d+\)$", "", name)
                given.append(GivenSpan(start, end, speaker, said, f"tier {number + 1}, interval {entry + 1}"))
    return given
