"""Datasets that are a folder: streams, examples, bundles; and the folders that nodes work in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demeanor.data.errors import InputError
from demeanor.data.files import write_atomically
from demeanor.datasets.located import LocalFolder, VersionedFolder
from demeanor.datasets.previews import TablePreview, table_of

if TYPE_CHECKING:
    from demeanor.data.bundle import Bundle
    from demeanor.data.examples import Examples
    from demeanor.data.stream import Stream


class WorkFolder(LocalFolder):
    """A folder that nodes write to while they work, loaded as its path: caches, checkpoints, streams beyond memory.

    The catalog says where it lies, as it does for everything else; nothing is saved through it.
    """

    def load(self) -> str:
        """The folder's path, which nodes write below."""
        return str(self.path)

    def save(self, data: Any) -> None:
        """Always an InputError: nodes write into the folder themselves."""
        raise InputError(str(self.path), ["is a folder that nodes write to; no output may be saved in its place"])

    def _exists(self) -> bool:
        return True  # whoever works in it makes it


class StreamsFolder(VersionedFolder):
    """Streams by name, one memory-mapped safetensors file each."""

    made_by = "ingestion,feature_engineering"

    def load(self) -> dict[str, Stream]:
        """Streams by name, memory-mapped."""
        from demeanor.data.stream import load_streams

        return load_streams(self.fetched())

    def save(self, data: dict[str, Stream]) -> None:
        """Write one file per stream; one that lies there already is left as it is."""
        from demeanor.data.stream import save_streams

        with self.storing() as folder:
            save_streams(folder, data)

    def preview(self) -> TablePreview:
        """Shape and maker of every stream."""
        return table_of({
            name: {
                "utterances": len(stream.ragged),
                "steps": int(stream.ragged.lengths.sum()),
                "dimension": stream.dimension,
                **stream.provenance.model_dump(mode="json"),
            }
            for name, stream in self.load().items()
        })  # fmt: skip


class ExamplesFolder(VersionedFolder):
    """Examples: a table and references to the streams it uses; beyond the local disk, the streams themselves."""

    made_by = "feature_engineering"

    def load(self) -> Examples:
        """Utterances with their streams, memory-mapped."""
        from demeanor.data.examples import Examples

        return Examples.load(self.fetched())

    def save(self, data: Examples) -> None:
        """Write the utterances and points to, or (not on the local disk) copies, their streams."""
        if not self.is_local:
            data = replace(data, streams={name: replace(stream, path=None) for name, stream in data.streams.items()})
        with self.storing() as folder:
            data.save(folder)

    def preview(self) -> TablePreview:
        """Per split: utterances, dialogues, and the streams with their dimensions."""
        examples = self.load()
        streams = ", ".join(f"{name} ({stream.dimension})" for name, stream in examples.streams.items())
        table = examples.utterances
        return table_of({
            str(split): {"utterances": len(rows), "dialogues": rows["dialogue"].nunique(), "streams": streams}
            for split, rows in table.groupby("split", sort=False, observed=True)
        })  # fmt: skip


class BundlesFolder(VersionedFolder):
    """Bundles of one branch by name, `seed_1`, `seed_2`, ...; empty where the branch has not been trained yet."""

    def load(self) -> dict[str, Bundle]:
        """Bundles by name; none where the folder is not there yet."""
        return _bundles(self.fetched()) if super()._exists() else {}

    def save(self, data: dict[str, Bundle]) -> None:
        """Write all bundles as one folder, in the place of those that lay there."""
        with self.storing() as folder, write_atomically(folder) as temporary:
            temporary.mkdir()
            for name, bundle in data.items():
                bundle.save(temporary / name)

    def _exists(self) -> bool:
        # A branch that has not been trained is an ordinary state of the evaluation, which says so itself.
        return True

    def preview(self) -> TablePreview:
        """System, size and validation metrics of every seed."""
        return table_of(_described(self.load()))


class BranchesFolder(LocalFolder):
    """All branches' bundles, branch -> seed -> bundle: a view on the folders that BundlesFolder writes.

    Saving checks that every bundle is already there, and writes nothing: branches are trained, and saved, one by one.
    Where their datasets are versioned, each branch's latest version counts.
    """

    def load(self) -> dict[str, dict[str, Bundle]]:
        """The bundles of every branch by seed, the latest version of each; branches without any are left out."""
        bundles = {branch.name: _bundles(_latest(branch)) for branch in _folders_in(self.path)}
        return {branch: seeds for branch, seeds in bundles.items() if seeds}

    def save(self, data: dict[str, dict[str, Bundle]]) -> None:
        """Nothing is written: each branch has stored its own. InputError for one that is not there."""
        missing = [
            f"{branch} {name} is not stored in {self.path / branch}"
            for branch, bundles in data.items()
            for name in bundles
            if not (_latest(self.path / branch) / name / "card.json").is_file()
        ]
        if missing:
            raise InputError(str(self.path), missing)

    def _exists(self) -> bool:
        return True

    def preview(self) -> TablePreview:
        """System, size and validation metrics of every seed of every branch."""
        return table_of({
            f"{branch} {seed}": row
            for branch, bundles in self.load().items()
            for seed, row in _described(bundles).items()
        })  # fmt: skip


class RepresentationsFolder(BundlesFolder):
    """Bundles of self-supervised representations by name."""

    made_by = "representation_learning"

    def load(self) -> dict[str, Bundle]:
        """The bundles of all representations by name."""
        return _bundles(self.fetched())

    def _exists(self) -> bool:
        return VersionedFolder._exists(self)


class RecordingsToScore(LocalFolder):
    """A folder of recordings, or a list of them, to be scored; read only. See demeanor.timeline.collection."""

    def load(self) -> Any:
        """The collection that the path means: a folder of recordings, or a table of them."""
        from demeanor.timeline.collection import collection_of

        return collection_of(self.path)

    def save(self, data: Any) -> None:
        """Always an InputError: recordings are read, never written."""
        raise InputError(str(self.path), ["recordings to score are read, never written"])

    def _exists(self) -> bool:
        return self.path.exists()


def _bundles(folder: Path) -> dict[str, Bundle]:
    """The bundles in a folder by name."""
    from demeanor.data.bundle import Bundle

    return {path.name: Bundle.load(path) for path in _folders_in(folder)}


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir() and path.name[0] != ".")


def _latest(branch: Path) -> Path:
    """Where a branch's bundles lie: in its folder, or in the newest version below it (Kedro: <version>/<name>)."""
    versions = sorted(path for path in branch.glob(f"*/{branch.name}") if path.is_dir())
    return versions[-1] if versions else branch


def _described(bundles: Mapping[str, Bundle]) -> dict[str, dict[str, Any]]:
    return {
        name: {"system": bundle.card.system, "parameters": bundle.parameters, **bundle.card.metrics}
        for name, bundle in bundles.items()
    }
