"""Tables of delimited text: records with the row number that a spreadsheet shows, whatever program wrote them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from demeanor.data.errors import InputError
from demeanor.data.texts import MOST_BYTES, Text, read_text

SEPARATORS = (",", ";", "\t", "|")
MOST_COLUMNS = 10_000
"""columns of a table: OpenFace's widest has 714"""
MOST_CELLS = 20_000_000
"""cells of a table, empty ones counted: a thousand times a corpus of this field"""
LONGEST_CELL = 1 << 24
#: What stands after the last line to see that no quotation mark is left open.
END = "\x1aend of table\x1a"


@dataclass(frozen=True)
class Delimited:
    """Cells as they stand in the file, all strings.

    names      of the columns, without white space around them; columns without a name are not among them
    records    one list per row, as long as `names`; rows without any content are left out
    numbers    of each record, as a spreadsheet shows it: the first row of the file is 1, empty rows count, a cell of
               several lines is one row, and the line `sep=;`, which a spreadsheet takes for itself, is none
    unnamed    columns that hold something but have no name
    """

    names: list[str]
    records: list[list[str]]
    numbers: list[int]
    separator: str
    text: Text
    unnamed: int = 0


def read_delimited(
    path: Path, known: Iterable[str] = (), language: str = "en", most_bytes: int = MOST_BYTES
) -> Delimited:
    """Read a csv, tsv or the like; the separator is the one that makes most `known` names out of the header.

    Raises InputError for a file that is too large, empty, not text, or whose rows have more cells than its header.
    """
    text = read_text(path, language, most_bytes)
    declared, body = _declared(text.content)
    _refuse_long_lines(body, str(path))
    separator = sniff(body, known, declared)
    rows = _rows(body, separator, str(path))
    _, header = next(rows, (0, []))
    if not header:
        raise InputError(str(path), ["the file is empty"])
    names = [name.strip() for name in header]
    while names and not names[-1]:
        names.pop()
    if len(names) > MOST_COLUMNS:
        raise InputError(str(path), [f"{len(names)} columns, more than the {MOST_COLUMNS} that are read"])
    records, numbers, wide = _records(rows, len(names), str(path))
    problems = [
        f"column '{name}' appears twice" for name, count in sorted(Counter(names).items()) if name and count > 1
    ]
    if wide:
        problems.append(
            f"{len(wide)} rows have more cells than the header, the first is row {wide[0]}: "
            "a text with separators must stand in double quotes"
        )
    if problems:
        raise InputError(str(path), problems)
    nameless = [place for place, name in enumerate(names) if not name]
    unnamed = sum(any(record[place].strip() for record in records) for place in nameless)
    if nameless:
        kept = [place for place, name in enumerate(names) if name]
        names, records = [names[place] for place in kept], [[record[place] for place in kept] for record in records]
    return Delimited(names, records, numbers, separator, text, unnamed)


def _declared(text: str) -> tuple[str | None, str]:
    """The separator that a first line `sep=;` declares, and what follows it."""
    found = re.match(r'\n*[ ]*"?sep=(\\t|[^\n"])"?[,;\t| ]*(?:\n|$)', text, re.IGNORECASE)
    if found is None:
        return None, text
    told = found.group(1)
    return "\t" if told == "\\t" else told, text[found.end() :]


def _refuse_long_lines(text: str, where: str) -> None:
    """Before anything is taken apart: a line of a hundred million commas would be as many strings."""
    for line in io.StringIO(text) if len(text) > MOST_COLUMNS else ():
        cells = max(map(line.count, SEPARATORS)) if len(line) > MOST_COLUMNS else 0
        if cells > 2 * MOST_COLUMNS:
            raise InputError(where, [f"a line of {cells} separators: at most {MOST_COLUMNS} columns are read"])


def sniff(text: str, known: Iterable[str] = (), declared: str | None = None) -> str:
    """The separator under which the header has most known names, then the declared one, then most cells."""
    known = set(known)
    start = re.match(r"\s*\n|", text)
    header = text[start.end() if start else 0 :].split("\n", 1)[0]
    candidates = (*SEPARATORS, declared) if declared and declared not in SEPARATORS else SEPARATORS

    def score(separator: str) -> tuple[int, bool, int]:
        cells = [cell.strip() for cell in next(csv.reader([header], delimiter=separator), [])]
        return len(known & set(cells)), separator == declared, len(cells)

    return max((name for name in candidates if name not in '"\n\r'), key=score)


def _rows(text: str, separator: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of every row that holds something; InputError for a quotation mark that stays open."""
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(f"{text}\n{END}", newline=""), delimiter=separator)
    number = 0
    try:
        for number, row in enumerate(reader, start=1):
            if row == [END]:
                return
            if any(cell and not cell.isspace() for cell in row):
                yield number, row
    except csv.Error as error:
        raise InputError(where, [f"not a readable table ({error}) in row {number + 1}"]) from None
    raise InputError(
        where, [f"a quotation mark is opened in row {number} and never closed: all after it would be one cell"],
        "Close it, or write it twice where it belongs to the text.",
    )  # fmt: skip


def _records(
    rows: Iterator[tuple[int, list[str]]], width: int, where: str
) -> tuple[list[list[str]], list[int], list[int]]:
    """Records as wide as the header, their numbers, and the numbers of those that are wider."""
    records: list[list[str]] = []
    numbers: list[int] = []
    wide: list[int] = []
    for number, row in rows:
        if (len(records) + 1) * max(width, 1) > MOST_CELLS:
            raise InputError(where, [f"more than {MOST_CELLS} cells, which is the most that are read"])
        if any(cell and not cell.isspace() for cell in row[width:]):
            wide.append(number)
        records.append((row + [""] * (width - len(row)))[:width])
        numbers.append(number)
    return records, numbers, wide
