"""CSV: the flat table, below comment lines (`# `) that hold the header as JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd

from demeanor.data.errors import InputError
from demeanor.data.texts import read_text
from demeanor.timeline.columns import as_text, timeline_of
from demeanor.timeline.formats.canonical import given_of
from demeanor.timeline.given import GivenSpan, checked
from demeanor.timeline.table import Header, Timeline

COMMENT = "# "
#: What tables of spans call their columns, in lower case, the likeliest first.
NAMES = {
    "start": ("start", "onset", "begin", "begin_time", "start_time", "tmin", "from"),
    "end": ("end", "offset", "stop", "end_time", "tmax", "to"),
    "speaker": ("speaker", "participant", "who", "tier"),
    "text": ("text", "transcript", "value", "annotation", "words"),
}


def write(timeline: Timeline, path: Path) -> None:
    """Write the header as comments, then a row per span."""
    lines = json.dumps(timeline.header.as_dict(), indent=1).split("\n")
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"{COMMENT}{line}\n" for line in lines)
        # Words in quotation marks: a `#` within them begins no comment.
        as_text(timeline.to_frame()).to_csv(file, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)


def timeline(path: Path) -> Timeline:
    """The timeline that `write` made into a table; InputError without its header."""
    header, table = _parts(path)
    if header is None:
        raise InputError(str(path), ["there is no header of a timeline before the table"])
    try:
        made = timeline_of(table, header)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(str(path), [f"its table is none of a timeline ({type(error).__name__})"]) from None
    made.check(str(path))
    return made


def _parts(path: Path) -> tuple[Header | None, pd.DataFrame]:
    from io import StringIO

    lines = read_text(path).content.split("\n")
    commented = _leading(lines)
    text = "\n".join(line[len(COMMENT) :] for line in commented)
    header = None
    if text.lstrip().startswith("{"):
        try:
            header = Header.model_validate(json.loads(text))
        except ValueError:
            raise InputError(str(path), ["its comment lines hold no header of a timeline"]) from None
    rest = StringIO("\n".join(lines[len(commented) :]), newline="")
    try:
        table = pd.read_csv(rest, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise InputError(str(path), [f"not a readable table ({type(error).__name__})"]) from None
    return header, table


def _leading(lines: list[str]) -> list[str]:
    for number, line in enumerate(lines):
        if not line.startswith(COMMENT.strip()):
            return lines[:number]
    return lines


def spans(path: Path) -> list[GivenSpan]:
    """Of a timeline, or of any table with start and end in seconds; see NAMES. InputError without those two."""
    if path.read_bytes()[:1] == b"#":
        return given_of(timeline(path), str(path))
    from demeanor.data.delimited import read_delimited

    known = [name for names in NAMES.values() for name in names]
    found = read_delimited(path, known)
    lower = [name.lower() for name in found.names]
    places = {
        meaning: next((lower.index(name) for name in names if name in lower), None) for meaning, names in NAMES.items()
    }
    start, end = places["start"], places["end"]
    if start is None or end is None:
        missing = [f"there is no column '{name}'" for name in ("start", "end") if places[name] is None]
        advice = "A table of spans has the columns start and end (seconds), and perhaps speaker and text."
        raise InputError(str(path), missing, advice)
    given = []
    for number, cells in zip(found.numbers, found.records, strict=True):
        speaker, text = (cells[place] if place is not None else "" for place in (places["speaker"], places["text"]))
        times = seconds_of(cells[start], found.separator), seconds_of(cells[end], found.separator)
        given.append(GivenSpan(*times, speaker, text, f"row {number}"))
    return checked(given, str(path))


def seconds_of(cell: str, separator: str = ",") -> float:
    """Seconds of a number, or of h:mm:ss.fff; NaN where it is neither. A comma may be decimal in other tables."""
    text = cell.strip().replace(",", ".") if separator != "," else cell.strip()
    parts = text.split(":")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        return float("nan")
    if len(values) > 3:
        return float("nan")
    return sum(value * 60**place for place, value in enumerate(reversed(values)))
