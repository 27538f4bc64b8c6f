"""Datasets of one file: those of kedro-datasets, saved whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pandas as pd
from kedro.io.core import get_filepath_str
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import CSVDataset, ParquetDataset
from kedro_datasets.text import TextDataset
from kedro_datasets.yaml import YAMLDataset

from demeanor.data.files import write_atomically
from demeanor.data.table_on_disk import read_parquet
from demeanor.datasets.previews import HTMLPreview, TablePreview, table_of, text_of

LOCAL = "file"


@contextmanager
def whole_file(filesystem: Any, protocol: str, path: PurePosixPath) -> Iterator[Path]:
    """Yield a local path to write to; when the block ends well, what is there takes its place at `path`.

    On the local disk by a rename beside it, elsewhere by one upload: a killed run leaves the former file or the new.
    """
    if protocol == LOCAL:
        with write_atomically(Path(path)) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / path.name
        filesystem.put_file(str(Path(folder) / path.name), get_filepath_str(path, protocol))


class Whole:
    """Saves through `whole_file`.

    The writing is done by a copy of the dataset that points there, never by this one: other threads may be reading.
    """

    _filepath: PurePosixPath
    _protocol: str
    _fs: Any
    _version: Any

    def save(self, data: Any) -> None:
        """Put `data` there whole, or leave what was there."""
        with whole_file(self._fs, self._protocol, self._get_save_path()) as temporary:  # type: ignore[attr-defined]
            writer = copy(self)
            writer._filepath, writer._version = PurePosixPath(temporary), None
            writer._protocol, writer._fs = LOCAL, fsspec.filesystem(LOCAL)
            super(Whole, writer).save(data)  # type: ignore[misc]
        self._fs.invalidate_cache(get_filepath_str(self._filepath, self._protocol))


class _Table(Whole):
    """A table of which kedro viz shows the first rows."""

    def preview(self, nrows: int = 5) -> TablePreview:
        """The first rows, numbers to four decimals. Kedro's own reads parquet on the local disk alone and shows all
        digits of a CSV file."""
        first = self.load().head(nrows)  # type: ignore[attr-defined]
        return table_of(first.to_dict(orient="records"))


class ParquetFile(_Table, ParquetDataset):
    """pandas.ParquetDataset, saved whole; what is read of a large one on the local disk stays on disk."""

    def load(self) -> pd.DataFrame:
        """The table."""
        if self._protocol == LOCAL and not self._load_args:
            return read_parquet(str(self._get_load_path()))
        return super().load()


class CSVFile(_Table, CSVDataset):
    """pandas.CSVDataset, saved whole."""


class JSONFile(Whole, JSONDataset):
    """json.JSONDataset, saved whole."""


class FoundFacts(JSONFile):
    """A JSONFile that a command may have left beside what runs make; {} where it has not."""

    def load(self) -> Any:
        """Its content, or {}."""
        return super().load() if super()._exists() else {}

    def _exists(self) -> bool:
        return True  # that there is none is an ordinary state


class YAMLFile(Whole, YAMLDataset):
    """yaml.YAMLDataset, saved whole."""


class TextFile(Whole, TextDataset):
    """text.TextDataset, saved whole."""

    def preview(self) -> HTMLPreview:
        """A page as it is, any other text as it is typed."""
        return text_of(self.load(), self._filepath.suffix == ".html")
