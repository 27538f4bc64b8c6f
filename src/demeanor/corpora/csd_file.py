"""`.csd` files: computational sequences of the CMU Multimodal SDK, which are HDF5 files.

docs/systems/conv_autoencoder.md#csd-file: `/<root name>/data/<video id>/{features, intervals}` and
`/<root name>/metadata/<key>`, each a JSON document in a string. One video is read at a time.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from demeanor.corpora.base import require_path
from demeanor.corpora.sdk_alignment import ComputationalSequence, Entry
from demeanor.data.budget import UNPACKED_PER_BYTE, Budget
from demeanor.data.errors import InputError
from demeanor.data.files import JsonError, parse_json

SUFFIX = ".csd"
HDF5_ERRORS = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, UnicodeError, OverflowError)


class CsdFile:
    """An open file. `name` is what its metadata calls it, `videos` the ids it holds in their stored order."""

    def __init__(self, path: Path, handle: Any):
        self.path = path
        self._budget = Budget(path.stat().st_size, str(path), UNPACKED_PER_BYTE)
        self._paid: set[tuple[str, str]] = set()
        try:
            root = next(iter(handle), None)
            if root is None or "data" not in handle[root]:
                raise InputError(str(path), ["has no /<name>/data: not a computational sequence"])
            self._data = _inside(handle, str(root), "data")
            self.metadata = self._metadata(_inside(handle, str(root)))
            self.videos = list(self._data)
        except HDF5_ERRORS as error:
            raise InputError(str(path), [f"damaged or no computational sequence ({error})"]) from None
        root_name = self.metadata.get("root name")
        self.name = root_name if isinstance(root_name, str) and root_name else str(root)
        self._known = set(self.videos)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[CsdFile]:
        """The file's HDF5 handle, closed again afterwards; InputError if it is damaged or cut short."""
        import h5py

        require_path(path, "file")
        try:
            handle = h5py.File(path, "r")
        except HDF5_ERRORS as error:
            raise InputError(str(path), [f"not a readable HDF5 file, damaged or cut short ({error})"]) from None
        with handle:
            yield cls(path, handle)

    def _stored(self, group: Any, name: str, owner: str) -> Any:
        """A dataset that may be read: in this file, and of a size that the file can have been made from."""
        dataset = _inside(group, name)
        if dataset.external is not None or dataset.is_virtual:
            raise ValueError(f"'{name}' lies in another file")
        if (owner, name) not in self._paid:
            self._budget.spend(math.prod(dataset.shape) * max(dataset.dtype.itemsize, 1))
            self._paid.add((owner, name))
        return dataset

    def _metadata(self, root: Any) -> dict[str, Any]:
        """JSON documents by key; what is no JSON stays a string."""
        metadata: dict[str, Any] = {}
        group = _inside(root, "metadata") if "metadata" in root else {}
        for key in group:
            content = np.asarray(self._stored(group, key, "metadata")).reshape(-1)
            text = content[0] if content.size else ""
            text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
            try:
                metadata[key] = parse_json(text, str(self.path))
            except JsonError:
                metadata[key] = text
        return metadata

    def __contains__(self, video: str) -> bool:
        return video in self._known

    def width(self, video: str) -> int | None:
        """Columns of a video's features, without reading them; None where they are none (`read` says why)."""
        try:
            shape = self._data[video]["features"].shape
        except HDF5_ERRORS:
            return None
        return math.prod(shape[1:]) if len(shape) > 1 else None

    def read(self, video: str, numbers: bool = False) -> Entry:
        """Intervals and features of a video, checked (`numbers`: no text); InputError names the video."""
        try:
            group = _inside(self._data, video)
            stored = [self._stored(group, name, video) for name in ("intervals", "features")]
            rows = [dataset.shape[0] if dataset.shape else 0 for dataset in stored]
            if rows[0] != rows[1]:
                raise InputError(
                    str(self.path), [f"video '{video}': {rows[1]} rows of features for {rows[0]} intervals"]
                )
            intervals, features = np.asarray(stored[0]), np.asarray(stored[1])
        except HDF5_ERRORS as error:
            raise InputError(str(self.path), [f"video '{video}' cannot be read ({error})"]) from None
        problems = []
        if intervals.ndim != 2 or intervals.shape[1] != 2:
            problems.append(f"video '{video}': intervals must be [rows, 2], found {intervals.shape}")
        if features.ndim < 2:
            problems.append(f"video '{video}': features must be [rows, columns], found {features.shape}")
        if intervals.dtype.kind not in "fiu":
            problems.append(f"video '{video}': intervals are {intervals.dtype} instead of numbers")
        elif not np.isfinite(intervals).all():
            problems.append(f"video '{video}': intervals hold NaN or infinite times")
        if features.dtype.kind not in ("fiub" if numbers else "fiubSO"):
            problems.append(f"video '{video}': features are {features.dtype}")
        if problems:
            raise InputError(str(self.path), problems)
        return Entry(intervals.astype(np.float64), features.reshape(len(features), -1))


