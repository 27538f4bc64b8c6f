"""Word vectors from a text file (GloVe, word2vec, fastText): read once into a form that is memory-mapped.

One word a line, then its numbers; a first line 'words dimension' is passed over. The converted form lies in
`$DEMEANOR_CACHE` or `~/.cache/demeanor` under the file's hash, so several processes and runs share its pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32

from demeanor.data.errors import InputError
from demeanor.data.files import read_json, sha256_of_file, write_atomically, write_json
from demeanor.data.places import anchored, cache_folder
from demeanor.data.ragged import Ragged
from demeanor.data.settings import Settings
from demeanor.features.base import Clip, Extractor
from demeanor.features.sharing import loaded_once

#: What stands around a word in a transcript and is no part of it.
PUNCTUATION = ".,;:!?\"'`()[]{}<>…“”‘’«»„—–-*_"


@dataclass(frozen=True)
class WordVectors:
    """N vectors: `keys` sorted 64-bit hashes of the words, `order` the row of each; all memory-mapped."""

    sha256: str
    keys: np.ndarray
    order: np.ndarray
    vectors: np.ndarray

    @property
    def dimension(self) -> int:
        """Width of a vector."""
        return int(self.vectors.shape[1])

    def find(self, word: str) -> Float32[np.ndarray, " dimension"] | None:
        """The vector of a word, None for one that the file does not have."""
        key = _key(word)
        place = int(np.searchsorted(self.keys, key))
        if place < len(self.keys) and self.keys[place] == key:
            return self.vectors[self.order[place]]
        return None


def _key(word: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest(), "little"))


def load_vectors(path: Path | str) -> WordVectors:
    """The vectors of a text file, converted when first asked for. InputError where it is none."""
    path = anchored(path)
    if not path.is_file():
        raise InputError(str(path), ["there is no such file"], "Give the path of a file such as glove.840B.300d.txt.")
    status = path.stat()
    return _loaded(str(path), status.st_size, status.st_mtime_ns)


@loaded_once(maxsize=2)
def _loaded(path: str, size: int, modified: int) -> WordVectors:
    digest = sha256_of_file(path)
    folder = cache_folder() / "vectors" / digest[:32]
    if not folder.is_dir():
        with write_atomically(folder) as temporary:
            _convert(Path(path), temporary)
            write_json(temporary / "card.json", {"sha256": digest, "source": path})
    parts = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("keys", "order", "vectors")}
    return WordVectors(read_json(folder / "card.json")["sha256"], **parts)


def _convert(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    keys: list[np.uint64] = []
    dimension = 0
    raw = folder / "vectors.raw"
    with open(raw, "wb") as handle:
        for number, word, values in _lines(path):
            dimension = dimension or len(values)
            if len(values) != dimension:
                problem = f"line {number} holds {len(values)} numbers, the first {dimension}"
                raise InputError(str(path), [problem])
            keys.append(_key(word))
            handle.write(values.tobytes())
    if not keys:
        raise InputError(str(path), ["holds no word vectors"])
    # Of a word listed twice, the first line counts.
    unique, order = np.unique(np.array(keys, dtype=np.uint64), return_index=True)
    np.save(folder / "keys.npy", unique)
    np.save(folder / "order.npy", order)
    rows = np.memmap(raw, dtype=np.float32, mode="r", shape=(len(keys), dimension))
    np.save(folder / "vectors.npy", rows)
    del rows
    raw.unlink()


def _lines(path: Path) -> Iterator[tuple[int, str, np.ndarray]]:
    """(line number, word, numbers). A word may hold spaces: numbers are counted from the end."""
    width: int | None = None
    with open(path, encoding="utf-8", errors="replace", newline="\n") as handle:
        for number, line in enumerate(handle, 1):
            parts = line.rstrip("\r\n ").split(" ")
            if number == 1 and len(parts) == 2:
                continue
            width = len(parts) - 1 if width is None else width
            try:
                values = np.array(parts[max(len(parts) - width, 1) :], dtype=np.float32)
            except ValueError:
                raise InputError(str(path), [f"line {number} is no word with numbers: {line[:60]!r}"]) from None
            yield number, " ".join(parts[: len(parts) - width]), values


class VectorSettings(Settings):
    """`vectors`: path of the text file. `case`: words as they are, lower-cased if unknown so, or always."""

    vectors: str
    case: Literal["keep", "fall_back", "lower"] = "fall_back"


class WordVectorStream(Extractor):
    """`text.words`: one vector per word of `text.split()` from a vector file, [W, D] float32.

    A word is looked up as it is, then without the punctuation around it; one that is not listed is a row of
    zeros, and the share of those is said when the stream is made.
    """

    name = "glove"
    stream = "text.words"
    reads = frozenset({"text"})
    unit = "word"
    licence = "that of the vectors (GloVe: PDDL)"
    batched = True
    settings_type: ClassVar[type[Settings]] = VectorSettings

    @cached_property
    def vectors(self) -> WordVectors:
        """The file's vectors, read into their memory-mapped form once."""
        return load_vectors(self.settings.vectors)

    @property
    def version(self) -> str:
        return "1"

    @property
    def dimension(self) -> int:
        return self.vectors.dimension

    @property
    def weights_sha256(self) -> str | None:
        """Hash of the vectors' file."""
        return self.vectors.sha256

    def extract_clip(self, clip: Clip) -> np.ndarray:
        if clip.spoken is None:
            return self.absent
        words = clip.spoken.split()
        values = np.zeros((len(words), self.dimension), dtype=np.float32)
        for row, word in enumerate(words):
            vector = self.find(word)
            if vector is not None:
                values[row] = vector
        return values

    def extract(self, clips: Any) -> list[np.ndarray]:
        return [self.extract_clip(clip) for clip in clips]

    def find(self, word: str) -> np.ndarray | None:
        """The vector of a word of a transcript, or None. [dimension]."""
        forms = [word, word.strip(PUNCTUATION)]
        if self.settings.case == "lower":
            forms = [form.lower() for form in forms]
        elif self.settings.case == "fall_back":
            forms += [form.lower() for form in forms]
        return next((found for form in forms if form and (found := self.vectors.find(form)) is not None), None)

    def remark(self, ragged: Ragged) -> str:
        unknown = sum(int((~part.any(axis=1)).sum()) for part in ragged)
        total = int(ragged.lengths.sum())
        return f"{unknown} of {total} words have no vector and are zero" if unknown else ""
