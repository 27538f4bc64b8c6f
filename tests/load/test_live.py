"""The measurement of live delays: what it counts, and where it writes."""

from __future__ import annotations

import pytest

from tests.load.live import Heard, put, row


def test_a_row_counts_windows_with_a_voice_alone():
    heard = [Heard(0.5, 0.4, "recognised", True), Heard(1.5, 1.4, "left out", True), Heard(9.0, 9.0, "", False)]
    assert row("words", [(heard, 1), (heard[:1], 0)]) == "| words | 2 | 3 | 0.50 | 1.40 | 1.50 | 1 | 1 |"


def test_the_table_stands_between_its_marks():
    page = "a\n<!-- live delay -->\nold\n<!-- end of live delay -->\nb\n"
    assert put("new", page) == page.replace("old", "new")
    with pytest.raises(SystemExit, match="no marks"):
        put("new", "nothing")
