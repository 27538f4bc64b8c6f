"""What has been extracted already: shards of finished clips under the fingerprint of the extractor.

A shard is one ragged file of some dozens of clips whose ids are content hashes. It appears whole or not at all
and never changes, so a run that is killed loses at most the shards it was working on, and a clip whose media,
text or word times change simply has another hash.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of, write_json
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import SUFFIX
from demeanor.features.base import Extractor

#: A half-written file this old (seconds) was left by a run that is no more.
STALE = 3600.0


class ShardCache:
    """The finished clips of one extractor: content hash -> [T, D]."""

    def __init__(self, folder: Path, dimension: int, dtype: np.dtype):
        self.folder, self.dimension, self.dtype = folder, dimension, dtype
        self._places: dict[str, Ragged] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.part"):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink(missing_ok=True)
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            self._read(path)

    @classmethod
    def of(cls, root: Path, extractor: Extractor, provenance: Provenance) -> ShardCache:
        cache = cls(root / f"{extractor.name}-{provenance.fingerprint}", extractor.dimension, np.dtype(extractor.dtype))
        card = cache.folder / "provenance.json"
        if not card.exists():
            write_json(card, provenance.model_dump(mode="json"))
        return cache

    def _read(self, path: Path) -> None:
        try:
            shard = Ragged.load(path)
        except InputError:
            path.unlink()  # damaged on disk: its clips are made again
            return
        if shard.dimension == self.dimension:
            self._places.update(dict.fromkeys(shard.ids, shard))

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: str) -> np.ndarray:
        """[T, D], memory-mapped."""
        return self._places[key][key]

    def missing(self, keys: Iterable[str]) -> list[str]:
        return [key for key in keys if key not in self._places]

    def add(self, values: Mapping[str, np.ndarray]) -> None:
        """Write one shard; keys that are there already are left as they are."""
        fresh = {key: value for key, value in values.items() if key not in self._places}
        if not fresh:
            return
        path = self.folder / f"{sha256_of(sorted(fresh))[:24]}{SUFFIX}"
        filled = {
            key: value if value.size else np.zeros((0, self.dimension), self.dtype) for key, value in fresh.items()
        }
        shard = Ragged.from_sequences(filled, self.dimension, self.dtype.type)
        shard.save(path)
        self._read(path)
