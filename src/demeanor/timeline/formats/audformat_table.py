"""audformat: a CSV whose first columns file, start and end are the segmented index of https://audeering.github.io/audformat/.

`audformat.utils.read_csv` and `pandas` read it; `file` is the caller's path of the recording.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from demeanor.data.errors import InputError
from demeanor.timeline.columns import as_text
from demeanor.timeline.given import GivenSpan, checked
from demeanor.timeline.table import Timeline, milliseconds


def write(timeline: Timeline, path: Path) -> None:
    """Write the table; times are durations to the millisecond."""
    table = as_text(timeline.to_frame())
    medium = timeline.header.medium or timeline.header.recording
    for name in ("start", "end"):
        whole = [milliseconds(value) for value in table[name]]
        table[name] = pd.to_timedelta(pd.array(whole, dtype="int64"), unit="ms").astype(str)
    table.insert(0, "file", medium)
    first = ["file", "start", "end"]
    table = table[[*first, *(name for name in table if name not in first)]]
    table.to_csv(path, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)


def spans(path: Path) -> list[GivenSpan]:
    """Rows of a table with the columns start and end; InputError without them."""
    from demeanor.data.delimited import read_delimited

    found = read_delimited(path, ("file", "start", "end", "speaker", "text"))
    missing = [f"there is no column '{name}'" for name in ("start", "end") if name not in found.names]
    if missing:
        raise InputError(str(path), missing)
    given = []
    for number, cells in zip(found.numbers, found.records, strict=True):
        row = dict(zip(found.names, cells, strict=True))
        if row.get("parent"):
            continue
        times = _seconds(row["start"]), _seconds(row["end"])
        given.append(GivenSpan(*times, row.get("speaker", ""), row.get("text"), f"row {number}"))
    return checked(given, str(path))


def _seconds(cell: str) -> float:
    """Of a timedelta in words, or of a number of seconds."""
    try:
        return float(cell)
    except ValueError:
        value = pd.to_timedelta(cell, errors="coerce")
        return value.total_seconds() if isinstance(value, pd.Timedelta) else float("nan")
