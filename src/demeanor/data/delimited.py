"""Tables of delimited text: records with the row number that a spreadsheet shows, whatever program wrote them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from unicodedata import category

from demeanor.data.errors import InputError
from demeanor.data.texts import MOST_BYTES, Text, read_text

SEPARATORS = (",", ";", "\t", "|")
MOST_COLUMNS = 10_000
"""columns of a table: OpenFace's widest has 714"""
MOST_CELLS = 20_000_000
"""cells of a table, empty ones counted: a thousand times a corpus of this field"""
LONGEST_CELL = 1 << 24
#: A formula that is nothing but a text.
FORMULA = re.compile(r'^="([^"]*)"$')
MORE_CELLS = "more cells than the header: a text with separators must stand in double quotes"
#: What stands after the last line to see that no quotation mark is left open.
END = "\x1aend of table\x1a"


@dataclass(frozen=True)
class Delimited:
    """Cells as they stand in the file, all strings. `="007"`, by which exporters keep a spreadsheet from making a
    number of a text, is what the spreadsheet shows.

    names      of the columns, without white space around them and as the reader knows them, in any case; columns
               without a name are not among them
    records    one list per row, as long as `names`; rows without any content are left out
    numbers    of each record, as a spreadsheet shows it: the first row of the file is 1, empty rows count, a cell of
               several lines is one row, and the line `sep=;`, which a spreadsheet takes for itself, is none
    unnamed    columns that hold something but have no name
    wide       numbers of records with more cells than the header: which of theirs have slipped cannot be told, so that
               all of them are empty here
    """

    names: list[str]
    records: list[list[str]]
    numbers: list[int]
    separator: str
    text: Text
    unnamed: int = 0
    wide: tuple[int, ...] = ()


def read_delimited(
    path: Path,
    known: Iterable[str] = (),
    language: str = "en",
    most_bytes: int = MOST_BYTES,
    only: Collection[str] | None = None,
) -> Delimited:
    """Read a csv, tsv or the like; the separator is the one that makes most `known` names out of the header.

    `only` keeps columns of these names. Raises InputError for a file that is too large, empty, not text, or whose rows
    have more cells than its header.
    """
    table = delimited(read_text(path, language, most_bytes), str(path), known, only)
    if table.wide:
        raise InputError(str(path), [f"{len(table.wide)} rows have {MORE_CELLS}; the first is row {table.wide[0]}"])
    return table


def delimited(
    text: Text,
    where: str,
    known: Iterable[str] = (),
    only: Collection[str] | None = None,
    most_rows: int | None = None,
    most_columns: int = MOST_COLUMNS,
) -> Delimited:
    """The table of a text, as `read_delimited` gives it; `where` it comes from is told with what is wrong.

    Rows that are too wide are left to the caller, rows after `most_rows` are not read. InputError for what is no table
    or has more than `most_columns`.
    """
    declared, start = _declared(text.content)
    _refuse_long_lines(_lines(text.content, start), where)
    separator = sniff(text.content, known, declared, start)
    rows = _rows(_lines(text.content, start), separator, where)
    _, header = next(rows, (0, []))
    if not header:
        raise InputError(where, ["it is empty"])
    names = _known_names(header, known)
    while names and not names[-1]:
        names.pop()
    if len(names) > most_columns:
        raise InputError(where, [f"{len(names)} columns, more than the {most_columns} that are read"])
    columns = [place for place, name in enumerate(names) if name and (only is None or name in only)]
    counted = sorted(Counter(names[place] for place in columns).items())
    problems = [f"column '{name}' appears twice" for name, count in counted if count > 1]
    if problems:
        raise InputError(where, problems)
    nameless = [place for place, name in enumerate(names) if not name]
    records, numbers, unnamed, wide = _records(rows, len(names), columns, nameless, where, most_rows)
    return Delimited([names[place] for place in columns], records, numbers, separator, text, unnamed, tuple(wide))


