"""Rows to score as a table: a file on disk, or the body of a request."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from demeanor.corpora.base import require_path
from demeanor.corpora.tables import numbers
from demeanor.data.cells import Unreadable
from demeanor.data.delimited import MORE_CELLS, Delimited, delimited
from demeanor.data.raw_rows import COLUMNS, NUMBERS
from demeanor.data.texts import read_text


def read_rows(path: Path) -> list[dict[str, Any]]:
    """`rows_of` a csv, tsv or the like. Raises InputError for what is no table."""
    return rows_of(delimited(read_text(require_path(path, "file")), str(path), COLUMNS))


def rows_of(table: Delimited) -> list[dict[str, Any]]:
    """One dict per row, read as every other table is; empty cells are missing.

    Words stay words ("None", "NA"); start, end and turn become numbers where they are, and stay as they stand where
    they are none, so that only their own row has a problem. So has one with more cells than the header.
    """
    cells = pd.DataFrame(table.records, columns=table.names, dtype=object)
    columns: dict[str, list[Any]] = {}
    for name in table.names:
        values = [cell if cell.strip() else None for cell in cells[name]]
        if name in NUMBERS:
            read = numbers(cells[name], table.separator)
            values = [cell if math.isnan(value) else value for value, cell in zip(read.tolist(), values, strict=True)]
        if name == "turn":
            values = [int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in values]
        columns[name] = values
    rows = [{name: values[row] for name, values in columns.items()} for row in range(len(table.records))]
    for number in table.wide:
        rows[table.numbers.index(number)] = {"text": Unreadable(f"the row has {MORE_CELLS}")}
    return rows
