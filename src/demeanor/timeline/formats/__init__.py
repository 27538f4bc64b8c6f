"""Files that a timeline is written to and read from, one module per format.

JSON is canonical: it holds everything. CSV, Parquet and audformat hold the table; WebVTT, TextGrid and ELAN hold what
their programs show: times, speakers, words and the answers as text; RTTM holds who spoke when. Every format can be read
as spans (`--spans`), whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from demeanor.data.errors import InputError, nearest
from demeanor.data.files import write_atomically
from demeanor.timeline.given import GivenSpan
from demeanor.timeline.table import Timeline

#: Ending of a file's name -> module here. The longest that fits decides.
SUFFIXES = {
    ".json": "canonical",
    ".csv": "comma_separated",
    ".parquet": "parquet",
    ".audformat.csv": "audformat_table",
    ".vtt": "webvtt",
    ".rttm": "rttm",
    ".textgrid": "textgrid",
    ".eaf": "elan",
}


@dataclass(frozen=True)
class Format:
    """`timeline` reads a whole timeline back; None where the format holds less than one."""

    write: Callable[[Timeline, Path], None]
    spans: Callable[[Path], list[GivenSpan]]
    timeline: Callable[[Path], Timeline] | None


def format_of(path: Path | str) -> Format:
    """InputError for an ending that is none of SUFFIXES."""
    name = Path(path).name.lower()
    known = sorted((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len)
    if not known:
        raise InputError(
            Path(path).name, [f"no format has the ending '{Path(path).suffix}'.{nearest(Path(path).suffix, SUFFIXES)}"]
        )
    module: Any = import_module(f"{__name__}.{SUFFIXES[known[-1]]}")
    return Format(module.write, module.spans, getattr(module, "timeline", None))


def write_timeline(timeline: Timeline, path: Path | str) -> None:
    """Write in the format of the file's ending, whole or not at all."""
    form = format_of(path)
    with write_atomically(path) as temporary:
        form.write(timeline, temporary)


def read_timeline(path: Path | str) -> Timeline:
    """A whole timeline from JSON, CSV or Parquet; InputError for what is none."""
    form = format_of(path)
    if form.timeline is None:
        raise InputError(str(path), ["this format does not hold a whole timeline"], "Read its .json, .csv or .parquet.")
    _require(Path(path))
    return form.timeline(Path(path))


def read_spans(path: Path | str) -> list[GivenSpan]:
    """Spans that a file of any of these formats gives, in order of their starts; InputError lists what is wrong."""
    form = format_of(path)
    _require(Path(path))
    return sorted(form.spans(Path(path)), key=lambda span: (span.start, span.end))


def _require(path: Path) -> None:
    if not path.is_file():
        raise InputError(str(path), ["there is no such file"])
    if path.stat().st_size == 0:
        raise InputError(str(path), ["the file is empty"])
