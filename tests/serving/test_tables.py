"""Rows to score from a table on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from demeanor.data.errors import InputError
from demeanor.data.raw_rows import read_rows as raw_rows
from demeanor.serving.tables import read_rows


def test_words_stay_words_and_numbers_are_numbers(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_bytes(
        "utterance_id;text;turn;start\r\n007;None;1,0;0,5\r\n;\r\nb;NA;soon;\r\nc;Café;2;\r\n".encode("cp1252")
    )
    assert read_rows(path) == [
        {"utterance_id": "007", "text": "None", "turn": 1, "start": 0.5},
        {"utterance_id": "b", "text": "NA", "turn": "soon", "start": None},
        {"utterance_id": "c", "text": "Café", "turn": 2, "start": None},
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_program_may_have_written_it(tmp_path: Path, encoding: str, separator: str, end: str):
    lines = ["sep=" + separator, "text|turn|start|", "null|1|0.5|", "", '"so\r\nschön"|2||', "True|1e0|nan|||"]
    text = end.join(line if line.startswith("sep") else line.replace("|", separator) for line in lines)
    (tmp_path / "rows.csv").write_bytes(text.encode(encoding))
    assert read_rows(tmp_path / "rows.csv") == [
        {"text": "null", "turn": 1, "start": 0.5},
        {"text": "so\nschön", "turn": 2, "start": None},
        {"text": "True", "turn": 1, "start": "nan"},
    ]


def test_a_row_with_too_many_cells_has_its_own_problem(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("utterance_id,text\na,yes, I do\nb,no\n")
    wide, good = read_rows(tmp_path / "rows.csv")
    assert good == {"utterance_id": "b", "text": "no"}
    (row,) = raw_rows([wide])
    assert row.problem == "the row has more cells than the header: a text with separators must stand in double quotes"
    assert not row.cells


@pytest.mark.parametrize("word", ["NA", "nan", "null", "None", " n/a ", "-", "#N/A", "<NA>"])
def test_where_a_number_is_missing_these_words_say_so_and_elsewhere_they_are_words(word: str):
    given = {"utterance_id": word, "text": word, "speaker": word, "start": word, "end": word, "turn": word}
    (row,) = raw_rows([given])
    assert row.problem == ""
    assert row.cells == {"utterance_id": word, "text": word, "speaker": word}


def test_decimal_commas_in_cells():
    assert raw_rows([{"start": "0,5", "end": "1,25"}])[0].cells == {"start": 0.5, "end": 1.25}
    assert raw_rows([{"start": "1,500"}])[0].problem == "`start` is text instead of a number"


def test_what_is_no_table_is_said(tmp_path: Path):
    (tmp_path / "rows.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a text file"):
        read_rows(tmp_path / "rows.csv")
