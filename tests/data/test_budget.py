"""Small files that would become large ones are refused before they are, and honest ones are not."""

from __future__ import annotations

import collections
import hashlib
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demeanor.corpora.archives import unpack
from demeanor.corpora.csd_file import CsdFile
from demeanor.corpora.packed_tables import check_npz, check_parquet
from demeanor.corpora.safe_pickle import loads
from demeanor.data import budget
from demeanor.data.budget import BudgetError
from demeanor.data.bundle import CARD, WEIGHTS, Bundle
from demeanor.data.errors import InputError
from demeanor.data.files import read_json
from demeanor.data.ragged import Ragged
from demeanor.inference.predict import build
from tests.fuzz.cases import bundles

LIST = b"\x80\x02c__builtin__\nlist\nq\x01](" + b"K\x01" * 5000 + b"eq\x00"
COPIES = LIST + b"0(" + b"h\x01h\x00\x85R" * 5000 + b"l."
DTYPE = b"cnumpy\ndtype\nU\x02f8\x85R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def laughs() -> bytes:
    """Twelve lists, each of ten times the one before."""
    program = b"\x80\x02]q\x00K\x01a"
    for n in range(1, 12):
        program += b"0]q" + bytes([n]) + b"(" + (b"h" + bytes([n - 1])) * 10 + b"e"
    return program + b"."