def _inside(group: Any, *names: str) -> Any:
    """What lies in a group, as long as it is in this very file: HDF5 has links that open others."""
    import h5py

    for name in names:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"'{name}' is a link")
        group = group[name]
    return group


def read_sequence(path: Path) -> tuple[str, ComputationalSequence]:
    """A whole file at once, for small ones: (name, sequence)."""
    with CsdFile.open(path) as file:
        return file.name, {video: file.read(video) for video in file.videos}


def files_by_name(folder: Path) -> dict[str, Path]:
    """The `.csd` files of a folder by the name in their metadata. InputError if there is none, or one is not as it
    should be."""
    require_path(folder, "folder")
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise InputError(str(folder), [f"holds no {SUFFIX} file"], "Download the computational sequences into it.")
    names: dict[str, Path] = {}
    problems = []
    for path in paths:
        try:
            with CsdFile.open(path) as file:
                if file.name in names:
                    problems.append(f"{path.name} and {names[file.name].name} are both called '{file.name}'")
                names[file.name] = path
        except InputError as error:
            problems += [f"{path.name}: {problem}" for problem in error.problems]
    if problems:
        raise InputError(str(folder), problems)
    return names


def rarer_widths(files: Mapping[str, CsdFile], lacking: set[str]) -> tuple[set[str], list[str]]:
    """Videos whose features have another number of columns than most, and a line for each sequence that has some.

    InputError where no width is that of most videos: which of them is meant nobody can tell.
    """
    rare: set[str] = set()
    descriptions: list[str] = []
    problems: list[str] = []
    for file in files.values():
        widths = {video: width for video in file.videos if video not in lacking and (width := file.width(video))}
        counts = Counter(widths.values()).most_common()
        if len(counts) > 1 and counts[0][1] == counts[1][1]:
            listed = ", ".join(f"{count} videos have {width} columns" for width, count in counts[:4])
            problems.append(f"{file.path.name}: {listed}: none of them is usual")
        elif len(counts) > 1:
            usual = counts[0][0]
            rare |= {video for video, width in widths.items() if width != usual}
            others = ", ".join(f"{count} with {width}" for width, count in counts[1:])
            descriptions.append(f"{file.name}: {others} columns instead of {usual}")
    if problems:
        raise InputError(str(next(iter(files.values())).path.parent), problems, "Take the files of one release.")
    return rare, descriptions


def write_sequence(path: Path, name: str, sequence: ComputationalSequence, metadata: Sequence[tuple[str, Any]] = ()):
    """Write a computational sequence that the SDK reads too."""
    import h5py

    from demeanor.data.files import write_atomically

    with write_atomically(path) as temporary, h5py.File(temporary, "w") as handle:
        for entry, value in sequence.items():
            group = handle.create_group(f"{name}/data/{entry}")
            for key, content in (("features", value.features), ("intervals", value.intervals)):
                group.create_dataset(key, data=content, compression="gzip", compression_opts=9)
        text = h5py.string_dtype(encoding="utf-8")
        for key, value in {"root name": name, **dict(metadata)}.items():
            stored = handle.create_dataset(f"{name}/metadata/{key}", (1,), dtype=text)
            stored[0] = json.dumps(value)
