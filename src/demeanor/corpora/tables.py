"""Text tables as people really have them: any separator, any encoding, columns that are nearly right."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from demeanor.corpora.base import Finding, require_path
from demeanor.data.errors import InputError, nearest

SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Table:
    """A table of strings as it stands in the file.

    rows      one row per record, every cell a string, empty where the cell is
    numbers   the row of each record as a spreadsheet counts it: the header is row 1
    findings  what was unusual about the file
    """

    rows: pd.DataFrame
    separator: str
    findings: tuple[Finding, ...]

    @property
    def numbers(self) -> pd.Series:
        return pd.Series(range(2, len(self.rows) + 2), index=self.rows.index)


def read_table(path: Path, known: Iterable[str] = (), encodings: Sequence[str] = ("cp1252",)) -> Table:
    """Read a csv, tsv or the like; the separator is the one that makes most `known` names out of the header.

    Raises InputError for a file that is missing, empty, not text, or whose rows have more cells than its header.
    """
    text, findings = decode(require_path(path, "file"), encodings)
    if not text.strip():
        raise InputError(str(path), ["the file is empty"])
    header = text.lstrip("\n").split("\n", 1)[0].rstrip("\r")
    separator = sniff(header, known)
    csv.field_size_limit(1 << 24)
    try:
        records = [row for row in csv.reader(io.StringIO(text.lstrip("\n"), newline=""), delimiter=separator) if row]
    except csv.Error as error:
        raise InputError(str(path), [f"not a readable table ({error})"]) from None
    names = [name.strip() for name in records[0]]
    problems = [f"column '{name}' appears twice" for name in sorted({n for n in names if n and names.count(n) > 1})]
    wide = [n for n, record in enumerate(records[1:], start=2) if len(record) > len(names)]
    if wide:
        problems.append(
            f"{len(wide)} rows have more cells than the header, the first is row {wide[0]}: "
            "a text with separators must stand in double quotes"
        )
    if problems:
        raise InputError(str(path), problems)
    padded = [record + [""] * (len(names) - len(record)) for record in records[1:]]
    rows = pd.DataFrame(padded, columns=names, dtype=object)
    return Table(rows, separator, findings)


def decode(path: Path, encodings: Sequence[str]) -> tuple[str, tuple[Finding, ...]]:
    """The text of a file: UTF-8 (with or without mark), UTF-16 with mark, else the first of `encodings` that fits."""
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        candidates: tuple[str, ...] = ("utf-16",)
    else:
        candidates = ("utf-8-sig", *encodings)
    if b"\0" in content[:4096] and candidates != ("utf-16",):
        raise InputError(str(path), ["this is not a text file"])
    for encoding in candidates:
        try:
            text = content.decode(encoding)
        except UnicodeError:
            continue
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if encoding == candidates[0]:
            return text, ()
        return text, (
            Finding("encoding", "note", f"{path.name} is not UTF-8; it was read as {encoding}",
                    advice="Look at a few transcripts; save the table as UTF-8 if they look wrong."),
        )  # fmt: skip
    raise InputError(str(path), [f"the text is in none of {', '.join(candidates)}"], "Save the table as UTF-8.")


def sniff(header: str, known: Iterable[str]) -> str:
    """The separator under which the header has most known names, then most cells."""
    known = set(known)

    def score(separator: str) -> tuple[int, int]:
        cells = [cell.strip() for cell in next(csv.reader([header], delimiter=separator), [])]
        return len(known & set(cells)), len(cells)

    return max(SEPARATORS, key=score)


def missing_columns(table: Iterable[str], wanted: Mapping[str, str]) -> list[str]:
    """One line per wanted column (name -> what it is for) that the table lacks, with the nearest name it has."""
    present = [str(name) for name in table]
    return [
        f"there is no column '{name}' ({purpose}).{nearest(name, present)}"
        for name, purpose in wanted.items()
        if name not in present
    ]


def numbers(column: pd.Series, separator: str = ",") -> pd.Series:
    """Strings to float, NaN where the cell is empty or no number; a decimal comma is read in `;` and tab tables."""
    text = column.astype(str).str.strip()
    if separator != ",":
        text = text.str.replace(r"^([+-]?\d+),(\d+)$", r"\1.\2", regex=True)
    return pd.to_numeric(text.where(text != ""), errors="coerce").astype(float)


def listed(numbers: Iterable[int], shown: int = 5) -> str:
    """ "rows 3, 7 and 12", at most `shown` of them."""
    found = list(numbers)
    if len(found) == 1:
        return f"row {found[0]}"
    head = ", ".join(str(number) for number in found[:shown])
    return f"rows {head}" + (f" and {len(found) - shown} more" if len(found) > shown else "")