def header_of(text: str, known: Iterable[str] = ()) -> list[str]:
    """Names in the first row of a table that begins with `text`."""
    declared, start = _declared(text)
    header = next((line for line in _lines(text, start) if not line.isspace()), "").rstrip("\n")
    separator = sniff(header, known, declared)
    return _known_names(next(csv.reader([header], delimiter=separator), []), known)


def _known_names(header: Iterable[str], known: Iterable[str]) -> list[str]:
    """Names of columns; one that differs from a known name by case, or by what nobody sees, is that name."""
    names = ["".join(letter for letter in name if category(letter) != "Cf").strip() for name in header]
    meant = {name.casefold(): name for name in known}
    alike = Counter(name.casefold() for name in names)
    return [meant.get(name.casefold(), name) if alike[name.casefold()] == 1 else name for name in names]


def _declared(text: str) -> tuple[str | None, int]:
    """The separator that a first line `sep=;` declares, and where what follows it begins."""
    match = re.match(r'\n*[ ]*"?sep=(\\t|[^\n"])"?[,;\t| ]*(?:\n|$)', text, re.IGNORECASE)
    if match is None:
        return None, 0
    separator = match.group(1)
    return "\t" if separator == "\\t" else separator, match.end()


def _lines(text: str, start: int) -> Iterator[str]:
    """Lines with their ends, one at a time: nothing is copied as a whole."""
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end + 1
        yield text[start:end]
        start = end


def _refuse_long_lines(lines: Iterable[str], where: str) -> None:
    """Before anything is taken apart: a line of a hundred million commas would be as many strings."""
    for line in lines:
        cells = max(map(line.count, SEPARATORS)) if len(line) > MOST_COLUMNS else 0
        if cells > 2 * MOST_COLUMNS:
            raise InputError(where, [f"a line of {cells} separators: at most {MOST_COLUMNS} columns are read"])


def sniff(text: str, known: Iterable[str] = (), declared: str | None = None, start: int = 0) -> str:
    """The separator under which the header has most known names, then the declared one, then most cells."""
    known = {name.casefold() for name in known}
    header = next((line for line in _lines(text, start) if not line.isspace()), "").rstrip("\n")
    candidates = (*SEPARATORS, declared) if declared and declared not in SEPARATORS else SEPARATORS

    def score(separator: str) -> tuple[int, bool, int]:
        cells = [cell.strip().casefold() for cell in next(csv.reader([header], delimiter=separator), [])]
        return len(known & set(cells)), separator == declared, len(cells)

    return max(candidates, key=score)


def _rows(lines: Iterable[str], separator: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of every row that holds something; InputError for a quotation mark that stays open."""
    csv.field_size_limit(LONGEST_CELL)
    # An empty line first: the last line of a file may lack its end.
    reader = csv.reader(chain(lines, ["\n", END]), delimiter=separator)
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
    rows: Iterator[tuple[int, list[str]]], width: int, columns: list[int], nameless: list[int], where: str,
    most_rows: int | None,
) -> tuple[list[list[str]], list[int], int, list[int]]:  # fmt: skip
    """The `columns` of each row, the rows' numbers, how many `nameless` columns hold something, and the numbers of rows
    that are wider than the header, whose cells are left empty."""
    records: list[list[str]] = []
    numbers: list[int] = []
    wide: list[int] = []
    filled: set[int] = set()
    for number, row in rows:
        if (len(records) + 1) * max(len(columns), 1) > MOST_CELLS:
            raise InputError(where, [f"more than {MOST_CELLS} cells, which is the most that are read"])
        if len(records) == most_rows:
            break
        if any(cell and not cell.isspace() for cell in row[width:]):
            wide.append(number)
        told = [] if wide and wide[-1] == number else row
        padded = told + [""] * (width - len(told))
        if any(cell.startswith('="') for cell in padded):
            padded = [FORMULA.sub(r"\1", cell) for cell in padded]
        filled.update(place for place in nameless if padded[place].strip())
        records.append([padded[place] for place in columns])
        numbers.append(number)
    return records, numbers, len(filled), wide
