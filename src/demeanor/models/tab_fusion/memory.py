"""What a frozen encoder gives, kept per utterance: the second epoch costs the head alone.

Kept under the hash of all that decides a vector (the encoder's weights, the pooling, the stream's provenance) and, in
it, of the utterance's own ids; so several seeds share it, and a changed transcript, encoder or vocabulary never meets
an old vector. In another batch an encoder rounds differently, so each utterance is encoded alone: what is
kept depends neither on the order of calls nor on the threads that make them. Threads may share a memory.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import RLock

import numpy as np
from torch import nn

from demeanor.data.files import sha256_of
from demeanor.features.cache import ShardCache

#: Bytes of vectors that one encoder keeps in main memory: 130 000 utterances of RoBERTa-large.
ROOM = 1 << 29
#: Vectors that make a file worth writing.
SHARD = 512


class VectorMemory:
    """Vectors [D] float32 by content; the longest unused are forgotten first, those of `folder` stay on disk."""

    def __init__(self, dimension: int, folder: Path | None = None, room: int = ROOM):
        self.dimension = dimension
        self.room = max(room // (4 * dimension), 1)
        self.made = 0
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._stored = None if folder is None else ShardCache(folder, dimension, np.dtype(np.float32))
        self._waiting: dict[str, np.ndarray] = {}
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors that are there. Each [dimension]."""
        vectors = {}
        with self._lock:
            for key in keys:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    vectors[key] = self._kept[key]
                elif self._stored is not None and key in self._stored:
                    vectors[key] = np.array(self._stored[key][0])
                    self._keep(key, vectors[key])
        return vectors

    def put(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Remembers vectors [dimension] by key, and writes them where there is a store."""
        with self._lock:
            self.made += len(vectors)
            for key, vector in vectors.items():
                self._keep(key, vector)
            if self._stored is not None:
                self._waiting.update(vectors)
                if len(self._waiting) >= SHARD:
                    self.flush()

    def flush(self) -> None:
        """Write what waits for it, where there is a folder."""
        with self._lock:
            if self._stored is not None and self._waiting:
                self._stored.add({key: vector[None] for key, vector in self._waiting.items()})
                self._waiting = {}

    def _keep(self, key: str, vector: np.ndarray) -> None:
        self._kept[key] = vector
        if len(self._kept) > self.room:
            self._kept.popitem(last=False)


_MEMORIES: dict[tuple[str, str], VectorMemory] = {}
_MEMORIES_LOCK = RLock()


def memory_of(provenance: str, dimension: int, folder: str = "") -> VectorMemory:
    """The one memory of this process for vectors of this provenance (see `provenance_of`)."""
    key = (provenance, folder)
    with _MEMORIES_LOCK:
        if key not in _MEMORIES:
            place = Path(folder) / f"tab_fusion-{provenance[:16]}" if folder else None
            _MEMORIES[key] = VectorMemory(dimension, place)
        return _MEMORIES[key]


def forget() -> None:
    """Empty the memory of this process; files stay."""
    _MEMORIES.clear()


def provenance_of(network: nn.Module, pooling: str, max_length: int, stream: str) -> str:
    """Hash of what decides the vector of an utterance beside its own ids; `stream` is its provenance's fingerprint."""
    digest = hashlib.blake2b(digest_size=32)
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + str(value.dtype).encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return sha256_of([digest.hexdigest(), pooling, max_length, stream])


def content_of(ids: np.ndarray, lengths: Sequence[int]) -> list[str]:
    """[B, T] ids -> the hash of each row's real ones."""
    ids = np.ascontiguousarray(ids, dtype=np.int64)
    return [
        hashlib.blake2b(row[:length].tobytes(), digest_size=16).hexdigest()
        for row, length in zip(ids, lengths, strict=True)
    ]
