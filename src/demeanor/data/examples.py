"""Examples: utterances with their streams, and the one cut between development and the sealed test."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from demeanor.data.errors import InputError, nearest
from demeanor.data.files import read_json, sha256_of, write_atomically, write_json
from demeanor.data.ids import Ids
from demeanor.data.stream import SUFFIX, Stream
from demeanor.data.table_on_disk import let_go, on_disk, read_parquet
from demeanor.data.utterances import names_in, validate

#: Rows of the table that are held as text.
ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Examples:
    """Some utterances and, for each stream, exactly their sequences in the same order."""

    utterances: pd.DataFrame
    streams: Mapping[str, Stream] = field(default_factory=dict)

    @classmethod
    def of(cls, utterances: pd.DataFrame, streams: Mapping[str, Stream]) -> Examples:
        """Restrict every stream to the rows of `utterances`; an utterance that a stream lacks is an error."""
        utterances = on_disk(utterances.reset_index(drop=True))
        ids = Ids(names_in(utterances))
        return cls(utterances, {name: stream.select(ids) for name, stream in streams.items()})

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def ids(self) -> list[str]:
        """Name of the utterances, in the table's order."""
        return list(names_in(self.utterances))

    def split(self, *names: str) -> Examples:
        """The utterances of one or several splits."""
        rows = np.flatnonzero(self.utterances["split"].isin(names))
        return Examples.of(on_disk(self.utterances, rows), self.streams)

    def select(self, ids: Iterable[str]) -> Examples:
        """The named utterances with their part of every stream, in the given order. KeyError for an unknown one."""
        table = self.utterances.set_index("utterance_id", drop=False).loc[list(ids)]
        return Examples.of(table, self.streams)

    def stream(self, name: str) -> Stream:
        """The stream of that name; InputError, with the nearest name, if there is none."""
        if name not in self.streams:
            raise InputError("streams", [f"there is no stream '{name}'.{nearest(name, self.streams)}"])
        return self.streams[name]

    @cached_property
    def data_hash(self) -> str:
        """Hash of ids, splits, labels and the content of every stream.

        It is `sha256_of([table, streams])` of the table's rows as one text, made piece by piece: the text of a million
        rows would take as much memory as ten streams.
        """
        streams = {
            name: stream.content_sha256 or sha256_of([part.tolist() for part in stream.ragged])
            for name, stream in self.streams.items()
        }
        digest = hashlib.sha256(b'["[')
        for start in range(0, len(self), ROWS_AT_ONCE):
            rows = self.utterances.iloc[start : start + ROWS_AT_ONCE]
            text = rows.to_json(orient="records", double_precision=15)[1:-1]
            digest.update(b"," if start else b"")
            digest.update(json.dumps(text, ensure_ascii=False)[1:-1].encode())
            let_go()
        digest.update(b']", ' + json.dumps(streams, sort_keys=True, ensure_ascii=False).encode() + b"]")
        return digest.hexdigest()[:16]

    def save(self, folder: Path | str) -> None:
        """Write the table, and for each stream the file that holds it (a copy only if it is in no file yet)."""
        folder = Path(folder)
        with write_atomically(folder) as temporary:
            temporary.mkdir()
            self.utterances.to_parquet(temporary / "utterances.parquet", index=False)
            let_go()
            listed = {}
            for name, stream in self.streams.items():
                if stream.path is None:
                    stream.save(temporary / f"{name}{SUFFIX}")
                    listed[name] = {"path": f"{name}{SUFFIX}", "content_sha256": None}
                else:
                    relative = os.path.relpath(stream.path.resolve(), folder.resolve())
                    listed[name] = {"path": relative, "content_sha256": stream.content_sha256}
            write_json(temporary / "streams.json", listed)

    @classmethod
    def load(cls, folder: Path | str) -> Examples:
        """Memory-map what `save` wrote; a stream that was made anew since then is an InputError."""
        folder = Path(folder)
        table = validate(read_parquet(folder / "utterances.parquet"), str(folder))
        streams, problems = {}, []
        for name, entry in read_json(folder / "streams.json").items():
            path = folder / entry["path"]
            if not path.is_file():
                problems.append(f"stream '{name}': {path} is gone")
                continue
            stream = Stream.load(path)
            if entry["content_sha256"] not in (None, stream.content_sha256):
                problems.append(f"stream '{name}': {path} has changed since the cut")
                continue
            streams[name] = stream
        if problems:
            raise InputError(str(folder), problems, "Run `kedro run --pipelines feature_engineering` again.")
        return cls.of(table, streams)
