"""Ragged: sequences of different lengths in one flat array, on disk as one memory-mapped safetensors file.

A safetensors file is an 8-byte little-endian header length, a JSON header, then raw values
(https://github.com/huggingface/safetensors#format). The header may end in spaces; `RaggedWriter` uses that
to reserve room, so that a stream of unknown length is written in one pass without being held in memory.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.files import parse_json, write_atomically
from demeanor.data.safetensors_header import DTYPES, read_header

HEADER_ROOM = 1 << 16
#: Bytes that a process may have gathered from a mapped file before it lets its pages go.
HELD = 4 << 20
DTYPE_NAMES = {np.dtype(value): key for key, value in DTYPES.items()}


class Ragged:
    """N sequences of D-dimensional steps.

    values : array [sum of T_n, D], often memory-mapped and then read-only; float16 is a way to store them: whoever
             asks for a sequence gets float32
    offsets: array [N + 1], sequence n is values[offsets[n]:offsets[n + 1]]
    ids    : N utterance ids, in order

    `select` gives a view on some of the sequences without copying any value. A length of zero is an absent
    modality, an ordinary value.
    """

    def __init__(self, values: np.ndarray, offsets: np.ndarray, ids: Sequence[str], rows: np.ndarray | None = None):
        offsets = np.asarray(offsets, dtype=np.int64)
        problems = []
        if values.ndim != 2:
            problems.append(f"values must be two-dimensional [steps, features], found shape {values.shape}")
        if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
            problems.append("offsets must start at 0 and never fall")
        elif offsets[-1] != len(values):
            problems.append(f"the last offset is {offsets[-1]} but there are {len(values)} steps")
        if rows is None and len(ids) != len(offsets) - 1:
            problems.append(f"{len(ids)} ids for {len(offsets) - 1} sequences")
        if problems:
            raise InputError("ragged array", problems)
        self.values = values
        self._plain = values.view(np.ndarray)  # the same memory: a slice of a map costs four times as much
        self.offsets = offsets
        self._rows = np.arange(len(offsets) - 1) if rows is None else np.asarray(rows, dtype=np.int64)
        self.ids: tuple[str, ...] = tuple(ids)
        self._index: dict[str, int] | None = None
        self._held = 0

    @classmethod
    def from_sequences(
        cls, sequences: Mapping[str, np.ndarray], dimension: int | None = None, dtype: np.dtype | type = np.float32
    ) -> Ragged:
        """From arrays [T_n, D] by id. `dimension` is needed only where every sequence is empty."""
        arrays = [np.asarray(value) for value in sequences.values()]
        filled = [array for array in arrays if array.size]
        if filled:
            dimension, dtype = filled[0].shape[1], filled[0].dtype.type
        width = dimension or 0
        lengths = [len(array) if array.size else 0 for array in arrays]
        values = np.concatenate(filled) if filled else np.zeros((0, width), dtype=dtype)
        return cls(values, np.concatenate([[0], np.cumsum(lengths)]), list(sequences))

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Ragged({len(self)} sequences, {int(self.lengths.sum())} steps of {self.dimension}, {self.dtype})"

    @property
    def dimension(self) -> int:
        """Width D of the values [sum T, D]."""
        return int(self.values.shape[1])

    @property
    def dtype(self) -> np.dtype:
        """Type of what is read."""
        return np.dtype(np.float32) if self.values.dtype == np.float16 else self.values.dtype

    @property
    def whole(self) -> bool:
        """Does it hold every sequence of its values, in order, rather than a selection?"""
        return np.array_equal(self._rows, np.arange(len(self.offsets) - 1))

    @property
    def lengths(self) -> np.ndarray:
        """[N] steps of each sequence."""
        return self.offsets[self._rows + 1] - self.offsets[self._rows]

    def __getitem__(self, key: int | str) -> np.ndarray:
        """[T_n, D], a view unless it is stored as float16."""
        row = self._rows[self.position(key) if isinstance(key, str) else key]
        sequence = self._plain[self.offsets[row] : self.offsets[row + 1]]
        self._let_go(sequence.nbytes)
        return sequence.astype(self.dtype, copy=False)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[n] for n in range(len(self)))

    def __contains__(self, key: str) -> bool:
        return key in self._positions

    @property
    def _positions(self) -> dict[str, int]:
        if self._index is None:
            self._index = {name: n for n, name in enumerate(self.ids)}
        return self._index

    def position(self, key: str) -> int:
        """Row of the sequence with id `key`; InputError if there is none."""
        try:
            return self._positions[key]
        except KeyError:
            raise InputError("ragged array", [f"no sequence with id '{key}'"]) from None

    def select(self, ids: Iterable[str]) -> Ragged:
        """The sequences of `ids`, in that order, sharing this array's values.

        InputError names the ids that it lacks.
        """
        ids = list(ids)
        missing = [name for name in ids if name not in self]
        if missing:
            raise InputError("ragged array", [f"no sequence with id '{name}'" for name in missing])
        rows = self._rows[[self._positions[name] for name in ids]] if ids else np.zeros(0, dtype=np.int64)
        return Ragged(self.values, self.offsets, ids, rows)

    def gather(
        self, positions: Sequence[int] | np.ndarray, max_length: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Right-padded copies of some sequences: values [B, T, D] and mask [B, T] (True on real steps).

        T is the longest of them (at least 1, so that shapes stay ordinary when all are absent), cut at `max_length`.
        """
        rows = self._rows[np.asarray(positions, dtype=np.int64)]
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        if max_length is not None:
            lengths = np.minimum(lengths, max_length)
        width = max(int(lengths.max(initial=0)), 1)
        values = np.zeros((len(rows), width, self.dimension), dtype=self.dtype)
        for n, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            values[n, :length] = self._plain[start : start + length]
        mask = np.arange(width)[None, :] < lengths[:, None]
        self._let_go(values.nbytes)
        return values, mask

    def _let_go(self, read: int) -> None:
        """Give back the pages of a mapped file every `HELD` bytes: they count as this process' memory although the
        system's cache has them, from where they return at once when they are wanted again, views on them included."""
        self._held += read
        if self._held > HELD and isinstance(self.values, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.values._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
            self._held = 0

    def save(self, path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
        """Write one safetensors file, whole or not at all; `metadata` goes into its header."""
        with RaggedWriter.open(path, self.dimension, self.values.dtype, metadata) as writer:
            for name, sequence in zip(self.ids, self, strict=True):
                writer.append(name, sequence)

    @classmethod
    def load(cls, path: Path | str) -> Ragged:
        """Memory-map a stored array: nothing but the header, offsets and ids is read now."""
        return cls(*_mapped(path))


class RaggedWriter:
    """Append sequences one after the other; use `RaggedWriter.open` so that the file appears whole or not at all."""

    def __init__(
        self, handle: BinaryIO, dimension: int, dtype: np.dtype, metadata: Mapping[str, str], hashed: bool = True
    ):
        if np.dtype(dtype) not in DTYPE_NAMES:
            raise InputError("ragged array", [f"values of type {dtype} cannot be stored"])
        self._handle, self.dimension, self.dtype = handle, dimension, np.dtype(dtype)
        self._metadata = dict(metadata)
        self._lengths: list[int] = []
        self._ids: list[str] = []
        self._hash = hashlib.sha256() if hashed else None
        handle.write(b"\0" * (8 + HEADER_ROOM))

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path | str,
        dimension: int,
        dtype: np.dtype | type,
        metadata: Mapping[str, str] | None = None,
        hashed: bool = True,
    ) -> Iterator[RaggedWriter]:
        """A writer of sequences [time, dimension]; the file is there once the block has ended without an error. With
        `hashed` it says the hash of its content, for those who ask whether that has changed."""
        with write_atomically(path) as temporary, open(temporary, "wb") as handle:
            writer = cls(handle, dimension, np.dtype(dtype), metadata or {}, hashed)
            yield writer
            writer._finish()

    def append(self, name: str, sequence: np.ndarray) -> None:
        """Write sequence [T, D]; T may be 0. InputError for another number of dimensions or columns."""
        if sequence.size == 0:
            sequence = np.zeros((0, self.dimension), dtype=self.dtype)
        if sequence.ndim != 2 or sequence.shape[1] != self.dimension:
            raise InputError(
                f"ragged array, id '{name}'", [f"expected [steps, {self.dimension}], found {sequence.shape}"]
            )
        content = np.ascontiguousarray(sequence, dtype=self.dtype).tobytes()
        self._handle.write(content)
        self._add_to_hash(content)
        self._lengths.append(len(sequence))
        self._ids.append(name)

    def _add_to_hash(self, content: bytes) -> None:
        if self._hash is not None:
            self._hash.update(content)

    def _finish(self) -> None:
        offsets = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)]).astype(np.int64)
        steps = int(offsets[-1])
        ends = [steps * self.dimension * self.dtype.itemsize]
        # Alignment: the format wants no gaps, so the 8-byte offsets follow the values wherever those end.
        self._handle.write(offsets.tobytes())
        ends.append(ends[-1] + offsets.nbytes)
        names = np.frombuffer(json.dumps(self._ids, ensure_ascii=False).encode("utf-8"), dtype=np.uint8)
        self._handle.write(names.tobytes())
        self._add_to_hash(offsets.tobytes() + names.tobytes())
        ends.append(ends[-1] + names.nbytes)
        header = {
            "__metadata__": {
                **self._metadata,
                "format": "demeanor.ragged",
                **({} if self._hash is None else {"content_sha256": self._hash.hexdigest()}),
            },
            "values": _entry(DTYPE_NAMES[self.dtype], [steps, self.dimension], 0, ends[0]),
            "offsets": _entry("I64", [len(offsets)], ends[0], ends[1]),
            "ids": _entry("U8", [names.size], ends[1], ends[2]),
        }
        text = json.dumps(header, ensure_ascii=True).encode("ascii")
        if len(text) > HEADER_ROOM:
            raise InputError("ragged array", [f"its metadata take {len(text)} bytes, more than {HEADER_ROOM}"])
        self._handle.seek(0)
        self._handle.write(struct.pack("<Q", HEADER_ROOM) + text.ljust(HEADER_ROOM, b" "))


def _entry(dtype: str, shape: list[int], start: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _mapped(path: Path | str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    header, base = read_header(path)
    missing = {"values", "offsets", "ids"} - header.keys()
    if missing:
        raise InputError(str(path), [f"holds no '{name}': not a ragged stream" for name in sorted(missing)])
    unknown = [key for key in ("values", "offsets", "ids") if header[key]["dtype"] not in DTYPES]
    if unknown or header["offsets"]["dtype"] != "I64" or header["ids"]["dtype"] != "U8":
        raise InputError(str(path), ["its values are of a type that no ragged stream has"])

    def array(key: str) -> np.ndarray:
        entry = header[key]
        dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"])
        if 0 in shape:
            return np.zeros(shape, dtype=dtype)
        return np.memmap(path, dtype=dtype, mode="r", offset=base + entry["data_offsets"][0], shape=shape)

    try:
        names = parse_json(array("ids").tobytes().decode("utf-8"), str(path))
    except UnicodeDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(str(path), ["its ids are no list of names"])
    return array("values"), np.array(array("offsets")), names
