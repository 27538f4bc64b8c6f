"""Parquet: the flat table, the header in the file's metadata under `demeanor`."""

from __future__ import annotations

import json
from pathlib import Path

from demeanor.data.errors import InputError
from demeanor.timeline.columns import timeline_of
from demeanor.timeline.formats.canonical import given_of
from demeanor.timeline.given import GivenSpan
from demeanor.timeline.table import Header, Timeline

KEY = b"demeanor"


def write(timeline: Timeline, path: Path) -> None:
    """Write a row per span, the header beside them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = timeline.to_frame()
    word = {"word": pa.string(), "start": pa.float64(), "end": pa.float64(), "confidence": pa.float64()}
    # Where no words were recognised the lists are empty, and their kind would not show.
    words = pa.array(frame["word_times"], pa.list_(pa.struct(list(word.items()))))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.set_column(table.schema.get_field_index("word_times"), "word_times", words)
    about = json.dumps(timeline.header.as_dict(), ensure_ascii=False).encode("utf-8")
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: about}), path)


def timeline(path: Path) -> Timeline:
    """The timeline that `write` made into a table; InputError for any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        header = Header.model_validate(json.loads((table.schema.metadata or {})[KEY]))
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise InputError(str(path), [f"is no timeline in Parquet ({type(error).__name__})"]) from None
    try:
        made = timeline_of(table.to_pandas(), header)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(str(path), [f"its table is none of a timeline ({type(error).__name__})"]) from None
    made.check(str(path))
    return made


def spans(path: Path) -> list[GivenSpan]:
    """The utterances of a timeline, to be scored anew. InputError where the file is no timeline."""
    return given_of(timeline(path), str(path))
