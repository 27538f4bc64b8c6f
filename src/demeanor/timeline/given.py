"""Spans that somebody gives: where they begin and end, who speaks, what is said."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from demeanor.data.errors import InputError
from demeanor.timeline.table import to_millisecond

#: Seconds from the start of a recording: eleven days, as rows to score have it.
LATEST = 1e6


@dataclass(frozen=True)
class GivenSpan:
    """start, end in seconds, to the millisecond; `place` is where in the file it stands."""

    start: float
    end: float
    speaker: str = ""
    text: str | None = None
    place: str = ""


def checked(spans: Iterable[GivenSpan], where: str) -> list[GivenSpan]:
    """The spans with whole milliseconds; InputError lists those whose times cannot be."""
    good, problems = [], []
    for number, span in enumerate(spans, 1):
        place = span.place or f"span {number}"
        if not (math.isfinite(span.start) and math.isfinite(span.end)):
            problems.append(f"{place}: a time that is no number")
        elif span.start < 0:
            problems.append(f"{place}: it begins before the recording")
        elif span.end > LATEST:
            problems.append(f"{place}: it ends later than {LATEST:.0f} s")
        elif to_millisecond(span.end) <= to_millisecond(span.start):
            problems.append(f"{place}: its end is not after its start")
        else:
            text = span.text.strip() if span.text and span.text.strip() else None
            times = to_millisecond(span.start), to_millisecond(span.end)
            good.append(GivenSpan(*times, span.speaker.strip(), text, place))
    if problems:
        raise InputError(where, problems, "Times are seconds from the start of the recording.")
    return good
