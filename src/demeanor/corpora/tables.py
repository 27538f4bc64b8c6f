"""Text tables as people really have them: any separator, any encoding, columns that are nearly right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from demeanor.corpora.base import Finding, require_path
from demeanor.data.delimited import read_delimited
from demeanor.data.errors import nearest
from demeanor.data.texts import Text


@dataclass(frozen=True)
class Table:
    """A table of strings as it stands in the file.

    rows      one row per record, every cell a string, empty where the cell is; "NA", "None" and "null" are words
    numbers   the row of each record as a spreadsheet counts it: the first row of the file is 1, empty ones count
    findings  what was unusual about the file
    """

    rows: pd.DataFrame
    numbers: pd.Series
    separator: str
    findings: tuple[Finding, ...]


def read_table(path: Path, known: Iterable[str] = (), language: str = "en") -> Table:
    """Read a csv, tsv or the like; the separator is the one that makes most `known` names out of the header.

    `language` of the texts tells which encoding is likely where they are not Unicode. Raises InputError for a file that
    is missing, empty, too large, not text, or whose rows have more cells than its header.
    """
    table = read_delimited(require_path(path, "file"), known, language)
    rows = pd.DataFrame(table.records, columns=table.names, dtype=object)
    findings = encoding_findings(path.name, table.text)
    if table.unnamed:
        findings.append(
            Finding("unnamed_columns", "note", f"columns of {path.name} that have no name", table.unnamed,
                    advice="They are not read; give them a name if they should be.")
        )  # fmt: skip
    return Table(rows, pd.Series(table.numbers, index=rows.index, dtype="int64"), table.separator, tuple(findings))


def encoding_findings(name: str, text: Text) -> list[Finding]:
    """A note where the encoding of a file had to be guessed."""
    if not text.guessed:
        return []
    return [
        Finding("encoding", "note", f"{name} is not UTF-8; it was read as {text.encoding}",
                advice="Look at a few transcripts; save the table as UTF-8 if they look wrong."),
    ]  # fmt: skip


def missing_columns(table: Iterable[str], wanted: Mapping[str, str]) -> list[str]:
    """One line per wanted column (name -> what it is for) that the table lacks, with the nearest name it has."""
    present = [str(name) for name in table]
    return [
        f"there is no column '{name}' ({purpose}).{nearest(name, present)}"
        for name, purpose in wanted.items()
        if name not in present
    ]


def numbers(column: pd.Series, separator: str = ",") -> pd.Series:
    """Strings to float, NaN where the cell is empty or no number; a decimal comma is read as one unless commas separate
    and three digits follow it, for 1,500 may well be a thousand and a half."""
    # A spreadsheet's true minus sign is one.
    text = column.astype(str).str.strip().str.replace("\u2212", "-", regex=False)
    decimals = r"\d+" if separator != "," else r"\d{1,2}|\d{4,}"
    text = text.str.replace(rf"^([+-]?\d+),({decimals})$", r"\1.\2", regex=True)
    return pd.to_numeric(text.where(text != ""), errors="coerce").astype(float)


def listed(numbers: Iterable[int], shown: int = 5) -> str:
    """ "rows 3, 7 and 12", at most `shown` of them."""
    ordered = list(numbers)
    if len(ordered) == 1:
        return f"row {ordered[0]}"
    head = ", ".join(str(number) for number in ordered[:shown])
    return f"rows {head}" + (f" and {len(ordered) - shown} more" if len(ordered) > shown else "")
