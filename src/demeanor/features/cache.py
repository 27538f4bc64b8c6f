"""What has been extracted already: shards of finished clips under the fingerprint of the extractor.

A shard is one ragged file of some dozens of clips whose ids are content hashes. It appears whole or not at all
and never changes, so a run that is killed loses at most the shards it was working on, and a clip whose media,
text or word times change simply has another hash. When a stream is complete its shards are put together.

Beside the shards lies an index (demeanor.features.shard_index): thousands of them are found without opening one, and
none stays open or mapped between two readings, whatever a system's limits are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of, write_json
from demeanor.data.private_database import private_database
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import RaggedWriter
from demeanor.data.safetensors_header import read_header
from demeanor.data.stream import SUFFIX
from demeanor.features.base import Extractor
from demeanor.features.shard_index import (
    LINE,
    Block,
    add_to_index,
    blocks_of,
    read_index,
    sizes_in,
    take_from_index,
)

#: A half-written file this old (seconds) was left by a run that is no more.
STALE = 3600.0
#: Name of shards put together; it sorts behind the hexadecimal names of the others and so counts where both are there.
TOGETHER = "merged-"
#: Bytes that shards are put together to; those of half the size are left alone.
MERGED = 256 << 20
#: Small shards that are not worth the writing: large values would be written a third time.
FEW = 32
LARGEST_HALF = float(np.finfo(np.float16).max)

TABLES = (
    "CREATE TABLE files (number INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER)",
    "CREATE TABLE places (key TEXT PRIMARY KEY, file INTEGER, start INTEGER, steps INTEGER) WITHOUT ROWID",
)


class _Written(NamedTuple):
    """A file of the cache: its name, its bytes, and where its values begin."""

    name: str
    size: int
    start: int


class ShardCache:
    """The finished clips of one extractor: content hash -> [T, D]."""

    def __init__(self, folder: Path, dimension: int, dtype: np.dtype):
        self.folder, self.dimension, self.dtype = folder, dimension, np.dtype(dtype)
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.part"):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink(missing_ok=True)
        #: Which file a key's values are in, from which byte on, and their steps.
        self._database = private_database(*TABLES)
        self._look()

    @classmethod
    def of(cls, root: Path, extractor: Extractor, provenance: Provenance) -> ShardCache:
        """The cache of one extractor below `root`: a folder per fingerprint, with the provenance beside the shards."""
        cache = cls(
            root / f"{extractor.name}-{provenance.fingerprint}", extractor.dimension, np.dtype(extractor.stored_dtype)
        )
        card = cache.folder / "provenance.json"
        if not card.exists():
            write_json(card, provenance.model_dump(mode="json"))
        return cache

    def _look(self) -> None:
        """Find every shard of the folder, by the index where it knows the file as it is."""
        for table in ("places", "files"):
            self._database.execute(f"DELETE FROM {table}")
        sizes, known, complete = sizes_in(self.folder), dict[str, int](), set[str]()
        for block in read_index(self.folder):
            if sizes.get(block.file) == block.size and known.get(block.file, 0) == block.first:
                self._take(block)
                known[block.file] = block.first + len(block.ids)
                if known[block.file] == block.clips:
                    complete.add(block.file)
        for name in (name for name in sizes if name not in complete):
            try:
                for block in blocks_of(self.folder / name):
                    self._take(block)
                    add_to_index(self.folder, block)
            except FileNotFoundError:
                self._forget(name)  # another run has put it together with others meanwhile
            except InputError:
                self._forget(name)
                (self.folder / name).unlink(missing_ok=True)  # damaged on disk: its clips are made again

    def _take(self, block: Block) -> None:
        if block.dimension != self.dimension or np.dtype(block.dtype) != self.dtype:
            return
        self._database.execute("INSERT OR IGNORE INTO files (name, size) VALUES (?, ?)", (block.file, block.size))
        ((number,),) = self._database.execute("SELECT number FROM files WHERE name = ?", (block.file,))
        width = self.dimension * self.dtype.itemsize
        ends = block.start + width * np.cumsum(block.lengths, dtype=np.int64)
        places = zip(
            block.ids, (ends - width * np.array(block.lengths, dtype=np.int64)).tolist(), block.lengths, strict=True
        )
        rows = ((key, number, start, steps) for key, start, steps in places)
        self._database.executemany("INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?)", rows)

    def _forget(self, name: str) -> None:
        self._database.execute("DELETE FROM places WHERE file IN (SELECT number FROM files WHERE name = ?)", (name,))
        self._database.execute("DELETE FROM files WHERE name = ?", (name,))

    def __contains__(self, key: str) -> bool:
        return self._database.execute("SELECT 1 FROM places WHERE key = ?", (key,)).fetchone() is not None

    def __len__(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM places").fetchone()[0])

    def __getitem__(self, key: str) -> np.ndarray:
        """[T, D], read now; KeyError where it is not there."""
        try:
            return self._read(key)
        except FileNotFoundError:
            self._look()  # another run has put the shard together with others
            return self._read(key)

    def _read(self, key: str) -> np.ndarray:
        found = self._database.execute(
            "SELECT name, start, steps FROM places JOIN files ON file = number WHERE key = ?", (key,)
        ).fetchone()
        if found is None:
            raise KeyError(key)
        name, place, length = found
        path = self.folder / name
        values = np.fromfile(path, self.dtype, length * self.dimension, offset=place)
        if values.size != length * self.dimension:
            raise InputError(str(path), ["the file is cut short"], "Remove it and run the same command again.")
        return values.reshape(length, self.dimension)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that are not stored yet."""
        return [key for key in keys if key not in self]

    def unfit(self, values: Mapping[str, np.ndarray]) -> dict[str, str]:
        """Of values [steps, dimension] by key, those too large for half precision, with the reason."""
        if self.dtype != np.float16:
            return {}
        sizes = {key: float(np.abs(value[np.isfinite(value)]).max(initial=0.0)) for key, value in values.items()}
        return {
            key: f"its values reach {size:.3g}, more than float16 holds ({LARGEST_HALF:g}); store them as float32"
            for key, size in sizes.items()
            if size > LARGEST_HALF
        }

    def add(self, values: Mapping[str, np.ndarray]) -> None:
        """Write one shard; keys that are there already are left as they are. Values [steps, dimension] by key."""
        fresh = {key: value for key, value in values.items() if key not in self}
        if not fresh:
            return
        written = self._write(f"{sha256_of(sorted(fresh))[:24]}{SUFFIX}", fresh.items())
        lengths = [len(value) if value.size else 0 for value in fresh.values()]
        self._note(written, [list(zip(fresh, lengths, strict=True))], len(fresh))

    def _write(self, name: str, values: Iterable[tuple[str, np.ndarray]]) -> _Written:
        path = self.folder / name
        with RaggedWriter.open(path, self.dimension, self.dtype, hashed=False) as writer:  # nobody compares shards
            for key, value in values:
                writer.append(key, value)
        header, base = read_header(path)
        return _Written(name, path.stat().st_size, base + header["values"]["data_offsets"][0])

    def _note(self, written: _Written, parts: Iterable[list[tuple[str, int]]], clips: int) -> None:
        """What was written lies there from now on: keys and steps, some at a time, of that many clips."""
        first, start, width = 0, written.start, self.dimension * self.dtype.itemsize
        for part in parts:
            ids, lengths = zip(*part, strict=True)
            block = Block(written.name, written.size, clips, first, start, self.dtype.str, self.dimension, ids, lengths)
            self._take(block)
            add_to_index(self.folder, block)
            first, start = first + len(ids), start + sum(lengths) * width

    def merge(self) -> None:
        """Put small shards together to some hundred megabytes each. Killed at any point, it leaves every clip there:
        a new file stands before those it is made of go, and of two that hold a clip either serves."""
        groups = list(self._groups())
        if not groups:
            return
        self._database.execute("CREATE INDEX in_order ON places (file, start, key)")  # nobody else asks by file
        try:
            self._merge(groups)
        except FileNotFoundError:
            self._look()  # another run does the same, and is further
        finally:
            self._database.execute("DROP INDEX in_order")

    def _merge(self, groups: Sequence[list[tuple[int, str]]]) -> None:
        for members in groups:
            self._put_together(members)
        holds = "SELECT 1 FROM places WHERE file = ? LIMIT 1"
        gone = {
            name for members in groups for number, name in members
            if self._database.execute(holds, (number,)).fetchone() is None
        }  # fmt: skip
        if gone:
            take_from_index(self.folder, gone)
        for name in gone:
            self._forget(name)
            (self.folder / name).unlink(missing_ok=True)

    def _put_together(self, members: list[tuple[int, str]]) -> None:
        """One file of what lies in some, of which it may be nothing: files of a run that was stopped here before."""
        count = "SELECT COUNT(*) FROM places WHERE file = ?"
        clips = sum(self._database.execute(count, (number,)).fetchone()[0] for number, _ in members)
        if not clips:
            return
        in_order = "SELECT key, steps FROM places WHERE file = ? ORDER BY start, key"
        keys = (key for number, _ in members for key, _ in self._database.execute(in_order, (number,)))
        name = f"{TOGETHER}{sha256_of(sorted(name for _, name in members))[:24]}{SUFFIX}"
        written = self._write(name, ((key, self._read(key)) for key in keys))

        def moved() -> Iterator[list[tuple[str, int]]]:
            for number, _ in members:  # a part that has been noted no longer lies there
                while part := self._database.execute(f"{in_order} LIMIT {LINE}", (number,)).fetchall():
                    yield part

        self._note(written, moved(), clips)

    def _groups(self) -> Iterator[list[tuple[int, str]]]:
        """Numbers and names of files to be put together: small ones in their order, until they are big enough."""
        few = "SELECT number, name, size FROM files WHERE size < ? ORDER BY number"
        small = self._database.execute(few, (MERGED // 2,)).fetchall()
        if len(small) <= FEW:
            return
        files: list[tuple[int, str]] = []
        total = 0
        for number, name, size in small:
            files.append((number, name))
            total += size
            if total >= MERGED:
                yield files
                files, total = [], 0
        if len(files) > 1:
            yield files
