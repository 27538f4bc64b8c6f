"""Features that come with a corpus: written as streams in one pass, all of them or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import RaggedWriter
from demeanor.data.stream import SUFFIX, Stream

#: Nested lists may share parts, so that a small file describes a huge array; honest files share next to nothing.
MOST_LISTED = 1 << 31


class StreamFolder:
    """`add` a stream, `append` to the writer it returns; `streams` holds them, memory-mapped, once the block ends."""

    def __init__(self, folder: Path, stack: ExitStack):
        self._folder, self._stack = folder, stack
        self._names: list[str] = []
        self.streams: dict[str, Stream] = {}

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[StreamFolder]:
        """If the block raises, no file of it stays; if it ends well, files of other streams in `folder` go away."""
        with ExitStack() as stack:
            sink = cls(folder, stack)
            yield sink
        for path in folder.glob(f"*{SUFFIX}") if folder.is_dir() else ():
            if path.name.removesuffix(SUFFIX) not in sink._names:
                path.unlink()
        sink.streams = {name: Stream.load(folder / f"{name}{SUFFIX}") for name in sink._names}

    def add(self, name: str, dimension: int, provenance: Provenance, dtype: type = np.float32) -> RaggedWriter:
        """A writer for the stream `name`, rows [time, dimension]; it is whole, or absent, when the folder closes."""
        metadata = {"stream": name, "provenance": provenance.model_dump_json()}
        path = self._folder / f"{name}{SUFFIX}"
        self._names.append(name)
        return self._stack.enter_context(RaggedWriter.open(path, dimension, dtype, metadata))


def to_float32(values: np.ndarray) -> np.ndarray:
    """float32; what is too large for it becomes infinite, which readers repair and the doctor reports.

    Of any shape [...], which stays.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32)


def as_numbers(value: Any, what: str) -> np.ndarray:
    """An array of numbers out of an array, an array of objects, or lists within lists; InputError if it is none.

    Shape [...] as the lists are nested.
    """
    if isinstance(value, np.ndarray) and value.dtype != object:
        if value.dtype.kind not in "biuf":
            raise InputError(what, [f"holds {value.dtype} instead of numbers"])
        return value
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise InputError(what, [f"is a {type(value).__name__} instead of an array"])
    if _count(value, {}) > MOST_LISTED:
        raise InputError(what, ["its lists would make an array of more than two thousand million numbers"])
    try:
        array = np.array([np.asarray(part, dtype=np.float64) for part in value], dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise InputError(what, ["holds rows of different length, or something that is no number"]) from None
    return array


def _count(value: Any, seen: dict[int, int], depth: int = 0) -> int:
    """Numbers in nested lists, each shared list looked at once."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return int(value.size)
    if not isinstance(value, (list, tuple, np.ndarray)):
        return 1
    if depth > 8:
        return MOST_LISTED + 1
    if id(value) not in seen:
        seen[id(value)] = 0  # a list within itself ends here
        first = value[0] if len(value) else None
        plain = not isinstance(first, (list, tuple, np.ndarray))
        seen[id(value)] = len(value) if plain else sum(_count(part, seen, depth + 1) for part in value)
    return seen[id(value)]


def as_strings(value: Any, what: str) -> list[str]:
    """Strings out of a list or array of str, bytes or numbers. InputError for anything else in it."""
    if isinstance(value, np.ndarray) and value.size and value.ndim:
        value = value.reshape(len(value), -1)[:, 0].tolist()
    elif isinstance(value, np.ndarray):
        value = value.reshape(-1).tolist()
    if not isinstance(value, (list, tuple)):
        raise InputError(what, [f"is a {type(value).__name__} instead of a list of strings"])
    strings = []
    for item in value:
        while isinstance(item, (list, tuple, np.ndarray)) and len(item) == 1:
            item = item[0]  # noqa: PLW2901 - some producers wrap each string in a list
        if isinstance(item, (bytes, memoryview)):
            strings.append(bytes(item).decode("utf-8", "replace"))
        elif isinstance(item, (str, int, float, np.generic)):
            strings.append(str(item))
        else:
            raise InputError(what, [f"holds a {type(item).__name__} instead of a string"])
    return strings