SWELLING = {
    "copies of a list": COPIES,
    "lists of lists of lists": laughs(),
    "content that contains itself": b"\x80\x02]q\x00h\x00a.",
    "an array of no width": b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J" + struct.pack("<i", 2 * 10**9)
    + b"\x85cnumpy\ndtype\nU\x02S0\x85R\x89U\x00tb.",
    "an array of no rows and all columns": b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(K\x00J"
    + struct.pack("<i", 2 * 10**9) + b"J" + struct.pack("<i", 2 * 10**9) + b"t" + DTYPE + b"\x89U\x00tb.",
    "keys that collide": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N" for n in range(10, 2000)) + b"u.",
}  # fmt: skip


@pytest.mark.parametrize("name", SWELLING)
def test_small_pickles_that_swell(name):
    with pytest.raises(InputError):
        loads(SWELLING[name])


def test_a_state_costs_the_same_however_much_is_remembered(monkeypatch):
    """The memo is not gone through for every BUILD: as many look-ups as states, whatever the number of entries."""
    from demeanor.corpora import pickle_machine

    looked = collections.Counter()

    class Memo(dict):
        def get(self, key, default=None):
            looked["entries"] += 1
            return super().get(key, default)

        def __reversed__(self):
            raise AssertionError("the whole memo is gone through")

    program = b"(" + b"".join(b"Nr" + struct.pack("<I", n) for n in range(2000)) + DTYPE * 300 + b"l."
    machine = pickle_machine.Machine(memoryview(program))
    machine.memo = Memo()
    machine.run()
    assert looked["entries"] <= 600


def test_honest_pickles_of_many_small_things_are_read():
    shared = "a speaker"
    for value in (
        [[] for _ in range(500)],
        [True] * 5000,
        [(shared, n) for n in range(500)],
        {n: [n] for n in range(500)},
    ):
        assert loads(pickle.dumps(value)) == value
    arrays = [np.arange(3.0) for _ in range(50)]
    assert len(loads(pickle.dumps(arrays, protocol=2))) == 50


def test_archives_unpack_to_a_multiple_of_their_size(tmp_path, monkeypatch):
    from demeanor.corpora import archives

    monkeypatch.setattr(archives, "FLOOR_BYTES", 100_000)
    monkeypatch.setattr(archives, "FLOOR_FILES", 20)
    zeros = bytes(5_000_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", zeros)
    (tmp_path / "zeros").write_bytes(zeros)
    (tmp_path / "nothing").touch()
    for kind in ("gz", "bz2", "xz"):
        with tarfile.open(tmp_path / f"a.tar.{kind}", f"w:{kind}") as tar:
            tar.add(tmp_path / "zeros", "zeros")
        with tarfile.open(tmp_path / f"many.tar.{kind}", f"w:{kind}") as tar:
            for n in range(200):
                tar.add(tmp_path / "nothing", f"{n}")
    for path in sorted(tmp_path.glob("*.*")):
        with pytest.raises(InputError, match=r"would unpack to|more than \d+ files"):
            unpack(path, tmp_path / "out")
    # A header that says its name has a gigabyte is not waited for.
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = b"x", 1 << 30
    (tmp_path / "header.tar").write_bytes(entry.tobuf() + bytes(20_000))
    with pytest.raises(InputError):
        unpack(tmp_path / "header.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sequences_that_lie_about_their_shape_or_lie_elsewhere(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.csd"
    (tmp_path / "secret").write_bytes(b"secret" * 100)

    def write(fill) -> None:
        with h5py.File(path, "w") as handle:
            group = handle.create_group("COVAREP/data/v")
            group.create_dataset("intervals", data=np.zeros((4, 2)))
            fill(handle, group)

    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones((4, 3))
    wrong = {
        "huge": lambda handle, group: group.create_dataset("features", (4, 10**10), "f4", chunks=(1, 1000)),
        "longer": lambda handle, group: group.create_dataset("features", (10**9, 100), "f4", chunks=(1, 100)),
        "linked": lambda handle, group: group.__setitem__(
            "features", h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        ),
        "outside": lambda handle, group: group.create_dataset(
            "features", (4, 10), "u1", external=[(str(tmp_path / "secret"), 0, 600)]
        ),
    }
    for fill in wrong.values():
        write(fill)
        with CsdFile.open(path) as file, pytest.raises(InputError):
            file.read("v")
    write(lambda handle, group: group.create_dataset("features", data=np.ones((4, 3))))
    with CsdFile.open(path) as file:
        assert file.read("v").features.shape == (4, 3)


def test_headers_of_ragged_streams_that_lie(tmp_path):
    path = tmp_path / "a.safetensors"
    Ragged.from_sequences({"a": np.ones((3, 4), np.float32)}).save(path)
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    for key, change in (
        ("values", {"shape": [10**12, 4]}), ("values", {"shape": [0, 10**12]}), ("values", {"dtype": "X9"}),
        ("values", {"shape": [-3, 4]}), ("values", {"data_offsets": [0, 10**12]}), ("values", {"shape": "3"}),
        ("offsets", {"dtype": "F32"}), ("ids", {"data_offsets": [5]}), ("ids", {"shape": [2.5]}),
    ):  # fmt: skip
        changed = json.dumps({**header, key: {**header[key], **change}}).encode().ljust(size)
        path.write_bytes(content[:8] + changed + content[8 + size :])
        with pytest.raises(InputError):
            Ragged.load(path)
    path.write_bytes(struct.pack("<Q", 1 << 62) + content[8:])
    with pytest.raises(InputError, match="header of"):
        Ragged.load(path)


def changed_bundle(folder: Path, change) -> Path:
    bundle = bundles()[0]
    bundle.save(folder)
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    change(card)
    card["weights_sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")
    return folder


CARDS = {
    "a dimension of a thousand million": (lambda card: card["inputs"]["audio"].update(dimension=10**9), "1000000000"),
    "another dimension": (
        lambda card: card["inputs"]["audio"].update(dimension=7),
        "the card says 7 .* weights hold 5",
    ),
    "a dimension of nothing": (lambda card: card["inputs"]["audio"].update(dimension=0), "a dimension of 0"),
    "endless steps": (lambda card: card["inputs"]["text"].update(max_length=10**12), "steps at most"),
    "a huge setting": (lambda card: card["settings"].update(hidden=10**9), r"settings\.hidden"),
    "a wide setting": (lambda card: card["settings"].update(hidden=500_000), "far larger model than its weights"),
    "another setting": (lambda card: card["settings"].update(hidden=48), "in the weights, .* by the card"),
    "a setting of another kind": (lambda card: card["settings"].update(hidden="many"), r"settings\.hidden"),
    "no inputs": (lambda card: card.pop("inputs"), "Field required"),
    "an unknown system": (lambda card: card.update(system="late_fuison"), "late_fusion"),
}


@pytest.mark.parametrize("name", CARDS)
def test_cards_are_held_against_their_weights(tmp_path, name):
    change, said = CARDS[name]
    with pytest.raises(InputError, match=said) as caught:
        build(Bundle.load(changed_bundle(tmp_path / "bundle", change)))
    assert "torch" not in str(caught.value)
    assert "size mismatch" not in str(caught.value)


def test_cards_that_are_no_cards(tmp_path):
    folder = changed_bundle(tmp_path / "bundle", lambda card: None)
    build(Bundle.load(folder))
    for content in ("[" * 50_000, "[]", "{", "\xff", json.dumps({"a": [0] * 10}), " " * (17 << 20)):
        (folder / CARD).write_text(content, encoding="latin-1")
        with pytest.raises(InputError):
            Bundle.load(folder)


def test_json_of_more_values_than_its_length_warrants(tmp_path):
    (tmp_path / "a.json").write_text("[" + "[]," * 1_500_000 + "[]]", encoding="utf-8")
    with pytest.raises(BudgetError):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps({"words": [["hello", 0.125, 0.25]] * 300}), encoding="utf-8")
    assert len(read_json(tmp_path / "a.json")["words"]) == 300


def test_packed_arrays_and_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "FLOOR_BYTES", 100_000)
    np.savez_compressed(tmp_path / "fine.npz", a=np.arange(10), b=np.array(["x", "yy"]))
    check_npz(tmp_path / "fine.npz")
    np.savez_compressed(tmp_path / "zeros.npz", a=np.zeros(1_000_000))
    with pytest.raises(BudgetError):
        check_npz(tmp_path / "zeros.npz")
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000,), }".ljust(117) + b"\n"
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    with pytest.raises(InputError, match="shorter than its header says"):
        check_npz(tmp_path / "lies.npz")
    pd.DataFrame({"id": ["a", "b"], "text": ["x", None], "score": [1, 2]}).to_parquet(tmp_path / "fine.parquet")
    check_parquet(tmp_path / "fine.parquet")
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), ["a" * 10_000])
    pq.write_table(pa.table({"id": same}), tmp_path / "same.parquet")
    with pytest.raises(BudgetError):
        check_parquet(tmp_path / "same.parquet")
