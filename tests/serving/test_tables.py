"""Rows to score from a table on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from demeanor.data.errors import InputError
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


def test_what_is_no_table_is_said(tmp_path: Path):
    (tmp_path / "rows.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a text file"):
        read_rows(tmp_path / "rows.csv")
