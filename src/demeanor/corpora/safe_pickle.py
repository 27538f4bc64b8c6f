"""Pickles, read without running anything.

A pickle is a program for a small stack machine, and Python's own machine calls whatever the program names. The one in
`pickle_machine` knows numbers, strings, containers and numpy arrays alone. Whatever else a pickle names is not looked
up, not imported and not called: it is noted, and `load` then refuses the file and lists the names.

The file is memory-mapped, and an array is a view on the bytes it occupies in the file. A pickle of 9 GB therefore needs
hardly any memory of its own, and no length found in a damaged file can make the reader ask for more than is there.
What a small program can multiply (copies, parts that are used again) has a budget in proportion to the file's size
(demeanor.data.budget), and every opcode takes time in proportion to what it is handed.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from demeanor.corpora.base import require_path
from demeanor.corpora.pickle_machine import BrokenPickleError, Machine
from demeanor.corpora.pickled_content import OddContentError, check_content
from demeanor.data.errors import InputError


class RefusedError(InputError):
    """The pickle names things other than numbers, strings, containers and numpy arrays."""


class LoadedPickle:
    """`content`: what the pickle holds. Its arrays are read-only views on the file, valid as long as they are held."""

    def __init__(self, content: Any, mapping: mmap.mmap | None = None):
        self.content = content
        self._mapping = mapping

    def forget_pages(self) -> None:
        """Give back the memory that reading the arrays took; they are read from the file again when next used."""
        if self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)


def load(path: Path | str) -> LoadedPickle:
    """Read the pickle at `path`; RefusedError or InputError say what is wrong with it."""
    path = require_path(Path(path), "file")
    if path.stat().st_size == 0:
        raise InputError(str(path), ["the file is empty"])
    with open(path, "rb") as handle:
        mapping = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    return LoadedPickle(loads(memoryview(mapping), str(path)), mapping)


def loads(data: bytes | memoryview, where: str = "pickle") -> Any:
    """As `load`, from bytes. InputError, like `load`, for a pickle that is damaged or asks for more than data.
    RefusedError, an InputError, where it asks for what is not data."""
    machine = Machine(memoryview(data), where)
    try:
        content = machine.run()
        if not machine.refused:
            check_content(content, len(data), where)
    except InputError:
        raise
    except (BrokenPickleError, OddContentError) as error:
        problem = str(error)
    except (
        ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError, RecursionError, MemoryError,
        SyntaxError, struct.error,
    ) as error:  # fmt: skip
        problem = f"{type(error).__name__}: {error}"
    else:
        if not machine.refused:
            return content
        problem = ""
    if machine.refused:
        names = sorted(set(machine.refused))
        raise RefusedError(
            where,
            [f"the pickle asks for '{name}', which is not data" for name in names],
            "Nothing of it was run. A feature file needs numbers, strings, lists, dicts and numpy arrays alone; "
            "have its maker store it so, or convert it in an environment that you can throw away.",
        )
    raise InputError(
        where, [f"not a readable pickle, damaged or cut short ({problem}, at byte {machine.position})"],
        "Download it again and compare its size.",
    )  # fmt: skip
