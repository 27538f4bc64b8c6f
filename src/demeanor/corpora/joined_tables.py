"""The tables of several corpora as one: names that are each corpus' own, columns that are shared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.corpora.base import Corpus, Finding
from demeanor.corpora.recordings import MEDIA_COLUMNS
from demeanor.data.errors import InputError
from demeanor.data.remote import RemoteFile
from demeanor.data.utterances import COLUMNS, validate

#: Between the name of a corpus and what is its own; no name of a corpus in a union holds one, so no two ids collide.
SEPARATOR = "."
#: Different values of a text column beyond which it is no column of classes.
MOST_CLASSES = 32


def tables_of(parts: Mapping[str, Corpus]) -> tuple[Path, dict[str, pd.DataFrame]]:
    """The folder that holds the recordings of all, and each corpus' table as it is in the union."""
    roots = {name: Path(os.path.abspath(part.root)) for name, part in parts.items()}
    recorded = [roots[name] for name, part in parts.items() if part.utterances["media"].notna().any()]
    root = Path(os.path.commonpath(recorded)) if recorded else next(iter(roots.values()))
    made = {}
    for name, part in parts.items():
        table, start = part.utterances.copy(), f"{name}{SEPARATOR}"
        for column in ("utterance_id", "dialogue", "speaker"):
            table[column] = (start + table[column]).where(table[column].notna(), None)
        below = roots[name].relative_to(root) if roots[name].is_relative_to(root) else Path()
        for column in (one for one in MEDIA_COLUMNS if one in table):
            table[column] = [_below(below, path) for path in table[column]]
        made[name] = table.assign(corpus=name)
    return root, made


def _below(folder: Path, path: Any) -> str | None:
    if not isinstance(path, str):
        return None
    return path if RemoteFile.parse(path) is not None else (folder / path).as_posix()


def joined(tables: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """One table; a column that a corpus lacks is missing in its rows. InputError where it has numbers and words."""
    found = list(dict.fromkeys(str(column) for table in tables.values() for column in table))
    labels = [column for column in found if column not in COLUMNS]
    columns: dict[str, Any] = {}
    problems = []
    for column in [*(one for one in COLUMNS if one in found), *labels]:
        numeric = {one: _numeric(table[column]) for one, table in tables.items() if column in table}
        if len(set(numeric.values())) > 1:
            kinds = [", ".join(one for one, number in numeric.items() if number is kind) for kind in (True, False)]
            problems.append(f"column '{column}' holds numbers in {kinds[0]} and words in {kinds[1]}")
            continue
        kind: Any = float if all(numeric.values()) else object
        columns[column] = np.concatenate([_cells(table, column, kind) for table in tables.values()])
    if problems:
        raise InputError(f"corpora of '{name}'", problems, "Map one of them to a column of another name (`labels`).")
    return validate(pd.DataFrame(columns), name)


def _numeric(cells: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(cells)


def _cells(table: pd.DataFrame, column: str, kind: Any) -> np.ndarray:
    if column not in table:
        return np.full(len(table), np.nan if kind is float else None, dtype=kind)
    cells = table[column].astype(kind)
    return cells.to_numpy() if kind is float else cells.where(cells.notna(), None).to_numpy()


def mixed(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Columns in which two corpora each have classes that the other has not: two languages under one name."""
    labels = list(dict.fromkeys(column for table in tables.values() for column in table if column not in COLUMNS))
    findings = []
    for column in labels:
        cells = {name: table[column].dropna() for name, table in tables.items() if column in table}
        classes = {name: set(one.astype(str)) for name, one in cells.items() if not _numeric(one)}
        if len(classes) < 2 or max(map(len, classes.values())) > MOST_CLASSES:
            continue
        alone = {name: found - set().union(*(one for other, one in classes.items() if other != name))
                 for name, found in classes.items()}  # fmt: skip
        odd = {name: sorted(found) for name, found in alone.items() if found}
        if len(odd) > 1:
            told = tuple(f"{name} alone: {', '.join(found)}" for name, found in odd.items())
            advice = "Map one of them (`labels` of that corpus), or a class means two things to a task."
            findings.append(Finding("mixed_labels", "warning", f"column '{column}' is labelled in several languages",
                                    len(odd), told[:3], advice))  # fmt: skip
    return findings
