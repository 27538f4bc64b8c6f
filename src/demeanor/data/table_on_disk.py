"""Tables beyond memory: the text of a large one lies in a private file that is mapped, and is nobody's memory.

A pandas column of strings stands on Arrow's buffers, which may as well be those of a mapped file
(https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-layout): whoever reads it notices nothing, and
the system takes its pages back when it wants them. Numbers stay where they are.
"""

from __future__ import annotations

import logging
import mmap
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import IO, Any
from weakref import WeakValueDictionary

import numpy as np
import pandas as pd

from demeanor.data.files import disk_errors_told
from demeanor.data.spools import pieces, scratch, spool

logger = logging.getLogger(__name__)

#: Rows from which the text of a table is put on disk, as many at a time; a multiple of eight.
LARGE = 8_192
#: Begin of its bytes in memory -> map, of those that any column stands on.
_MAPS: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()
_LOCK = Lock()


def on_disk(table: pd.DataFrame, rows: np.ndarray | None = None) -> pd.DataFrame:
    """The table, or these rows of it ([M] numbers), with its columns of text on disk where it is large, and no copy of
    them in memory meanwhile. Where the disk is full they stay in memory."""
    count = len(table) if rows is None else len(rows)
    text = [name for name in table if is_text(table[name])]
    if count < LARGE or not text or (rows is None and all(_lies_on_disk(table[name]) for name in text)):
        return table if rows is None else table.iloc[rows]

    chosen = blocks(table) if rows is None else (table.iloc[part] for part in blocks(rows))
    try:
        return _assembled(chosen).set_axis(table.index if rows is None else table.index[rows])
    except OSError as error:
        logger.info("text of %d rows stays in memory: %s", count, error)
        return table if rows is None else table.iloc[rows]


def read_parquet(path: Path | str) -> pd.DataFrame:
    """As pandas.read_parquet; the text of a large table goes to disk part by part."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, buffer_size=1 << 20) as file:
        indexed = (file.schema_arrow.pandas_metadata or {}).get("index_columns", ())
        if file.metadata.num_rows < LARGE or any(isinstance(name, str) for name in indexed):
            return pd.read_parquet(path)
        try:
            return _assembled(part.to_pandas() for part in file.iter_batches(LARGE))
        except OSError as error:
            logger.info("text of %s stays in memory: %s", path, error)
            return pd.read_parquet(path)


def blocks(table: Any) -> Iterator[Any]:
    """The table, or array of rows [M], some thousand rows at a time; one block of an empty one."""
    rows = table.iloc if isinstance(table, pd.DataFrame) else table
    for start in range(0, max(len(table), 1), LARGE):
        yield rows[start : start + LARGE]


def assembled(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One table of many, with rows numbered from 0 and a column wherever a part has one, as pandas.concat makes it; of
    a large one the text is never in memory as a whole. InputError where the disk has no room for it."""
    with disk_errors_told(scratch() or tempfile.gettempdir()):
        return _assembled(parts)


