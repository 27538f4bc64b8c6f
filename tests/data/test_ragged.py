"""Ragged arrays: gathering, storage that is whole or absent, and readable errors."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from demeanor.data.errors import InputError
from demeanor.data.ragged import Ragged, RaggedWriter


def made(lengths: list[int], dimension: int = 3, dtype=np.float32) -> Ragged:
    generator = np.random.default_rng(0)
    return Ragged.from_sequences(
        {f"u{n}": generator.normal(size=(length, dimension)).astype(dtype) for n, length in enumerate(lengths)},
        dimension=dimension,
        dtype=dtype,
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=9), st.data())
def test_gather_pads_on_the_right_and_masks(lengths, data):
    ragged = made(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    values, mask = ragged.gather(chosen)
    assert values.shape == (len(chosen), max(1, *(lengths[n] for n in chosen)), 3)
    for row, n in enumerate(chosen):
        assert mask[row].sum() == lengths[n]
        np.testing.assert_array_equal(values[row, : lengths[n]], ragged[n])
        assert not values[row, lengths[n] :].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.int16])
def test_what_is_stored_comes_back_and_is_plain_safetensors(tmp_path, dtype):
    ragged = made([2, 0, 5], dtype=dtype)
    ragged.save(tmp_path / "a.safetensors", {"key": "value"})
    back = Ragged.load(tmp_path / "a.safetensors")
    assert back.ids == ragged.ids
    assert back.values.dtype == dtype
    assert back.dtype == (np.float32 if dtype == np.float16 else dtype)  # half precision is a way of storing
    assert isinstance(back.values, np.memmap)
    for mine, theirs in zip(ragged, back, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["values"], ragged.values)


def test_select_shares_values_and_keeps_order():
    ragged = made([2, 0, 5, 1])
    part = ragged.select(["u3", "u0"])
    assert part.values is ragged.values
    assert list(part.lengths) == [1, 2]
    assert not part.whole
    assert ragged.whole
    np.testing.assert_array_equal(part.select(["u0"])["u0"], ragged["u0"])
    with pytest.raises(InputError, match="'absent'"):
        ragged.select(["absent"])


def test_longest_cuts():
    values, mask = made([5, 2]).gather([0, 1], max_length=3)
    assert values.shape == (2, 3, 3)
    assert list(mask.sum(axis=1)) == [3, 2]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def fails() -> None:
        with RaggedWriter.open(tmp_path / "a.safetensors", 2, np.float32) as writer:
            writer.append("u0", np.ones((3, 2), dtype=np.float32))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert not list(tmp_path.iterdir())


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "a.safetensors"
    made([4]).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 8])
    with pytest.raises(InputError, match="cut short"):
        Ragged.load(path)
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        Ragged.load(path)
    with pytest.raises(InputError, match="two-dimensional"):
        Ragged(np.zeros(3), np.array([0, 3]), ["u"])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says what a process holds")
def test_reading_all_of_a_mapped_file_holds_little_of_it(tmp_path):
    """A corpus is hashed clip by clip: what was read counts as the process' own memory until it is let go."""
    with RaggedWriter.open(tmp_path / "a.safetensors", 1, np.float32) as writer:
        for n in range(64):
            writer.append(f"u{n}", np.full((1 << 18, 1), n, np.float32))
    stored = Ragged.load(tmp_path / "a.safetensors")

    def held() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, kept = held(), stored["u3"]
    highest = 0
    for n, sequence in enumerate(stored):
        assert sequence.sum() == n * len(sequence)
        highest = max(highest, held())
    assert highest - before < 24 << 20
    assert kept.sum() == 3 * len(kept)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda stored: pickle.loads(pickle.dumps(stored))])
def test_a_copy_of_what_is_mapped_is_read_like_it(tmp_path, copied):
    """Kedro copies what lies in memory between nodes; the copy is no map, though numpy calls it one."""
    with RaggedWriter.open(tmp_path / "a.safetensors", 1, np.float32) as writer:
        for n in range(8):
            writer.append(f"u{n}", np.full((1 << 18, 1), n, np.float32))
    stored = copied(Ragged.load(tmp_path / "a.safetensors"))
    assert [float(sequence[0, 0]) for sequence in stored] == list(range(8))
    assert stored.position("u7") == 7


def test_a_selection_finds_its_own_sequences_alone():
    ragged = made([2, 0, 5, 1])
    turned = ragged.select(["u3", "u2", "u1", "u0"])  # as many, in another order
    assert [turned.position(name) for name in ragged.ids] == [3, 2, 1, 0]
    part = turned.select(["u2", "u0"])
    assert ("u2" in part, "u3" in part, "u9" in part) == (True, False, False)
    np.testing.assert_array_equal(part["u0"], ragged["u0"])
    np.testing.assert_array_equal(part.select(["u0"])["u0"], ragged["u0"])
    with pytest.raises(InputError, match="u3"):
        part.select(["u0", "u3"])


def test_streams_with_the_same_ids_share_them_as_long_as_somebody_has_them(tmp_path):
    for name in ("a", "b"):
        made([2, 0]).save(tmp_path / name)
    made([1, 1, 1]).save(tmp_path / "c")
    first, second, other = (Ragged.load(tmp_path / name) for name in ("a", "b", "c"))
    assert first.select(["u1"])._names is second._names is first._names
    assert other.ids == ("u0", "u1", "u2")
