"""JSON: the whole timeline."""

from __future__ import annotations

import json
from pathlib import Path

from demeanor.data.files import read_json
from demeanor.timeline.given import GivenSpan, checked
from demeanor.timeline.table import Timeline

#: Bytes of a timeline: a day of speech with windows has a tenth of it.
LARGEST = 1 << 30


def write(timeline: Timeline, path: Path) -> None:
    """Write all that the timeline holds."""
    path.write_text(json.dumps(timeline.as_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def timeline(path: Path) -> Timeline:
    """Read one back. InputError where the file is no timeline."""
    return Timeline.from_dict(read_json(path, LARGEST), str(path))


def spans(path: Path) -> list[GivenSpan]:
    """The utterances of a timeline, to be scored anew. InputError where the file is no timeline."""
    return given_of(timeline(path), str(path))


def given_of(read: Timeline, where: str) -> list[GivenSpan]:
    """The utterances of a timeline, as spans for another run."""
    return checked((GivenSpan(span.start, span.end, span.speaker, span.text) for span in read.utterances), where)
