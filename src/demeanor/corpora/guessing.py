"""Which reader a path wants, told by names, a header or a pickle's outline: each reader knows its own (`recognise`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from demeanor.corpora import READERS, find_reader
from demeanor.corpora.base import CorpusSettings, require_path
from demeanor.corpora.paths import as_identifier
from demeanor.data.errors import InputError

#: As much of a table as its header can take.
HEADER_BYTES = 1 << 16
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
PICKLE_SUFFIXES = (".pkl", ".pickle")


def settings_for(
    path: Path, reader: str | None = None, name: str | None = None, options: dict[str, Any] | None = None
) -> CorpusSettings:
    """Settings that read what lies at `path`.

    reader   None: the one that recognises the path
    name     None: what the folder or file is called
    options  of the reader; they win over what was recognised

    Raises InputError if there is nothing at `path`, or if no reader or more than one recognises it.
    """
    path = require_path(path, "any", "Give a folder or file that is there.").resolve()
    if reader is None:
        reader, recognised = guess_reader(path)
    else:
        recognised = find_reader(reader).recognise(path) or {"path": path}
    called = name or as_identifier(path.stem if path.is_file() else path.name) or reader
    return CorpusSettings(reader=reader, options={**recognised, "name": called, **(options or {})})


def guess_reader(path: Path) -> tuple[str, dict[str, Any]]:
    """The reader that recognises `path`, and the options with which it reads it.

    InputError if none does, or several.
    """
    claims = {name: claim for name in READERS if (claim := find_reader(name).recognise(path)) is not None}
    certain = {name: claim for name, claim in claims.items() if not find_reader(name).takes_what_is_left} or claims
    if len(certain) == 1:
        return next(iter(certain.items()))
    problem = f"could be {' or '.join(certain)}" if certain else "is the format of no reader"
    raise InputError(str(path), [problem], f"Name the reader: {', '.join(READERS)}. docs/corpora.md shows the layouts.")


def columns_of(path: Path, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names in the header of a text table or parquet file; none where there is no such header."""
    from demeanor.data.delimited import header_of
    from demeanor.data.texts import decode

    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        return ()
    if path.suffix.lower() == ".parquet":
        return _parquet_columns(path)
    with open(path, "rb") as file:
        start = file.read(HEADER_BYTES)
    whole = start[: start.rfind(b"\n") + 1] or start  # a character must not be cut in two
    try:
        text = decode(whole if b"\0" not in start else start, str(path)).content
    except InputError:
        return ()
    return tuple(header_of(text, known))


def _parquet_columns(path: Path) -> tuple[str, ...]:
    import pyarrow
    import pyarrow.parquet

    try:
        return tuple(str(name).strip() for name in pyarrow.parquet.read_schema(path).names)
    except (OSError, pyarrow.ArrowException):
        return ()


def the_pickle(path: Path) -> Path | None:
    """`path` if it is named like a pickle, else the only such file in the folder."""
    if path.is_file():
        return path if path.suffix.lower() in PICKLE_SUFFIXES else None
    pickles = [file for file in sorted(path.iterdir()) if file.suffix.lower() in PICKLE_SUFFIXES]
    return pickles[0] if len(pickles) == 1 else None


def holds_a_tuple(path: Path) -> bool:
    """What a pickle holds, seen without running it; one that cannot be read holds none, and its reader says why."""
    from demeanor.corpora.safe_pickle import load

    try:
        return isinstance(load(path).content, (tuple, list))
    except InputError:
        return False
