"""Stream: a named ragged array with its provenance, and folders of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from demeanor.data.errors import InputError
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.safetensors_header import read_metadata

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Stream:
    """One sequence per utterance that a model can ask for, for example `audio.frames`.

    The part of the name before the dot is the modality: text, audio, vision, or representation. `path` and
    `content_sha256` (of values, lengths and ids) are known for a stream that comes from a file.
    """

    name: str
    ragged: Ragged
    provenance: Provenance
    path: Path | None = None
    content_sha256: str | None = None

    @property
    def modality(self) -> str:
        """What its name begins with: text, audio or vision."""
        return self.name.split(".", 1)[0]

    @property
    def dimension(self) -> int:
        """Width of a step."""
        return self.ragged.dimension

    def select(self, ids: Iterable[str]) -> Stream:
        """The named utterances, in the given order."""
        return replace(self, ragged=self.ragged.select(ids))

    def save(self, path: Path | str) -> None:
        """Write one safetensors file with the name and the provenance in its header."""
        metadata = {"stream": self.name, "provenance": self.provenance.model_dump_json()}
        self.ragged.save(path, metadata)

    @classmethod
    def load(cls, path: Path | str) -> Stream:
        """Memory-map the stream stored at `path`. InputError for a file that Demeanor has not made."""
        metadata = read_metadata(path)
        if "stream" not in metadata or "provenance" not in metadata:
            raise InputError(str(path), ["carries no stream name and provenance: not made by Demeanor"])
        provenance = Provenance(**json.loads(metadata["provenance"]))
        content = metadata.get("content_sha256")
        return cls(metadata["stream"], Ragged.load(path), provenance, Path(path), content)


def save_streams(folder: Path | str, streams: Mapping[str, Stream]) -> None:
    """One file per stream; files of streams that are no longer there go away.

    A stream that was written straight to its place while it was made is not written again.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, stream in streams.items():
        path = folder / f"{name}{SUFFIX}"
        in_place = stream.path is not None and stream.path.resolve() == path.resolve() and stream.ragged.whole
        if not in_place:
            stream.save(path)
    for path in folder.glob(f"*{SUFFIX}"):
        if path.name.removesuffix(SUFFIX) not in streams:
            path.unlink()


def load_streams(folder: Path | str) -> dict[str, Stream]:
    """All streams of a folder by name, memory-mapped."""
    return {path.name.removesuffix(SUFFIX): Stream.load(path) for path in sorted(Path(folder).glob(f"*{SUFFIX}"))}
