"""Mutated inputs of every kind: each ends in a clear error or in a corpus with findings, and nothing else happens.

Some 300 inputs, the same ones every time: bytes cut, flipped, blanked, repeated or inserted; columns taken away,
renamed, exchanged or filled with something else; pickles that want to run a command.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demeanor.corpora import find_reader
from demeanor.corpora.doctor import examine
from demeanor.data.errors import DemeanorError
from tests.corpora import test_cmu_sdk, test_label_csv, test_meld_ravdess, test_mmsa_pickle, test_multilogue_pickle
from tests.corpora.test_iemocap import release

CASES_PER_INPUT = 40


def sdk(folder: Path) -> Path:
    frames = np.stack([np.arange(40) / 10, np.arange(1, 41) / 10], axis=1)
    folder.mkdir()
    test_cmu_sdk.csd(folder / "a.csd", "glove_vectors", {"v": ([[0, 1], [1, 4]], np.ones((2, 3), np.float32))})
    test_cmu_sdk.csd(folder / "b.csd", "COVAREP", {"v": (frames, np.ones((40, 2), np.float32))})
    test_cmu_sdk.csd(folder / "e.csd", "All Labels", {"v": ([[0, 2], [2, 4]], np.ones((2, 7)))})
    (folder / "folds.json").write_text(json.dumps({"train": ["v"], "valid": [], "test": []}))
    return folder


def dump(path: Path, content) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


def manifest(folder: Path) -> Path:
    folder.mkdir()
    rows = "\n".join(f"u{n},text {n},{n % 3},s{n % 4},{['train', 'valid', 'test'][n % 3]}" for n in range(12))
    (folder / "manifest.csv").write_text(f"id,text,score,speaker,split\n{rows}\n")
    return folder


#: reader -> (maker of a sound input, file to damage within it, options)
INPUTS: dict[str, tuple[Callable[[Path], Path], str, dict]] = {
    "mmsa_pickle": (lambda p: dump(p, test_mmsa_pickle.toy(sims=True)), "", {}),
    "multilogue_pickle": (lambda p: dump(p, tuple(test_multilogue_pickle.toy())), "", {"target": "polarity"}),
    "label_csv": (test_label_csv.write, "label.csv", {}),
    "meld": (test_meld_ravdess.meld, "train_sent_emo.csv", {}),
    "folder": (manifest, "manifest.csv", {}),
    "cmu_sdk": (sdk, "b.csd", {"folds": "folds.json"}),
    "iemocap": (lambda p: release(p, sentences=False), "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", {}),
}


def read(reader: str, path: Path, output: Path, options: dict):
    found = find_reader(reader)
    told = {key: path / value if key == "folds" else value for key, value in options.items()}
    return found().read(found.settings_type.model_validate({"path": path, **told}), output)


def outcome(reader: str, path: Path, output: Path, options: dict) -> str:
    """ "read" or "refused"; whatever else happens fails the test, and so does anything left behind."""
    refused = None
    try:
        corpus = read(reader, path, output, options)
    except DemeanorError as error:
        refused = str(error)
    if refused is not None:
        assert refused.strip()
        assert "Traceback" not in refused
        assert not output.exists() or not list(output.iterdir())
        return "refused"
    report = examine(corpus)
    assert report.to_markdown()
    json.dumps(report.to_json())
    assert not [path for path in output.glob("*") if path.suffix != ".safetensors" or path.name.startswith(".")]
    shutil.rmtree(output, ignore_errors=True)
    return "read"


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    data = bytearray(content)
    kind = generator.integers(7)
    place, length = int(generator.integers(len(data))), int(generator.integers(1, 40))
    if kind == 0:
        del data[place:]
    elif kind == 1:
        for position in generator.integers(0, len(data), 4):
            data[position] ^= 1 << int(generator.integers(8))
    elif kind == 2:
        data[place : place + length] = bytes(len(data[place : place + length]))
    elif kind == 3:
        data[place:place] = generator.integers(0, 256, length, dtype=np.uint8).tobytes()
    elif kind == 4:
        data[place:place] = data[place : place + length * 5]
    elif kind == 5:
        del data[place : place + length]
    else:
        data[:0] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\n\n", b"\0\0", b"PK\3\4"][int(generator.integers(5))]
    return bytes(data)


@pytest.mark.parametrize("reader", INPUTS)
def test_damaged_bytes(tmp_path, reader):
    make, file, options = INPUTS[reader]
    path = make(tmp_path / "input")
    place = path / file if file else path
    content = place.read_bytes()
    assert outcome(reader, path, tmp_path / "out", options) == "read"
    generator = np.random.default_rng(sorted(INPUTS).index(reader))
    outcomes = Counter()
    for _ in range(CASES_PER_INPUT):
        place.write_bytes(damaged(content, generator))
        outcomes[outcome(reader, path, tmp_path / "out", options)] += 1
    assert sum(outcomes.values()) == CASES_PER_INPUT
    assert outcomes["refused"]


WRONG = (
    None, 3, "text", b"bytes", [], {}, [1, "a"], [[1.0], [2.0, 3.0]], np.zeros(0), np.zeros((2, 2)), np.array(["a"]),
    np.array([None, {}], dtype=object), np.full((5, 9, 5), np.nan), np.zeros((5, 0, 3)), [float("nan")] * 5, -1.5,
    {"a": 1}, [[[[[[[[[[[1]]]]]]]]]]], "é" * 1000, np.array(3.0), np.zeros((5, 3, 6), dtype=complex), [True] * 5,
    list(range(5)), ["../x$_$1"] * 5, np.array([b"x"] * 5), 10**400,
)  # fmt: skip


def test_wrong_values_in_pickles(tmp_path):
    outcomes = Counter()
    generator = np.random.default_rng(5)
    for value in WRONG:
        for reader in ("mmsa_pickle", "multilogue_pickle"):
            base = test_mmsa_pickle.toy(sims=True) if reader == "mmsa_pickle" else test_multilogue_pickle.toy()
            content: Any = copy.deepcopy(base)
            if isinstance(content, dict):
                split = content[("train", "valid", "test")[int(generator.integers(3))]]
                split[list(split)[int(generator.integers(len(split)))]] = value
            else:
                number = int(generator.integers(1, 9))
                if isinstance(content[number], dict) and generator.integers(2):
                    content[number]["a"] = value
                else:
                    content[number] = value
                content = tuple(content)
            dump(tmp_path / "file.pkl", content)
            outcomes[outcome(reader, tmp_path / "file.pkl", tmp_path / "out", INPUTS[reader][2])] += 1
    assert outcomes["refused"] > outcomes["read"]


class Command:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_commands_in_pickles(tmp_path):
    target = tmp_path / "executed"
    for reader in ("mmsa_pickle", "multilogue_pickle"):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            base = test_mmsa_pickle.toy() if reader == "mmsa_pickle" else test_multilogue_pickle.toy()
            if isinstance(base, dict):
                base["train"]["audio"] = Command(f"touch {target}")
            else:
                base[2] = {"a": Command(f"touch {target}")}
            (tmp_path / "file.pkl").write_bytes(pickle.dumps(base, protocol=protocol))
            assert outcome(reader, tmp_path / "file.pkl", tmp_path / "out", INPUTS[reader][2]) == "refused"
    assert not target.exists()


def changed(lines: list[str], column: int, how: Callable[[str], str]) -> str:
    """The table with every cell of one column changed."""
    cells = [line.split(",") for line in lines[1:]]
    rows = [",".join(how(cell) if n == column else cell for n, cell in enumerate(row)) for row in cells]
    return "\n".join([lines[0], *rows])


@pytest.mark.parametrize("reader", ["label_csv", "meld", "folder"])
def test_changed_tables(tmp_path, reader):
    make, file, options = INPUTS[reader]
    path = make(tmp_path / "input")
    lines = (path / file).read_text(encoding="utf-8").splitlines()
    names = lines[0].split(",")
    changes = ["\ufeff" + "\n".join(lines), "\r\n".join(lines), "\n".join(line.replace(",", ";") for line in lines)]
    for n, name in enumerate(names):
        changes += [
            "\n".join([",".join(names[:n] + names[n + 1 :]), *lines[1:]]),
            "\n".join([lines[0].replace(name, name.upper() + "x"), *lines[1:]]),
            changed(lines, n, lambda cell: "NaN"),
            changed(lines, n, lambda cell: '"' + cell),
        ]
    changes += ["", lines[0], "\n".join(lines[1:]), lines[0] + "\n" + "," * 40, "\n".join(lines * 2)]
    outcomes = Counter()
    for text in changes:
        (path / file).write_text(text, encoding="utf-8", newline="")
        outcomes[outcome(reader, path, tmp_path / "out", options)] += 1
    assert outcomes["refused"] >= 8
    assert outcomes["read"] >= 2
