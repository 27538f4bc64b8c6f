"""The file of a ragged stream: written in one pass, mapped when it is read.

A safetensors file is an 8-byte little-endian header length, a JSON header, then raw values
(https://github.com/huggingface/safetensors#format). The header may end in spaces; `RaggedWriter` uses that
to reserve room, so that a stream of unknown length is written in one pass without being held in memory.
"""

from __future__ import annotations

import hashlib
import json
import struct
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.files import write_atomically
from demeanor.data.ids import Ids, ids_of
from demeanor.data.safetensors_header import DTYPES, read_header
from demeanor.data.spools import pieces, spool

HEADER_ROOM = 1 << 16
DTYPE_NAMES = {np.dtype(value): key for key, value in DTYPES.items()}


class Mapped(NamedTuple):
    """What a file holds: values [steps, D], offsets [N + 1], ids, and digests [N, 32] where there are some."""

    values: np.ndarray
    offsets: np.ndarray
    names: Ids
    digests: np.ndarray | None


class RaggedWriter:
    """Append sequences one after the other; use `RaggedWriter.open` so that the file appears whole or not at all."""

    def __init__(
        self, handle: BinaryIO, ids: IO[bytes], digests: IO[bytes] | None, dimension: int, dtype: np.dtype,
        metadata: Mapping[str, str], hashed: bool = True,
    ):  # fmt: skip
        """`ids` and `digests` take what comes behind the values: of a million sequences it is not kept in memory."""
        if np.dtype(dtype) not in DTYPE_NAMES:
            raise InputError("ragged array", [f"values of type {dtype} cannot be stored"])
        self._handle, self.dimension, self.dtype = handle, dimension, np.dtype(dtype)
        self._metadata = dict(metadata)
        self._lengths = array("q")
        self._ids, self._digests = ids, digests
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
        each: bool = False,
    ) -> Iterator[RaggedWriter]:
        """A writer of sequences [time, dimension]; the file is there once the block has ended without an error. With
        `hashed` it says the hash of its content, for those who ask whether that has changed; with `each` that of every
        sequence as well (`Ragged.digest`)."""
        with (
            write_atomically(path) as temporary, open(temporary, "wb") as handle,
            spool(temporary.parent) as ids, spool(temporary.parent) as digests,
        ):  # fmt: skip
            writer = cls(handle, ids, digests if each else None, dimension, np.dtype(dtype), metadata or {}, hashed)
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
        if self._digests is not None:
            self._digests.write(hashlib.sha256(content).digest())
        self._ids.write(f"{', ' if self._lengths else '['}{json.dumps(name, ensure_ascii=False)}".encode())
        self._lengths.append(len(sequence))

    def _add_to_hash(self, content: bytes | memoryview) -> None:
        if self._hash is not None:
            self._hash.update(content)

    def _finish(self) -> None:
        offsets = np.zeros(len(self._lengths) + 1, dtype=np.int64)
        np.cumsum(self._lengths, out=offsets[1:])
        steps = int(offsets[-1])
        ends = [steps * self.dimension * self.dtype.itemsize]
        # Alignment: the format wants no gaps, so the 8-byte offsets follow the values wherever those end.
        self._handle.write(offsets.data)
        self._add_to_hash(offsets.data)
        ends.append(ends[-1] + offsets.nbytes)
        self._ids.write(b"]" if self._lengths else b"[]")
        names = self._ids.tell()
        ends.append(ends[-1] + names)
        for content in pieces(self._ids):
            self._handle.write(content)
            self._add_to_hash(content)
        digests = {}
        if self._digests is not None:
            digests = {"digests": _entry("U8", [len(self._lengths), 32], ends[2], ends[2] + self._digests.tell())}
            for content in pieces(self._digests):
                self._handle.write(content)
        header = {
            "__metadata__": {
                **self._metadata,
                "format": "demeanor.ragged",
                **({} if self._hash is None else {"content_sha256": self._hash.hexdigest()}),
            },
            "values": _entry(DTYPE_NAMES[self.dtype], [steps, self.dimension], 0, ends[0]),
            "offsets": _entry("I64", [len(offsets)], ends[0], ends[1]),
            "ids": _entry("U8", [names], ends[1], ends[2]),
            **digests,
        }
        text = json.dumps(header, ensure_ascii=True).encode("ascii")
        if len(text) > HEADER_ROOM:
            raise InputError("ragged array", [f"its metadata take {len(text)} bytes, more than {HEADER_ROOM}"])
        self._handle.seek(0)
        self._handle.write(struct.pack("<Q", HEADER_ROOM) + text.ljust(HEADER_ROOM, b" "))


def _entry(dtype: str, shape: list[int], start: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def mapped(path: Path | str) -> Mapped:
    """Map a stored array; offsets and ids are read. InputError, with what is wrong, for any other file."""
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

    names = ids_of(array("ids").tobytes(), str(path))
    noted = header.get("digests", {})
    known = (noted.get("dtype"), noted.get("shape")) == ("U8", [len(names), 32])
    return Mapped(array("values"), np.array(array("offsets")), names, array("digests") if known else None)
