"""Pickles of every protocol and age give what Python's own reader gives; anything else is refused by name, unrun."""

from __future__ import annotations

import collections
import fractions
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from demeanor.corpora.safe_pickle import RefusedError, load, loads
from demeanor.data.errors import InputError

OBJECTS = np.empty(2, dtype=object)
OBJECTS[0], OBJECTS[1] = np.arange(3), [1, 2]
VALUES = {
    "f8": np.random.default_rng(0).random((3, 4)),
    "fortran": np.asfortranarray(np.ones((3, 4), dtype=np.float32)),
    "sliced": np.arange(20.0).reshape(4, 5)[:, ::2],
    "text": np.array(["ab", "cde", "é"]),
    "bytes": np.array([b"ab", b"cde"]),
    "objects": OBJECTS,
    "big_endian": np.arange(4).astype(">i4"),
    "empty": np.zeros((0, 5)),
    "zero_d": np.array(3.0),
    "bools": np.array([True, False]),
    "large": np.random.default_rng(1).random((100, 1000)),
    "scalar": np.float32(3.5),
    "numpy_text": np.str_("hé"),
    "plain": [1, -7, 2.5, None, True, False, "x", 10**30, b"abc", 1 + 2j, 300, 70000, ""],
    "nested": {"a": {"b": [[1], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]}},
    "sets": [{1, 2}, frozenset([1])],
    "ordered": collections.OrderedDict(a=1),
    "default": collections.defaultdict(list, {"q": [1]}),
    "bytearray": bytearray(b"xx"),
    "long_text": "é" * 70000,
    "long_bytes": b"x" * 100000,
}


def same(one, other) -> bool:
    if isinstance(one, np.ndarray):
        if not isinstance(other, np.ndarray) or one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype == object:
            return all(same(a, b) for a, b in zip(one.ravel(), other.ravel(), strict=True))
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, (bytes, memoryview)):  # long ones are views on the file
        return isinstance(other, (bytes, bytearray)) and bytes(one) == bytes(other)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", VALUES)
def test_every_protocol(name, protocol):
    value = [VALUES[name], VALUES[name]]
    assert same(loads(pickle.dumps(value, protocol=protocol)), value)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_old_and_new_names_of_numpy(module):
    stored = pickle.dumps(np.arange(3.0), protocol=2)
    named = stored.replace(b"numpy._core.multiarray", module.encode()).replace(
        b"numpy.core.multiarray", module.encode()
    )
    assert same(loads(named), np.arange(3.0))


def test_python_2_array():
    """As Python 2 stored it: strings for bytes, and the content of the array in a string."""
    content = np.arange(4, dtype="<f8").tobytes()
    stored = (
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04U\x01b"
        b"\x87Rq\x05(K\x01K\x02K\x02\x86cnumpy\ndtype\nq\x06U\x02f8K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(content)]) + content + b"tbs."
    )
    assert same(loads(stored), {"a": np.arange(4.0).reshape(2, 2)})
    assert same(loads(stored), pickle.loads(stored, encoding="latin1"))


def test_arrays_are_views_on_the_file(tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps({"x": np.arange(100000.0)}))
    loaded = load(path)
    array = loaded.content["x"]
    assert not array.flags.writeable
    assert not array.flags.owndata
    loaded.forget_pages()
    assert array[99999] == 99999.0


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_run(tmp_path, protocol):
    target = tmp_path / "executed"
    attacks = [
        Malicious(os.system, f"touch {target}"),
        Malicious(eval, f"open({str(target)!r}, 'w')"),
        {"train": [Malicious(Path.touch, target)]},
    ]
    for attack in attacks:
        with pytest.raises(RefusedError) as caught:
            loads(pickle.dumps(attack, protocol=protocol))
        assert any("not data" in problem for problem in caught.value.problems)
    assert not target.exists()


def test_all_refused_names_are_listed():
    stored = pickle.dumps([Malicious(os.system, "true"), fractions.Fraction(1, 3), Malicious(eval, "1")])
    with pytest.raises(RefusedError) as caught:
        loads(stored)
    text = str(caught.value)
    assert "system" in text
    assert "fractions.Fraction" in text
    assert "eval" in text


HAND_MADE = {
    "instance": b"(S'x'\nios\nsystem\n.",
    "object": b"(cos\nsystem\nS'x'\no.",
    "persistent": b"Pid\n.",
    "binary persistent": b"K\x01Q.",
    "extension": b"\x80\x02\x82\x01.",
    "keyword call": b"\x80\x04cos\nsystem\n)}\x92.",
    "outside buffer": b"\x80\x05\x97.",
    "state of a refused object": b"cos\nenviron\n}b.",
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_other_ways_to_call(name):
    with pytest.raises(RefusedError):
        loads(HAND_MADE[name])


BROKEN = {
    "empty": b"",
    "text": b"hello world, this is a text file",
    "huge length": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "negative length": b"T\xff\xff\xff\xff.",
    "huge memo index": b"K\x01r\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "no stop": b"\x80\x04K\x01",
    "two objects": b"K\x01K\x02.",
    "pop of nothing": b"0.",
    "mark popped": b"(\x85.",
    "append to number": b"K\x01K\x02a.",
    "unhashable key": b"}]K\x01s.",
    "deep key": b"}" + b")" + b"\x85" * 100000 + b"K\x01s.",
    "array never filled": b"cnumpy.core.multiarray\n_reconstruct\n)R.",
    "array of wrong size": pickle.dumps(np.arange(8.0), protocol=2).replace(b"K\x08\x85", b"K\x09\x85"),
    "array with fields": pickle.dumps(np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]), protocol=2),
    "dtype that is none": b"cnumpy\ndtype\nU\x03zzz\x85R.",
    "type called": b"c__builtin__\nint\nS'1'\n\x85R.",
    "endless digits": b"L" + b"9" * 100000 + b"L\n.",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pickles(name):
    with pytest.raises(InputError):
        loads(BROKEN[name])


def test_every_truncation_ends_in_one_error():
    stored = pickle.dumps({key: value for key, value in VALUES.items() if "long" not in key and key != "large"})
    assert len(stored) < 20000
    for end in range(0, len(stored), 13):
        with pytest.raises(InputError):
            loads(stored[:end])


def test_random_damage_never_escapes():
    """A sample; tests/fuzz goes on with damage of every kind for as long as it is given."""
    stored = pickle.dumps({key: value for key, value in VALUES.items() if "long" not in key and key != "large"})
    generator = np.random.default_rng(2)
    outcomes = collections.Counter()
    for _ in range(400):
        damaged = bytearray(stored)
        for position in generator.integers(0, len(damaged), 3):
            damaged[position] = generator.integers(0, 256)
        try:
            loads(bytes(damaged))
            outcomes["read"] += 1
        except InputError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 20
    assert sum(outcomes.values()) == 400


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "absent.pkl")
    (tmp_path / "empty.pkl").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        load(tmp_path / "empty.pkl")
    with pytest.raises(InputError, match="is a folder"):
        load(tmp_path)
