"""The CMU Multimodal SDK's alignment, entry by entry, against the golden toy dataset."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from demeanor.corpora.csd_file import files_by_name, read_sequence
from demeanor.corpora.sdk_alignment import align, average, get_tensors, hard_unify, impute, unify
from tests.parity.golden import cases

TENSORS = re.compile(r"(avg_)?tensors(\d+)(_fromdisk)?")
WORDS, LABELS = "glove_vectors", "All Labels"


@pytest.fixture(scope="module", params=cases("conv_autoencoder", "sdk_toy*"))
def folder(request) -> Path:
    return request.param


@pytest.fixture(scope="module")
def expected(folder) -> dict[str, np.ndarray]:
    with np.load(folder / "expected.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def sequences(folder):
    return dict(read_sequence(path) for path in files_by_name(folder).values())


@pytest.fixture(scope="module")
def folds(folder) -> dict[str, list[str]]:
    ids = json.loads((folder / "ids.json").read_text())
    return {name: ids[f"{name}_ids"] for name in ("train", "valid", "test")}


def word_aligned(sequences, collapse):
    features = {name: sequence for name, sequence in sequences.items() if name != LABELS}
    return impute(align(features, WORDS, collapse, prefix_bug=True), WORDS)


def final_aligned(sequences, collapse):
    words = word_aligned(sequences, collapse)
    return hard_unify(align({**words, LABELS: sequences[LABELS]}, LABELS, prefix_bug=True))


def compare(dataset, expected, prefix):
    wanted = {key.split("|", 1)[1]: value for key, value in expected.items() if key.startswith(f"{prefix}|")}
    assert wanted
    found = {
        f"{name}|{entry}|{part}": getattr(value, part)
        for name, sequence in dataset.items()
        for entry, value in sequence.items()
        for part in ("intervals", "features")
    }
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.parametrize(("prefix", "collapse"), [("word_aligned", None), ("avg_word_aligned", [average])])
def test_word_alignment(sequences, expected, prefix, collapse):
    compare(word_aligned(sequences, collapse), expected, prefix)


@pytest.mark.parametrize(("prefix", "collapse"), [("final_aligned", None), ("avg_final_aligned", [average])])
def test_label_alignment(sequences, expected, prefix, collapse):
    compare(final_aligned(sequences, collapse), expected, prefix)


def test_tensors(sequences, expected, folds):
    """Every `[avg_]tensors<length>[_fromdisk]` that the golden file holds."""
    wanted = {key: value for key, value in expected.items() if TENSORS.match(key)}
    assert wanted
    for key, value in wanted.items():
        prefix, fold, name = key.split("|")
        averaged, length, from_disk = TENSORS.match(prefix).groups()
        aligned = final_aligned(sequences, [average] if averaged else None)
        if from_disk:  # files are read again in the order of their ids as strings
            aligned = {name: dict(sorted(sequence.items())) for name, sequence in aligned.items()}
        found = get_tensors(aligned, int(length), [LABELS], folds)[fold][name]
        np.testing.assert_array_equal(found, value, err_msg=key)


def test_feature_matrix(sequences, expected, folds):
    tensors = get_tensors(final_aligned(sequences, None), 20, [LABELS], folds)
    for fold, key in (("train", "train"), ("valid", "val"), ("test", "test")):
        part = tensors[fold]
        matrix = np.concatenate([part["COVAREP"], part[WORDS], part["FACET 4.2"]], axis=-1)
        np.testing.assert_array_equal(matrix, expected[f"feature_matrix|x_{key}"])
        np.testing.assert_array_equal(part[LABELS], expected[f"feature_matrix|y_{key}"])


def test_unify_and_its_published_bug(sequences, folder):
    ids = json.loads((folder / "ids.json").read_text())
    kept = {name: set(sequence) for name, sequence in unify(sequences).items()}
    assert all(not set(ids["dropped_by_unify"]) & videos for videos in kept.values())
    entry = next(iter(sequences[WORDS].values()))
    dataset = {"a": {"25522": entry, "255224": entry}, "b": {"255224": entry}}
    assert set(unify(dataset)["a"]) == {"255224"}
    assert set(unify(dataset, reference=True)["a"]) == set()
