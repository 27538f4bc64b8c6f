"""Where a folder lies: on the local disk, or at any URL that fsspec knows, with Kedro's versions where asked for."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import fsspec
from kedro.io import AbstractDataset, AbstractVersionedDataset, DatasetError, Version
from kedro.io.core import get_filepath_str, get_protocol_and_path

from demeanor.data.errors import InputError
from demeanor.datasets.files import LOCAL


class VersionedFolder(AbstractVersionedDataset):
    """Base of the datasets that are a folder and may lie anywhere.

    filepath     a path or a URL, as all of Kedro's take it
    version      given by Kedro where the catalog says `versioned: true`
    credentials  what the file system behind the URL asks for
    fs_args      further arguments of that file system

    The nouns read and map local files. What lies elsewhere is fetched to a temporary folder that lasts as long as the
    process, and stored from one.
    """

    made_by: ClassVar[str] = "fusion_training"
    """The pipelines that save it, for the message where it is not there."""

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ):
        self._protocol, path = get_protocol_and_path(filepath, version)
        self._fs = fsspec.filesystem(self._protocol, **(credentials or {}), **(fs_args or {}))
        self.metadata = metadata
        super().__init__(PurePosixPath(path), version, exists_function=self._fs.exists, glob_function=self._fs.glob)

    @property
    def is_local(self) -> bool:
        """Whether it lies on the local disk."""
        return self._protocol == LOCAL

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "protocol": self._protocol, "version": self._version}

    def _exists(self) -> bool:
        try:
            found = self._get_load_path()
        except DatasetError:  # no version yet
            return False
        return bool(self._fs.isdir(get_filepath_str(found, self._protocol)))

    def fetched(self) -> Path:
        """The folder to load, on the local disk. InputError, with the pipelines that make it, where it is not there."""
        if not VersionedFolder._exists(self):
            advice = f"Run `kedro run --pipelines {self.made_by}` first."
            raise InputError(get_filepath_str(self._filepath, self._protocol), ["not there yet"], advice)
        place = self._get_load_path()
        if self.is_local:
            return Path(place)
        folder = Path(_copies().name) / uuid.uuid4().hex / place.name
        self._fs.get(f"{get_filepath_str(place, self._protocol)}/", f"{folder}/", recursive=True)
        return folder

    @contextmanager
    def storing(self) -> Iterator[Path]:
        """Yield where to write: the folder itself on the local disk, elsewhere one that is uploaded at the end.

        The nouns write whole or not at all; an upload of several files is only begun once all of them are there.
        """
        place = self._get_save_path()
        if self.is_local:
            yield Path(place)
            return
        folder = Path(_copies().name) / uuid.uuid4().hex / place.name
        try:
            yield folder
            target = get_filepath_str(place, self._protocol)
            if self._fs.exists(target):
                self._fs.rm(target, recursive=True)
            self._fs.put(f"{folder}/", f"{target}/", recursive=True)
        finally:
            if folder.parent.exists():
                shutil.rmtree(folder.parent)
        self._fs.invalidate_cache(get_filepath_str(self._filepath, self._protocol))


class LocalFolder(AbstractDataset):
    """Base of the datasets that are a folder of this machine: one that nodes work in, or a view on several."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None):
        protocol, path = get_protocol_and_path(filepath)
        if protocol != LOCAL:
            raise InputError(filepath, ["has to be a folder of this machine"], "Give a path, or a file:// URL.")
        self._filepath = PurePosixPath(path)
        self.metadata = metadata

    @property
    def path(self) -> Path:
        """The folder on the local disk."""
        return Path(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def _exists(self) -> bool:
        return self.path.is_dir()


def path_of(dataset: Any) -> Path | None:
    """The local path of what a dataset has saved, its latest version; None where it lies elsewhere or in memory."""
    if not isinstance(dataset, AbstractVersionedDataset) or getattr(dataset, "_protocol", None) != LOCAL:
        return None
    return Path(dataset._get_load_path())


@cache
def _copies() -> tempfile.TemporaryDirectory[str]:
    """What was fetched, until the process ends: streams are mapped, and opened again by their paths."""
    return tempfile.TemporaryDirectory(prefix="demeanor-")
