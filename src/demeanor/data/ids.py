"""Ids: the names of a million utterances, in a quarter of the room that strings and a dictionary of them take.

The streams of a corpus have the same ids in the same order: those that are read from files share them, and so do their
selections.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload
from weakref import WeakValueDictionary

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.files import parse_json

#: Ids that are strings at once where all are gone through.
BLOCK = 4096
#: Bytes of a list in a file that are parsed at once, and what stands between two ids there: within one, a quote has a
#: backslash before it.
PIECE, BETWEEN = 1 << 18, b'", "'


class Ids(Sequence[str]):
    """Names in order, and where each stands: UTF-8 in one piece, and 64 bits of hash to find a name by."""

    def __init__(self, names: Iterable[str] = ()):
        text, lengths, hashes = bytearray(), array("q"), array("q")
        for name in names:
            encoded = name.encode("utf-8", "surrogatepass")
            text += encoded
            lengths.append(len(encoded))
            hashes.append(hash(name))
        self._text = bytes(text)
        self._ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        known = np.array(hashes, dtype=np.int64)
        #: Places in the order of their hashes; of two with one name the later one comes last.
        self._order = np.argsort(known, kind="stable").astype(np.int32)
        self._hashes = known[self._order]

    def __reduce__(self) -> tuple[type[Ids], tuple[list[str]]]:
        """Another process hashes strings in its own way."""
        return type(self), (list(self),)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        rows = range(len(self))[index]
        if isinstance(rows, range):
            return self.of(rows)
        return self._text[self._ends[rows] : self._ends[rows + 1]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            yield from self.of(range(len(self))[start : start + BLOCK])

    def of(self, places: Sequence[int] | np.ndarray) -> list[str]:
        """The names at these places [M]."""
        rows = np.asarray(places, dtype=np.int64)
        spans = zip(self._ends[rows].tolist(), self._ends[rows + 1].tolist(), strict=True)
        return [self._text[start:end].decode("utf-8", "surrogatepass") for start, end in spans]

    def place(self, name: str) -> int | None:
        """Where a name stands, the last place if it does so twice; None if it does not."""
        wanted, text = hash(name), name.encode("utf-8", "surrogatepass")
        at = int(self._hashes.searchsorted(wanted, side="right")) - 1
        while at >= 0 and self._hashes.item(at) == wanted:  # another name may have the same hash
            place = int(self._order.item(at))
            if self._text[self._ends.item(place) : self._ends.item(place + 1)] == text:
                return place
            at -= 1
        return None

    def places(self, names: Iterable[str]) -> np.ndarray:
        """[M] where each of the names stands, -1 for one that does not."""
        found = [np.zeros(0, dtype=np.int64)]
        remaining = iter(names)
        while block := list(islice(remaining, BLOCK)):
            found.append(self._found(block))
        return np.concatenate(found)

    def _found(self, names: list[str]) -> np.ndarray:
        """`place` of many at once."""
        places = np.full(len(names), -1, dtype=np.int64)
        if not len(self):
            return places
        wanted = np.fromiter(map(hash, names), np.int64, len(names))
        at = np.maximum(self._hashes.searchsorted(wanted, side="right") - 1, 0)
        rows = np.flatnonzero(self._hashes[at] == wanted)
        candidates = self._order[at[rows]]
        for row, place, there in zip(rows.tolist(), candidates.tolist(), self.of(candidates), strict=True):
            other = place if there == names[row] else self.place(names[row])
            places[row] = -1 if other is None else other
        return places


#: Hash of a list of ids in a file -> the ids, as long as anybody has them.
_KNOWN: WeakValueDictionary[bytes, Ids] = WeakValueDictionary()


def ids_of(content: bytes, where: str) -> Ids:
    """The ids of a JSON list, which are those of every other file with the same list. InputError, which names `where`,
    for what is no list of strings."""
    digest = hashlib.sha256(content).digest()
    known = _KNOWN.get(digest)
    if known is None:
        known = _KNOWN.setdefault(digest, Ids(_parsed(content, where)))
    return known


def _parsed(content: bytes, where: str) -> Iterator[str]:
    """The strings of the list, some thousand at a time."""
    start, cut = 0, 0
    while cut >= 0:
        cut = content.find(BETWEEN, start + PIECE)
        end = len(content) if cut < 0 else cut + 1
        piece = (b"[" if start else b"") + content[start:end] + (b"]" if cut >= 0 else b"")
        try:
            names = parse_json(piece.decode("utf-8"), where)
        except UnicodeDecodeError:
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(where, ["its ids are no list of names"])
        yield from names
        start = end + len(b", ")
