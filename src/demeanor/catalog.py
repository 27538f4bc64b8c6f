"""Is the catalog in order? Every entry is made, its place looked at and, by its validator if it has one, its data."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demeanor.configuration import ConfigLoader, loader_of

RAW = "raw"
"""Layer of what no pipeline makes."""


@dataclass(frozen=True)
class CatalogReport:
    """entries: how many the catalog has. problems: of which a pipeline would die. notes: what is not there to read."""

    entries: int
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        number = len(self.problems)
        state = f"{number} problem{'s' * (number > 1)}" if number else "all as they should be"
        lines = ["# Catalog", "", f"{self.entries} entries, {state}"]
        lines += [f"* {line}" for line in self.problems] + [f"* note: {line}" for line in self.notes]
        return "\n".join(lines) + "\n"


def examine_catalog(conf: Path, environment: str) -> CatalogReport:
    """What is wrong with any entry of an environment's catalog; nothing is written.

    Relative places are meant from the working folder. An entry is made by Kedro, so that a type that cannot be
    imported, an unknown argument, a missing credential or file system is told as a run would tell it, but of all
    entries at once.
    `kedro.validation.validate_catalog` checks the data that lie at an entry with a validator.
    """
    loader = loader_of(conf, environment)
    try:
        entries, credentials = loader["catalog"], _credentials(loader)
    except Exception as error:  # a parser's, OmegaConf's or Kedro's own
        return CatalogReport(0, [f"the catalog cannot be read: {_line(error)}"])
    named = {name: entry for name, entry in entries.items() if not name.startswith("_")}
    problems: list[str] = []
    notes: list[str] = []
    for name, entry in named.items():
        for problem, is_note in _looked_at(name, entry, credentials):
            (notes if is_note else problems).append(f"{name}: {problem}")
    return CatalogReport(len(named), problems, notes)


def _credentials(loader: ConfigLoader) -> dict[str, Any]:
    from kedro.config import MissingConfigException

    try:
        return loader["credentials"]
    except MissingConfigException:
        return {}


def _looked_at(name: str, entry: Any, credentials: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Problems of one entry, and whether each is but a note."""
    from kedro.io import DataCatalog
    from kedro.validation import validate_catalog

    if not isinstance(entry, Mapping):
        yield "is no mapping of settings, with a `type` at least", False
        return
    # A pattern stands for many names that are all made alike: its own placeholders give one of them.
    example = re.sub(r"\{(\w+)\}", r"\1", name)
    try:
        catalog = DataCatalog.from_config({name: dict(entry)}, credentials)
        dataset = catalog.get(example)
        there = bool(dataset is not None and dataset.exists())
    except Exception as error:  # whatever a type's constructor or a file system raises
        yield _line(error), False
        return
    problem = _place_problem(entry)
    if problem:
        yield problem, False
    layer = (entry.get("metadata") or {}).get("kedro-viz", {}).get("layer")
    if not there and layer == RAW:
        yield f"nothing lies at {entry.get('filepath') or entry.get('path')}; no pipeline makes it", True
    for result in validate_catalog(catalog, [example] if entry.get("validator") else []).values():
        unread = result.error_type == "dataset_error" and not there
        if result.status in ("failed", "errored") and not unread:
            yield " ".join(str(result.message).split()), False


def _place_problem(entry: Mapping[str, Any]) -> str | None:
    """Why nothing can be written where an entry says; None where it can, or where it is not on this machine's disk."""
    from kedro.io.core import get_protocol_and_path

    given = entry.get("filepath") or entry.get("path")
    if not isinstance(given, str):
        return None
    protocol, path = get_protocol_and_path(given)
    if protocol != "file":
        return None
    nearest = next(parent for parent in Path(path).absolute().parents if parent.exists())
    if not nearest.is_dir():
        return f"{path} cannot be: {nearest} is no folder"
    if not Path(path).is_absolute() or nearest != Path(nearest.anchor):
        return None if os.access(nearest, os.W_OK) else f"{path} cannot be written: permission is denied in {nearest}"
    return f"the folder {Path(path).parent} is not there, nor any above it"


#: What Kedro says around the message itself: where it was, and advice for those who wrote no type of their own.
_AROUND = ("An exception occurred when parsing config", "Hint:", "Failed to instantiate dataset", "Please install the")


def _line(error: Exception) -> str:
    """An error's message in one line, without what Kedro says around it."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(_AROUND)]
    return " ".join(own or lines) or type(error).__name__
