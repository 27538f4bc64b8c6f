"""Tables as spreadsheets and exporters write them: the rows that a spreadsheet shows, the words that stand there."""

from __future__ import annotations

from pathlib import Path

import pytest

from demeanor.data import delimited
from demeanor.data.delimited import read_delimited
from demeanor.data.errors import InputError


def read(folder: Path, text: str, known=("id", "text"), encoding="utf-8", **options):
    (folder / "t.csv").write_bytes(text.encode(encoding))
    return read_delimited(folder / "t.csv", known, **options)


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "sep=;;;", "\nsep=;", "\ufeffsep=;"])
def test_the_line_that_excel_takes_for_itself(tmp_path: Path, first: str):
    found = read(tmp_path, f"{first}\nid;text\n1;a, b\n")
    assert (found.names, found.records, found.numbers) == (["id", "text"], [["1", "a, b"]], [2])


@pytest.mark.parametrize(("declared", "separator"), [("\t", "\t"), ("\\t", "\t"), (":", ":"), ("|", "|"), (",", ",")])
def test_other_separators_may_be_declared(tmp_path: Path, declared: str, separator: str):
    found = read(tmp_path, f"sep={declared}\nid{separator}text\n1{separator}a\n")
    assert found.records == [["1", "a"]]


def test_a_declared_separator_that_makes_no_column_is_not_believed(tmp_path: Path):
    assert read(tmp_path, "sep=;\nid,text\n1,a;b\n").records == [["1", "a;b"]]


def test_rows_are_those_of_a_spreadsheet(tmp_path: Path):
    text = 'id,text\n\n1,"two\nlines\n\nof text"\n , \n,,,\n2,b\n\n\n3,c'
    found = read(tmp_path, text)
    assert [record[0] for record in found.records] == ["1", "2", "3"]
    assert found.numbers == [3, 6, 9]
    assert read(tmp_path, f"\n\n{text}").numbers == [5, 8, 11]
    assert read(tmp_path, text.replace("\n", "\r\n")).numbers == [3, 6, 9]
    assert read(tmp_path, text, encoding="utf-16").numbers == [3, 6, 9]


def test_words_stay_words_and_trailing_separators_are_nothing(tmp_path: Path):
    words = ["None", "NA", "null", "nan", "N/A", "TRUE", "007", "1e5", "#N/A"]
    found = read(tmp_path, "id,text,,\n" + "".join(f"{n},{word},,\n" for n, word in enumerate(words)))
    assert [record[1] for record in found.records] == words
    assert found.names == ["id", "text"]
    assert found.unnamed == 0


def test_columns_without_a_name_are_counted(tmp_path: Path):
    found = read(tmp_path, ",id,text\n0,a,x\n1,b,y\n")
    assert (found.names, found.records, found.unnamed) == (["id", "text"], [["a", "x"], ["b", "y"]], 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,text\n1,a\n\n2,b,c\n", "the first is row 4"),
        ('id,text\n1,a\n2,"b\n3,c\n4,d\n', "opened in row 3 and never closed"),
        ("id,text,id\n1,a,2\n", "column 'id' appears twice"),
        ("", "empty"),
        (" \n,,\n\n", "empty"),
        ("sep=;\n", "empty"),
    ],
)
def test_what_is_wrong_is_said_with_its_row(tmp_path: Path, text: str, message: str):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_too_many_columns_rows_or_separators_end_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="at most 10000 columns"):
        read(tmp_path, ",".join(f"c{n}" for n in range(200_000)) + "\n1\n")
    with pytest.raises(InputError, match="10001 columns"):
        read(tmp_path, ",".join(f"c{n}" for n in range(10_001)) + "\n1\n")
    with pytest.raises(InputError, match="column 'c' appears twice"):
        read(tmp_path, "id,text" + ",c" * 9_000 + "\n")
    with pytest.raises(InputError, match="a line of 200000 separators"):
        read(tmp_path, "id,text\n" + "," * 200_000 + "\n")
    monkeypatch.setattr(delimited, "MOST_CELLS", 100)
    with pytest.raises(InputError, match="more than 100 cells"):
        read(tmp_path, "id,text\n" + "1,a\n" * 60)


def test_names_of_columns_in_any_case_unless_two_are_alike(tmp_path: Path):
    assert read(tmp_path, "ID;\u2060Text;Other\n1;a;b\n").names == ["id", "text", "Other"]
    assert read(tmp_path, "id,ID,text\n1,2,a\n").names == ["id", "ID", "text"]


def test_only_the_columns_that_are_wanted(tmp_path: Path):
    found = read(tmp_path, "id, other, text\n1, x, a\n", only={"id", "text"})
    assert (found.names, found.records) == (["id", "text"], [["1", " a"]])
