"""The index of a cache: where the values of every clip lie among its files, so that none is opened to be found.

A line describes some clips of a file, so that neither is ever in memory as a whole. The index may be lost, torn or
behind: a file that it does not describe from the first clip to the last is read itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from demeanor.data.files import write_atomically
from demeanor.data.ragged import Ragged
from demeanor.data.safetensors_header import read_header
from demeanor.data.stream import SUFFIX

INDEX = "index.jsonl"
#: Clips of a line.
LINE = 1024


@dataclass(frozen=True)
class Block:
    """Consecutive clips of one file: bytes of the file and clips in it, the number of the first of these and where its
    values begin, their type and width, and the clips with their steps."""

    file: str
    size: int
    clips: int
    first: int
    start: int
    dtype: str
    dimension: int
    ids: tuple[str, ...]
    lengths: tuple[int, ...]


def blocks_of(path: Path) -> Iterator[Block]:
    """What a file itself says, at least one block. InputError where it is damaged, FileNotFoundError where it has gone;
    both before the first."""
    size = path.stat().st_size
    ragged = Ragged.load(path)
    header, base = read_header(path)
    start, width = base + header["values"]["data_offsets"][0], ragged.dimension * ragged.values.dtype.itemsize
    lengths = ragged.lengths
    for first in range(0, max(len(ragged), 1), LINE):
        ids, steps = ragged.ids[first : first + LINE], tuple(lengths[first : first + LINE].tolist())
        place = start + int(ragged.offsets[first]) * width
        yield Block(path.name, size, len(ragged), first, place, ragged.values.dtype.str, ragged.dimension, ids, steps)


def read_index(folder: Path) -> Iterator[Block]:
    """The blocks of the index of `folder`, without those of a line that is torn or of a former version."""
    try:
        handle = open(folder / INDEX, encoding="utf-8", errors="replace")  # noqa: SIM115
    except FileNotFoundError:
        return
    with handle:
        for line in handle:
            try:
                entry = json.loads(line)
                yield Block(**{**entry, "ids": tuple(entry["ids"]), "lengths": tuple(entry["lengths"])})
            except (ValueError, TypeError, KeyError):
                continue  # empty, or torn when a run was killed


def add_to_index(folder: Path, block: Block) -> None:
    """Append a line: it begins with a line break, so that it never continues a torn one."""
    with open(folder / INDEX, "ab") as handle:
        handle.write(f"\n{json.dumps(asdict(block))}".encode("ascii"))


def take_from_index(folder: Path, files: Collection[str]) -> None:
    """Write the index anew without the lines of some files."""
    with write_atomically(folder / INDEX) as temporary, open(temporary, "w", encoding="ascii") as handle:
        for block in read_index(folder):
            if block.file not in files:
                handle.write(f"{json.dumps(asdict(block))}\n")


def sizes_in(folder: Path) -> dict[str, int]:
    """Names and bytes of the files of a cache, by name in order."""
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                try:
                    sizes[entry.name] = entry.stat().st_size
                except FileNotFoundError:
                    continue  # gone since the folder was listed
    return dict(sorted(sizes.items()))
