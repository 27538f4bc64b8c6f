"""Kedro datasets for the nouns, and the usual ones with whole-or-nothing saving."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview
from kedro_datasets.json import JSONDataset
from kedro_datasets.matplotlib import MatplotlibDataset
from kedro_datasets.pandas import CSVDataset, ParquetDataset
from kedro_datasets.text import TextDataset

from demeanor.data.errors import InputError
from demeanor.data.files import write_atomically

if TYPE_CHECKING:
    from demeanor.data.bundle import Bundle
    from demeanor.data.examples import Examples
    from demeanor.data.stream import Stream


class _Atomic:
    """Save to a temporary name beside the file, then rename: a killed run leaves the former file or the new one."""

    _filepath: PurePosixPath

    def save(self, data: Any) -> None:
        final = self._filepath
        with write_atomically(Path(final)) as temporary:
            self._filepath = PurePosixPath(temporary)
            try:
                super().save(data)  # type: ignore[misc]
            finally:
                self._filepath = final


class ParquetFile(_Atomic, ParquetDataset):
    """pandas.ParquetDataset, saved atomically."""


class CSVFile(_Atomic, CSVDataset):
    """pandas.CSVDataset, saved atomically."""


class JSONFile(_Atomic, JSONDataset):
    """json.JSONDataset, saved atomically."""


class TextFile(_Atomic, TextDataset):
    """text.TextDataset, saved atomically."""


class FigureFile(_Atomic, MatplotlibDataset):
    """matplotlib.MatplotlibDataset, saved atomically."""


class _Folder(AbstractDataset):
    """Base of the datasets that are a folder."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None):
        self._filepath = Path(filepath)
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _require(self, made_by: str) -> Path:
        if not self._filepath.is_dir():
            raise InputError(str(self._filepath), ["not there yet"], f"Run `kedro run --pipelines {made_by}` first.")
        return self._filepath


class WorkFolder(_Folder):
    """A folder that nodes write to while they work, loaded as its path: caches, checkpoints, streams beyond memory.

    The catalog says where it lies, as it does for everything else; nothing is saved through it.
    """

    def load(self) -> str:
        return str(self._filepath)

    def save(self, data: Any) -> None:
        """Always an InputError: nodes write into the folder themselves."""
        raise InputError(str(self._filepath), ["is a folder that nodes write to; no output may be saved in its place"])

    def _exists(self) -> bool:
        return True  # whoever works in it makes it


class EnvironmentFolder(_Folder):
    """A configuration environment of Kedro: file name -> parameters, written as YAML, the whole folder at once."""

    def load(self) -> dict[str, Any]:
        import yaml

        folder = self._require("tuning")
        return {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yml"))}

    def save(self, data: dict[str, Any]) -> None:
        import yaml

        with write_atomically(self._filepath) as temporary:
            temporary.mkdir()
            for name, values in data.items():
                text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)
                (temporary / name).write_text(f"# Written by the tuning pipeline.\n{text}", encoding="utf-8")


class StreamsFolder(_Folder):
    """Streams by name, one memory-mapped safetensors file each."""

    def load(self) -> dict[str, Stream]:
        from demeanor.data.stream import load_streams

        return load_streams(self._require("ingestion,feature_engineering"))

    def save(self, data: dict[str, Stream]) -> None:
        from demeanor.data.stream import save_streams

        save_streams(self._filepath, data)

    def preview(self) -> JSONPreview:
        """What kedro viz shows: shape and maker of every stream."""
        from demeanor.data.stream import load_streams

        described = {
            name: {
                "utterances": len(stream.ragged),
                "steps": int(stream.ragged.lengths.sum()),
                "dimension": stream.dimension,
                **stream.provenance.model_dump(mode="json"),
            }
            for name, stream in load_streams(self._filepath).items()
        }
        return JSONPreview(json.dumps(described))


