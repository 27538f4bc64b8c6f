"""Ids: found like keys of a dictionary, stored like text."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from demeanor.data import ids as module
from demeanor.data.errors import InputError
from demeanor.data.ids import Ids, ids_of

names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=12)


@given(names, names)
def test_found_as_in_a_dictionary(held, wanted):
    """Of two with one name the later one counts, as a dictionary has it."""
    known = {name: n for n, name in enumerate(held)}
    ids = Ids(held)
    assert (list(ids), len(ids), ids[1:3]) == (held, len(held), held[1:3])
    assert [ids.place(name) for name in wanted + held] == [known.get(name) for name in wanted + held]
    np.testing.assert_array_equal(ids.places(wanted + held), [known.get(name, -1) for name in wanted + held])


@given(names)
def test_names_with_one_hash_are_told_apart(held):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "hash", lambda name: len(name) % 2, raising=False)
        ids, known = Ids(held), {name: n for n, name in enumerate(held)}
        assert [ids.place(name) for name in held] == [known[name] for name in held]
        np.testing.assert_array_equal(ids.places([*held, "no such"]), [*(known[name] for name in held), -1])


@given(names)
@example(['a", "b', "\\", '"', '", "', '\\", \\"'])
def test_a_list_in_a_file_is_read_piece_by_piece(held):
    content = json.dumps(held, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", 1)
        assert list(ids_of(content, "a file")) == held
    assert ids_of(content, "a file") is not ids_of(b'["other"]', "another")


def test_the_same_list_is_held_once():
    first = ids_of(b'["a", "b"]', "one file")
    assert ids_of(b'["a", "b"]', "another") is first


@pytest.mark.parametrize("content", [b"", b"{}", b'["a", 1]', b'["a", "b"', b'"a", "b"', b'["\xff"]'])
def test_what_is_no_list_of_names_is_refused(content):
    with pytest.raises(InputError, match=r"some\.file"):
        ids_of(content, "some.file")


def test_another_process_hashes_in_its_own_way():
    """Strings have other hashes in every process of Python, and ids are sent to those that make batches."""
    ask = "import pickle, sys; ids = pickle.load(sys.stdin.buffer); print(ids.place('u7'), ids.place('u8'), len(ids))"
    content = pickle.dumps(Ids(f"u{n}" for n in range(8)))
    for seed in ("1", "2"):
        surroundings = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", ask], input=content, capture_output=True, env=surroundings, check=False
        )
        assert done.stdout.split() == [b"7", b"None", b"8"], done.stderr


def test_a_name_takes_little_memory():
    tracemalloc.start()
    try:
        ids = Ids(f"u{n:07d}" for n in range(20_000))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ids.place("u0019999") == 19_999
    assert held / len(ids) < 40  # a string and its place in a dictionary take 180
