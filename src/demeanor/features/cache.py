"""What has been extracted already: shards of finished clips under the fingerprint of the extractor.

A shard is one ragged file of some dozens of clips whose ids are content hashes. It appears whole or not at all
and never changes, so a run that is killed loses at most the shards it was working on, and a clip whose media,
text or word times change simply has another hash. When a stream is complete its shards are put together.

Beside the shards lies `index.jsonl`, a line for each with all that is needed to read it: thousands of shards are
found without opening one, and none stays open or mapped between two readings, whatever a system's limits are. The
index may be lost, torn or behind: what it does not describe is read from the shards themselves.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of, write_atomically, write_json
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged, RaggedWriter
from demeanor.data.safetensors_header import read_header
from demeanor.data.stream import SUFFIX
from demeanor.features.base import Extractor

#: A half-written file this old (seconds) was left by a run that is no more.
STALE = 3600.0
INDEX = "index.jsonl"
#: Name of shards put together; it sorts behind the hexadecimal names of the others and so counts where both are there.
TOGETHER = "merged-"
#: Bytes that shards are put together to; those of half the size are left alone.
MERGED = 256 << 20
#: Small shards that are not worth the writing: large values would be written a third time.
FEW = 32
LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Shard:
    """One file: bytes in all, where its values begin, their type and width, and its clips with their steps."""

    file: str
    size: int
    start: int
    dtype: str
    dimension: int
    ids: tuple[str, ...]
    lengths: tuple[int, ...]

    @classmethod
    def read(cls, path: Path) -> Shard:
        """InputError where the file is damaged, FileNotFoundError where it has gone."""
        size = path.stat().st_size
        ragged = Ragged.load(path)
        header, base = read_header(path)
        start = base + header["values"]["data_offsets"][0]
        lengths = tuple(ragged.lengths.tolist())
        return cls(path.name, size, start, ragged.values.dtype.str, ragged.dimension, ragged.ids, lengths)


class ShardCache:
    """The finished clips of one extractor: content hash -> [T, D]."""

    def __init__(self, folder: Path, dimension: int, dtype: np.dtype):
        self.folder, self.dimension, self.dtype = folder, dimension, np.dtype(dtype)
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.part"):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink(missing_ok=True)
        self._shards: dict[str, Shard] = {}
        #: key -> its shard's name, its first byte there, its steps
        self._places: dict[str, tuple[str, int, int]] = {}
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
        known = {shard.file: shard for shard in self._indexed()}
        self._shards, self._places = {}, {}
        unknown = []
        for name, size in _sizes(self.folder):
            shard = known.get(name)
            if shard is None or shard.size != size:
                try:
                    shard = Shard.read(self.folder / name)
                except FileNotFoundError:
                    continue  # another run has put it together with others meanwhile
                except InputError:
                    (self.folder / name).unlink(missing_ok=True)  # damaged on disk: its clips are made again
                    continue
                unknown.append(shard)
            self._take(shard)
        self._note(unknown)

    def _indexed(self) -> Iterator[Shard]:
        try:
            lines = (self.folder / INDEX).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                entry = json.loads(line)
                yield Shard(**{**entry, "ids": tuple(entry["ids"]), "lengths": tuple(entry["lengths"])})
            except (ValueError, TypeError, KeyError):
                continue  # empty, or torn when a run was killed: the shard is read itself

    def _note(self, shards: Sequence[Shard]) -> None:
        """Append to the index: each line begins with a line break, so that it never continues a torn one."""
        if shards:
            with open(self.folder / INDEX, "ab") as handle:
                handle.write("".join(f"\n{json.dumps(asdict(shard))}" for shard in shards).encode("ascii"))

    def _take(self, shard: Shard) -> None:
        if shard.dimension != self.dimension or np.dtype(shard.dtype) != self.dtype:
            return
        self._shards[shard.file] = shard
        place, width = shard.start, self.dimension * self.dtype.itemsize
        for key, length in zip(shard.ids, shard.lengths, strict=True):
            self._places[key] = (shard.file, place, length)
            place += length * width

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: str) -> np.ndarray:
        """[T, D], read now; KeyError where it is not there."""
        try:
            return self._read(*self._places[key])
        except FileNotFoundError:
            self._look()  # another run has put the shard together with others
            return self._read(*self._places[key])

    def _read(self, name: str, place: int, length: int) -> np.ndarray:
        path = self.folder / name
        values = np.fromfile(path, self.dtype, length * self.dimension, offset=place)
        if values.size != length * self.dimension:
            raise InputError(str(path), ["the file is cut short"], "Remove it and run the same command again.")
        return values.reshape(length, self.dimension)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that are not stored yet."""
        return [key for key in keys if key not in self._places]

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
        fresh = {key: value for key, value in values.items() if key not in self._places}
        if not fresh:
            return
        self._write(f"{sha256_of(sorted(fresh))[:24]}{SUFFIX}", fresh.items())

    def _write(self, name: str, values: Iterable[tuple[str, np.ndarray]]) -> None:
        path = self.folder / name
        with RaggedWriter.open(path, self.dimension, self.dtype, hashed=False) as writer:  # nobody compares shards
            for key, value in values:
                writer.append(key, value)
        shard = Shard.read(path)
        self._take(shard)
        self._note([shard])

    def merge(self) -> None:
        """Put small shards together to some hundred megabytes each. Killed at any point, it leaves every clip there:
        a new file stands before those it is made of go, and of two that hold a clip either serves."""
        groups = list(self._groups())
        for keys, _ in groups:
            if not keys:
                continue  # files of a run that was stopped here before: all they hold stands elsewhere
            self._write(f"{TOGETHER}{sha256_of(sorted(keys))[:24]}{SUFFIX}", ((key, self[key]) for key in keys))
        used = {name for name, _, _ in self._places.values()}
        gone = [name for _, members in groups for name in members if name not in used]
        for name in gone:
            self._shards.pop(name, None)
        if gone:
            with write_atomically(self.folder / INDEX) as temporary:
                text = "\n".join(json.dumps(asdict(shard)) for shard in self._shards.values())
                temporary.write_text(text, encoding="ascii")
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)

    def _groups(self) -> Iterator[tuple[list[str], list[str]]]:
        """(keys, files) to be put together: small files in their order, until they are big enough."""
        small = [shard for shard in self._shards.values() if shard.size < MERGED // 2]
        if len(small) <= FEW:
            return
        keys: list[str] = []
        files: list[str] = []
        size = 0
        for shard in small:
            keys += [key for key in shard.ids if self._places[key][0] == shard.file]
            files.append(shard.file)
            size += shard.size
            if size >= MERGED:
                yield keys, files
                keys, files, size = [], [], 0
        if len(files) > 1:
            yield keys, files


def _sizes(folder: Path) -> list[tuple[str, int]]:
    """Names and bytes of the shards in a folder, in order."""
    sizes = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                try:
                    sizes.append((entry.name, entry.stat().st_size))
                except FileNotFoundError:
                    continue  # gone since the folder was listed
    return sorted(sizes)