def _assembled(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    waiting: list[pd.DataFrame] = []
    rows = 0
    with ExitStack() as files:
        made = _Growing(files)
        for part in parts:
            waiting.append(part)
            rows += len(part)
            if rows < LARGE:
                continue
            block = pd.concat(waiting, ignore_index=True)
            whole = len(block) - len(block) % LARGE
            for full in blocks(block.iloc[:whole]):
                made.write(full)
            waiting, rows = [block.iloc[whole:]], len(block) - whole
        rest = pd.concat(waiting, ignore_index=True) if waiting else pd.DataFrame()
        if not made.rows:
            return rest
        made.write(rest)
        return made.finished()


def let_go() -> None:
    """Give back the pages of all such files: they count as this process' memory although the system's cache has them,
    from where they return when they are wanted again."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for each in _maps().values():
            each.madvise(mmap.MADV_DONTNEED)


def _maps() -> dict[int, mmap.mmap]:
    """Those there are now: another thread may make one meanwhile."""
    with _LOCK:
        return dict(_MAPS.items())


def is_text(column: pd.Series) -> bool:
    """Are its cells strings in Arrow's layout?"""
    return isinstance(column.dtype, pd.StringDtype) and column.dtype.storage == "pyarrow"


def _lies_on_disk(column: pd.Series) -> bool:
    held: Any = column.array
    buffers = [buffer for chunk in held._pa_array.chunks for buffer in chunk.buffers() if buffer is not None]
    spans = [(begin, begin + len(each)) for begin, each in _maps().items()]
    return all(any(begin <= buffer.address < end for begin, end in spans) for buffer in buffers)


class _Growing:
    """A table of which blocks of `LARGE` rows, the last one of fewer, are written one after the other."""

    def __init__(self, files: ExitStack) -> None:
        self.rows = 0
        self._files = files
        self._texts: dict[Any, _Text] = {}
        self._others: dict[Any, list[pd.Series]] = {}
        self._names: list[Any] = []

    def write(self, block: pd.DataFrame) -> None:
        for name in block:
            if name not in self._names:
                self._names.append(name)
                if is_text(block[name]):
                    self._texts[name] = _Text(self.rows, self._files)
                else:
                    self._others[name] = [pd.Series(np.full(self.rows, np.nan))] if self.rows else []
        for name, text in self._texts.items():
            text.write(block[name] if name in block else pd.Series(None, index=block.index, dtype="str"))
        for name, parts in self._others.items():
            parts.append(block[name] if name in block else pd.Series(np.nan, index=block.index))
        self.rows += len(block)
        let_go()

    def finished(self) -> pd.DataFrame:
        """The table; its text on one file that has no name and ends with it."""
        import pyarrow as pa

        with tempfile.TemporaryFile(dir=scratch()) as file:
            spans = {name: text.copied(file) for name, text in self._texts.items()}
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if spans else None
        columns: dict[Any, Any] = {name: pd.concat(parts, ignore_index=True) for name, parts in self._others.items()}
        if mapped is not None:
            whole = pa.py_buffer(mapped)
            with _LOCK:
                _MAPS[whole.address] = mapped
            dtype: Any = pd.StringDtype("pyarrow", na_value=np.nan)
            for name, places in spans.items():
                buffers = [whole.slice(start, size) for start, size in places]
                columns[name] = dtype.__from_arrow__(pa.LargeStringArray.from_buffers(self.rows, *buffers))
        return pd.DataFrame({name: columns[name] for name in self._names})


class _Text:
    """A column of text in Arrow's layout: offsets, UTF-8, bits of validity."""

    def __init__(self, rows: int, files: ExitStack) -> None:
        self._ends, self._text, self._valid = (files.enter_context(spool(scratch())) for _ in range(3))
        self._end = 0
        self._ends.write(np.zeros(rows + 1, np.int64).tobytes())  # nothing in the blocks before
        self._valid.write(bytes(rows // 8))

    def write(self, column: pd.Series) -> None:
        import pyarrow as pa

        made = pa.array(column.astype("str"), pa.large_string())
        for part in made.chunks if isinstance(made, pa.ChunkedArray) else [made]:
            _, offsets, text = part.buffers()
            ends = np.frombuffer(offsets, np.int64)[part.offset : part.offset + len(part) + 1]
            if text is not None:
                self._text.write(memoryview(text)[int(ends[0]) : int(ends[-1])])
            self._ends.write((ends[1:] + (self._end - ends[0])).tobytes())
            self._end += int(ends[-1] - ends[0])
        self._valid.write(np.packbits(column.notna().to_numpy(dtype=bool), bitorder="little").tobytes())

    def copied(self, file: IO[bytes]) -> list[tuple[int, int]]:
        """Where in the file each of the three begins, and its bytes."""
        spans = []
        for written in (self._ends, self._text, self._valid):
            file.write(b"\0" * (-file.tell() % 64))  # as Arrow aligns them
            spans.append((file.tell(), written.tell()))
            file.writelines(pieces(written))
            written.close()
        return spans
