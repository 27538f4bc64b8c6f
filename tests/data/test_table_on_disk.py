"""Text of large tables on disk: the same table, and none of it in memory."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from demeanor.data import table_on_disk
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.table_on_disk import assembled, on_disk, read_parquet

ROWS = 20_000


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Text with gaps, of several bytes a sign, and beside it numbers and a column without any text."""
    chance = random.Random(0)

    def said() -> str | None:
        return None if chance.random() < 0.1 else "".join(chance.choices("aä€😀 ", k=chance.randrange(6)))

    return pd.DataFrame(
        {"text": pd.array([said() for _ in range(ROWS)], dtype="str"), "number": np.arange(ROWS) / 2,
         "name": pd.array([f"u{n}" for n in range(ROWS)], dtype="str"), "turn": np.arange(ROWS),
         "nobody": pd.array([None] * ROWS, dtype="str"), "empty": pd.array([""] * ROWS, dtype="str")}
    )  # fmt: skip


def test_it_is_the_same_table_and_takes_no_memory(table):
    before = pa.total_allocated_bytes()
    moved = on_disk(table)
    assert pa.total_allocated_bytes() - before < 1 << 14
    table_on_disk.let_go()
    pd.testing.assert_frame_equal(moved, table)
    assert on_disk(moved) is moved


def test_rows_of_it_are_those_of_pandas(table):
    moved = on_disk(table)
    rows = np.random.default_rng(0).permutation(ROWS)[: ROWS - 1000]
    before = pa.total_allocated_bytes()
    chosen = on_disk(moved, rows)
    assert pa.total_allocated_bytes() - before < 1 << 14
    pd.testing.assert_frame_equal(chosen, table.iloc[rows])
    pd.testing.assert_frame_equal(on_disk(moved, rows[:10]), table.iloc[rows[:10]])
    named = table.set_index("name")
    pd.testing.assert_frame_equal(on_disk(named, rows), named.iloc[rows])


@pytest.mark.parametrize("size", [777, 9_000, 50_000])
def test_parts_become_one_table_as_pandas_joins_them(table, size):
    parts = [table.iloc[start : start + size] for start in range(0, ROWS, size)]
    parts = [part.drop(columns=["text", "number"]) if n < len(parts) // 2 else part for n, part in enumerate(parts)]
    expected = pd.concat(parts, ignore_index=True)
    pd.testing.assert_frame_equal(assembled(iter(parts)), expected)
    pd.testing.assert_frame_equal(assembled(parts[:1]), parts[0].reset_index(drop=True))
    assert assembled([]).empty


def test_a_parquet_file_is_read_to_disk(table, tmp_path):
    table.to_parquet(tmp_path / "table.parquet", index=False)
    before = pa.total_allocated_bytes()
    read = read_parquet(tmp_path / "table.parquet")
    assert pa.total_allocated_bytes() - before < 1 << 14
    pd.testing.assert_frame_equal(read, table)
    for smaller in (table.head(5), table.set_index("name")):  # few rows, and rows that have names
        smaller.to_parquet(tmp_path / "other.parquet")
        pd.testing.assert_frame_equal(read_parquet(tmp_path / "other.parquet"), smaller)


def test_on_a_full_disk_it_stays_in_memory(table, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    table.to_parquet(tmp_path / "table.parquet", index=False)
    monkeypatch.setattr(table_on_disk, "spool", full)
    assert on_disk(table) is table
    pd.testing.assert_frame_equal(on_disk(table, np.arange(9_000)), table.iloc[:9_000])
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "table.parquet"), table)
    with pytest.raises(InputError, match="the disk is full"):  # what is read block by block is nowhere as a whole
        assembled([table])


def test_parts_of_a_corpus_share_no_memory_with_it(table):
    split = np.where(np.arange(ROWS) % 10 == 9, "test", "train")
    whole = on_disk(table.rename(columns={"name": "utterance_id"}).assign(split=pd.array(split, dtype="str")))
    before = pa.total_allocated_bytes()
    development = Examples.of(whole, {}).split("train", "valid")
    assert pa.total_allocated_bytes() - before < 1 << 14
    assert development.ids == [f"u{n}" for n in range(ROWS) if n % 10 != 9]


def test_files_go_with_the_tables(table):
    known = len(table_on_disk._MAPS)
    moved = on_disk(table)
    assert len(table_on_disk._MAPS) == known + 1
    del moved
    assert len(table_on_disk._MAPS) == known
