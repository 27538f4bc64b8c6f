"""Rows to score as a table on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from demeanor.corpora.tables import numbers, read_table
from demeanor.data.raw_rows import COLUMNS

NUMBERS = ("start", "end", "turn")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """One dict per row of a csv, tsv or the like, read as every other table is; empty cells are missing.

    Words stay words ("None", "NA"); start, end and turn become numbers where they are, and stay as they stand where
    they are none, so that only their own row has a problem. Raises InputError for what is no table.
    """
    table = read_table(path, COLUMNS)
    columns: dict[str, list[Any]] = {}
    for name in map(str, table.rows):
        cells = [cell if cell.strip() else None for cell in table.rows[name]]
        if name in NUMBERS:
            read = numbers(table.rows[name], table.separator)
            cells = [cell if math.isnan(value) else value for value, cell in zip(read.tolist(), cells, strict=True)]
        if name == "turn":
            cells = [int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in cells]
        columns[name] = cells
    return [{name: cells[row] for name, cells in columns.items()} for row in range(len(table.rows))]