class ExamplesFolder(_Folder):
    """Examples: a table and references to the streams it uses."""

    def load(self) -> Examples:
        from demeanor.data.examples import Examples

        return Examples.load(self._require("feature_engineering"))

    def save(self, data: Examples) -> None:
        data.save(self._filepath)

    def preview(self) -> JSONPreview:
        """What kedro viz shows: utterances per split and the streams."""
        from demeanor.data.examples import Examples

        examples = Examples.load(self._filepath)
        counts = examples.utterances["split"].value_counts().to_dict()
        streams = {name: stream.dimension for name, stream in examples.streams.items()}
        return JSONPreview(json.dumps({"utterances": counts, "streams": streams, "data_hash": examples.data_hash}))


class BundlesFolder(_Folder):
    """Bundles of one branch by name, `seed_1`, `seed_2`, ...; empty where the branch has not been trained yet."""

    def load(self) -> dict[str, Bundle]:
        from demeanor.data.bundle import Bundle

        folders = sorted(path for path in self._filepath.glob("*") if path.is_dir() and path.name[0] != ".")
        return {path.name: Bundle.load(path) for path in folders}

    def save(self, data: dict[str, Bundle]) -> None:
        with write_atomically(self._filepath) as temporary:
            temporary.mkdir()
            for name, bundle in data.items():
                bundle.save(temporary / name)

    def _exists(self) -> bool:
        # A branch that has not been trained is an ordinary state of the evaluation, which says so itself.
        return True

    def preview(self) -> JSONPreview:
        """What kedro viz shows: validation metrics and size per seed."""
        described = {
            name: {**bundle.card.metrics, "parameters": bundle.parameters, "system": bundle.card.system}
            for name, bundle in self.load().items()
        }
        return JSONPreview(json.dumps(described))


class BranchesFolder(_Folder):
    """All branches' bundles, branch -> seed -> bundle: a view on the folders that BundlesFolder writes.

    Saving checks that every bundle is already there, and writes nothing: branches are trained, and saved, one by one.
    """

    def load(self) -> dict[str, dict[str, Bundle]]:
        folders = sorted({path.parents[1] for path in self._filepath.glob("*/*/card.json")})
        return {folder.name: BundlesFolder(filepath=str(folder)).load() for folder in folders}

    def save(self, data: dict[str, dict[str, Bundle]]) -> None:
        """Nothing to write, only to check: InputError for a branch whose bundle is not on the disk."""
        missing = [
            f"{branch} {name} is not stored in {self._filepath / branch}"
            for branch, bundles in data.items()
            for name in bundles
            if not (self._filepath / branch / name / "card.json").is_file()
        ]
        if missing:
            raise InputError(str(self._filepath), missing)

    def _exists(self) -> bool:
        return True

    def preview(self) -> JSONPreview:
        """What kedro viz shows: the seeds of every branch."""
        return JSONPreview(json.dumps({branch: sorted(bundles) for branch, bundles in self.load().items()}))


class RepresentationsFolder(BundlesFolder):
    """Bundles of self-supervised representations by name."""

    def load(self) -> dict[str, Bundle]:
        self._require("representation_learning")
        return super().load()

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def preview(self) -> JSONPreview:
        """What kedro viz shows: the size of each."""
        return JSONPreview(json.dumps({name: {"parameters": b.parameters} for name, b in self.load().items()}))


__all__ = [
    "BranchesFolder",
    "BundlesFolder",
    "CSVFile",
    "ExamplesFolder",
    "FigureFile",
    "JSONFile",
    "ParquetFile",
    "RepresentationsFolder",
    "StreamsFolder",
    "TextFile",
    "WorkFolder",
]


class RecordingsToScore(_Folder):
    """A folder of recordings, or a list of them, to be scored; read only. See demeanor.timeline.collection."""

    def load(self) -> Any:
        from demeanor.timeline.collection import collection_of

        return collection_of(Path(self._filepath))

    def save(self, data: Any) -> None:
        """Always an InputError: recordings are read, never written."""
        raise InputError(str(self._filepath), ["recordings to score are read, never written"])
