"""Ragged: sequences of different lengths in one flat array, on disk as one memory-mapped file."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.ids import Ids
from demeanor.data.ragged_file import RaggedWriter, mapped

__all__ = ["Ragged", "RaggedWriter"]
#: Bytes that a process may have gathered from a mapped file before it lets its pages go.
HELD = 4 << 20
#: Bytes that the system maps around what is read of a file somewhere.
AROUND = 1 << 16


class Ragged:
    """N sequences of D-dimensional steps.

    values : array [sum of T_n, D], often memory-mapped and then read-only; float16 is a way to store them: whoever
             asks for a sequence gets float32
    offsets: array [N + 1], sequence n is values[offsets[n]:offsets[n + 1]]
    ids    : N utterance ids, in order
    digests: None, or [N, 32] bytes, the SHA-256 of the stored bytes of each sequence

    `select` gives a view on some of the sequences without copying any value. A length of zero is an absent
    modality, an ordinary value.
    """

    def __init__(self, values: np.ndarray, offsets: np.ndarray, ids: Sequence[str], digests: np.ndarray | None = None):
        offsets = np.asarray(offsets, dtype=np.int64)
        names = ids if isinstance(ids, Ids) else Ids(ids)
        problems = []
        if values.ndim != 2:
            problems.append(f"values must be two-dimensional [steps, features], found shape {values.shape}")
        if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
            problems.append("offsets must start at 0 and never fall")
        elif offsets[-1] != len(values):
            problems.append(f"the last offset is {offsets[-1]} but there are {len(values)} steps")
        if len(names) != len(offsets) - 1:
            problems.append(f"{len(names)} ids for {len(offsets) - 1} sequences")
        if problems:
            raise InputError("ragged array", problems)
        self.values = values
        self._plain = values.view(np.ndarray)  # the same memory: a slice of a map costs four times as much
        self.offsets = offsets
        self._digests = None if digests is None else digests.view(np.ndarray)
        self._names = names
        self._rows = np.arange(len(offsets) - 1)
        self._chosen = False
        #: What `_inverse` gives of a selection, made when it is asked for.
        self._places: np.ndarray | None = None
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

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its sequences, in order, made when they are asked for."""
        return tuple(self._names.of(self._rows))

    def __getitem__(self, key: int | str) -> np.ndarray:
        """[T_n, D], a view unless it is stored as float16."""
        row = self._rows[self.position(key) if isinstance(key, str) else key]
        sequence = self._plain[self.offsets[row] : self.offsets[row + 1]]
        self._let_go(max(sequence.nbytes, mmap.PAGESIZE))
        return sequence.astype(self.dtype, copy=False)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[n] for n in range(len(self)))

    def __contains__(self, key: str) -> bool:
        return self._place(key) is not None

    def _place(self, key: str) -> int | None:
        """Of the sequence with this id, None where there is none."""
        row = self._names.place(key)
        if row is None or not self._chosen:
            return row
        place = int(self._inverse()[row])
        return None if place < 0 else place

    def _inverse(self) -> np.ndarray:
        """[rows + 1] place of each row of the values among those chosen, or -1; last what no row is."""
        if self._places is None:
            self._places = np.full(len(self._names) + 1, -1, dtype=np.int32)
            self._places[self._rows] = np.arange(len(self._rows), dtype=np.int32)
        return self._places

    def position(self, key: str) -> int:
        """Row of the sequence with id `key`; InputError if there is none."""
        place = self._place(key)
        if place is None:
            raise InputError("ragged array", [f"no sequence with id '{key}'"])
        return place

    def select(self, ids: Iterable[str]) -> Ragged:
        """The sequences of `ids`, in that order, sharing this array's values.

        InputError names the ids that it lacks.
        """
        ids = ids if isinstance(ids, Sequence) else list(ids)
        rows = self._names.places(ids)
        places = self._inverse()[rows] if self._chosen else rows
        missing = [ids[n] for n in np.flatnonzero(places < 0).tolist()]
        if missing:
            raise InputError("ragged array", [f"no sequence with id '{name}'" for name in missing])
        chosen = copy(self)
        chosen._rows, chosen._chosen, chosen._places, chosen._held = self._rows[places], True, None, 0
        return chosen

    def digest(self, key: str) -> str | None:
        """The SHA-256 of the stored bytes of sequence `key`, in hexadecimal, where it was noted when they were written;
        InputError if there is no such sequence."""
        row = self._rows[self.position(key)]
        return None if self._digests is None else self._digests[row].tobytes().hex()

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
        self._let_go(values.nbytes + AROUND * len(rows))
        return values, mask

    def _let_go(self, read: int) -> None:
        """Give back the pages of a mapped file every `HELD` bytes: they count as this process' memory although the
        system's cache has them, from where they return at once when they are wanted again, views on them included."""
        self._held += read
        if self._held > HELD and hasattr(mmap, "MADV_DONTNEED"):
            file = getattr(self.values, "_mmap", None)  # none in what is held as an array, and in the copy of a map
            if file is not None:
                file.madvise(mmap.MADV_DONTNEED)
            self._held = 0

    def save(self, path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
        """Write one safetensors file, whole or not at all; `metadata` goes into its header."""
        with RaggedWriter.open(path, self.dimension, self.values.dtype, metadata) as writer:
            for name, sequence in zip(self.ids, self, strict=True):
                writer.append(name, sequence)

    @classmethod
    def load(cls, path: Path | str) -> Ragged:
        """Memory-map a stored array: nothing but the header, offsets and ids is read now."""
        return cls(*mapped(path))
