"""MMSA pickles: the golden loader's tensors, all the shapes in which such files go around, and what can be wrong."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest

from demeanor.corpora.base import Corpus
from demeanor.corpora.mmsa_pickle import PUBLISHED_SHA1, MmsaPickleReader, MmsaPickleSettings
from demeanor.data.errors import InputError
from tests.parity.golden import golden_file

COUNTS = {"train": 5, "valid": 2, "test": 3}
LENGTH, FRAMES, IMAGES = 6, 9, 7
FEATURES = ("audio", "vision", "text", "text_bert")


def toy(aligned=False, sims=False) -> dict:
    generator = np.random.default_rng(0)
    content = {}
    for split, count in COUNTS.items():
        tokens = generator.integers(3, LENGTH + 1, count)
        mask = (np.arange(LENGTH)[None] < tokens[:, None]).astype(np.int64)
        steps = LENGTH if aligned else FRAMES
        part = {
            "id": [f"{split}vid{n // 2}$_${10 - n}" for n in range(count)],
            "raw_text": [f"words of {split} {n}" for n in range(count)],
            "text": generator.normal(size=(count, LENGTH, 4)).astype(np.float32),
            "text_bert": np.stack([generator.integers(5, 99, (count, LENGTH)) * mask, mask, mask * 0], axis=1),
            "audio": generator.normal(size=(count, steps, 5)),
            "vision": generator.normal(size=(count, LENGTH if aligned else IMAGES, 20)),
            "annotations": ["Neutral"] * count,
            "classification_labels": np.ones(count),
            "regression_labels": np.linspace(-1, 1, count),
        }
        if not aligned:
            part["audio_lengths"] = generator.integers(1, FRAMES + 1, count).tolist()
            part["vision_lengths"] = generator.integers(1, IMAGES + 1, count)
        if sims:
            part |= {
                f"regression_labels_{key}": np.full(count, value)
                for key, value in {"T": 0.2, "A": 0.4, "V": -0.6}.items()
            }
        content[split] = part
    return content


def read(tmp_path, content, protocol=4, **settings) -> Corpus:
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return MmsaPickleReader().read(MmsaPickleSettings(path=path, **settings), tmp_path / "out")


def kinds(corpus: Corpus) -> set[str]:
    return {finding.kind for finding in corpus.findings}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_unaligned(tmp_path, protocol):
    content = toy(sims=True)
    corpus = read(tmp_path, content, protocol)
    table = corpus.utterances
    assert corpus.counts == COUNTS
    assert table["utterance_id"].tolist()[:2] == ["trainvid0_10", "trainvid0_9"]
    assert table["turn"].tolist()[:2] == [1, 0]
    assert table["text"].iloc[0] == "words of train 0"
    assert table["sentiment"].tolist()[:5] == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert (table["sentiment_audio"] == 0.4).all()
    assert set(corpus.streams) == {"text.tokens", "text.words", "audio.frames", "vision.frames"}
    row = 0
    for part in content.values():
        for n in range(len(part["id"])):
            name = table["utterance_id"].iloc[row]
            length = part["audio_lengths"][n]
            np.testing.assert_array_equal(
                corpus.streams["audio.frames"].ragged[name], part["audio"][n, :length].astype(np.float32)
            )
            tokens = int(part["text_bert"][n, 1].sum())
            np.testing.assert_array_equal(
                corpus.streams["text.tokens"].ragged[name][:, 0], part["text_bert"][n, 0, :tokens]
            )
            np.testing.assert_array_equal(corpus.streams["text.words"].ragged[name], part["text"][n, :tokens])
            row += 1
    assert not any(stream.provenance.recomputable for stream in corpus.streams.values())
    assert all(stream.path is not None for stream in corpus.streams.values())


def test_aligned_files_take_the_text_length(tmp_path):
    content = toy(aligned=True)
    corpus = read(tmp_path, content)
    lengths = corpus.streams["text.tokens"].ragged.lengths
    for name in ("audio.frames", "vision.frames"):
        assert corpus.streams[name].ragged.lengths.tolist() == lengths.tolist()
        assert corpus.streams[name].provenance.parameters["aligned"] is True


def test_without_token_triples_padding_ends_at_the_last_row_that_is_not_zero(tmp_path):
    content = toy(aligned=True)
    for part in content.values():
        del part["text_bert"]
        part["audio"][:, 4:] = 0
    corpus = read(tmp_path, content)
    assert "text.tokens" not in corpus.streams
    assert corpus.streams["audio.frames"].ragged.lengths.tolist() == [4] * 10


def test_padding_may_be_kept(tmp_path):
    corpus = read(tmp_path, toy(), padding="keep")
    assert set(corpus.streams["audio.frames"].ragged.lengths) == {FRAMES}
    assert set(corpus.streams["text.tokens"].ragged.lengths) == {LENGTH}


def test_lists_object_arrays_and_turned_triples(tmp_path):
    plain = read(tmp_path, toy())
    content = toy()
    for part in content.values():
        part["audio"] = part["audio"].tolist()
        boxed = np.empty(len(part["vision"]), dtype=object)
        for n, value in enumerate(part["vision"]):
            boxed[n] = value
        part["vision"] = boxed
        part["text_bert"] = np.ascontiguousarray(part["text_bert"].transpose(0, 2, 1)).astype(np.float64)
        part["id"] = np.array(part["id"])
        part["regression_labels"] = part["regression_labels"][:, None].tolist()
    corpus = read(tmp_path, content)
    for name, stream in plain.streams.items():
        np.testing.assert_array_equal(np.asarray(stream.ragged.values), np.asarray(corpus.streams[name].ragged.values))
    assert "turned_tokens" in kinds(corpus)
    assert corpus.utterances["sentiment"].tolist() == plain.utterances["sentiment"].tolist()


@pytest.mark.parametrize(("how", "left"), [("zero", 0), ("reference", 3), ("keep", 4)])
def test_values_that_are_not_finite(tmp_path, how, left):
    content = toy()
    content["train"]["audio"][0, 0, :3] = [-np.inf, np.inf, np.nan]
    content["train"]["vision"][0, 0, 0] = -np.inf
    corpus = read(tmp_path, content, non_finite=how)
    found = sum(int((~np.isfinite(corpus.streams[name].ragged.values)).sum()) for name in corpus.streams)
    assert found == left
    assert ("repaired" in kinds(corpus)) is (how != "keep")


def test_golden_loader(tmp_path):
    """Self-MM's loader, docs/systems/self_mm.md#cleaning, #loader: what it hands to a model."""
    expected = np.load(golden_file("self_mm", "data_tiny_expected.npz"))
    settings = MmsaPickleSettings(
        path=golden_file("self_mm", "data_tiny_unaligned.pkl"), name="tiny", padding="keep", non_finite="reference"
    )
    corpus = MmsaPickleReader().read(settings, tmp_path)
    ids = corpus.utterances.loc[corpus.utterances["split"] == "train", "utterance_id"]
    streams = {name: stream.select(ids).ragged for name, stream in corpus.streams.items()}
    for name, key in (("audio.frames", "audio"), ("vision.frames", "vision")):
        for variant in ("plain_bert", "plain_text"):
            np.testing.assert_array_equal(np.stack(list(streams[name])), expected[f"{variant}_{key}"])
    np.testing.assert_array_equal(np.stack(list(streams["text.words"])), expected["plain_text_text"])
    tokens = np.stack(list(streams["text.tokens"]))[..., 0]
    np.testing.assert_array_equal(tokens, expected["plain_bert_text"][:, 0])
    train = corpus.utterances[corpus.utterances["split"] == "train"]
    for column, key in zip(("sentiment", "sentiment_text", "sentiment_audio", "sentiment_vision"), "MTAV", strict=True):
        np.testing.assert_allclose(train[column], expected[f"plain_bert_label_{key}"][:, 0], rtol=1e-6)
    trimmed = MmsaPickleReader().read(settings.model_copy(update={"padding": "trim"}), tmp_path / "trimmed")
    for name, key in (("audio.frames", "audio"), ("vision.frames", "vision")):
        lengths = trimmed.streams[name].select(ids).ragged.lengths
        assert lengths.tolist() == expected[f"plain_bert_{key}_lengths"].tolist()


def test_hash(tmp_path, monkeypatch):
    corpus = read(tmp_path, toy(), corpus="mosi")
    message = next(finding.message for finding in corpus.findings if finding.kind == "other_file")
    assert PUBLISHED_SHA1["mosi", "unaligned"] in message
    assert "train has 5 utterances instead of 1284" in message
    assert "other_file" not in kinds(read(tmp_path, toy(), corpus="mosi", check_hash=False))
    digest = hashlib.sha1((tmp_path / "file.pkl").read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLISHED_SHA1, ("mosi", "unaligned"), digest)
    assert "other_file" not in kinds(read(tmp_path, toy(), corpus="mosi"))


def change(part, key, value):
    part[key] = value


MUTATIONS = {
    "no valid": (lambda c: c.pop("valid"), "no split 'valid'"),
    "split is a list": (lambda c: change(c, "train", []), "split 'train' is a list"),
    "no labels": (lambda c: c["train"].pop("regression_labels"), "no column 'regression_labels'"),
    "no id": (lambda c: c["test"].pop("id"), "no column 'id'"),
    "nan label": (lambda c: change(c["train"], "regression_labels", np.full(5, np.nan)), "5 labels are NaN"),
    "range": (lambda c: change(c["train"], "regression_labels", np.full(5, 9.0)), "outside \\[-3, 3\\]"),
    "infinite label": (lambda c: change(c["train"], "regression_labels", np.full(5, np.inf)), "outside"),
    "short audio": (lambda c: change(c["train"], "audio", c["train"]["audio"][:3]), "differ in length"),
    "flat audio": (lambda c: change(c["train"], "audio", np.zeros(5)), "expected \\[utterances"),
    "text as audio": (lambda c: change(c["train"], "audio", np.array(["a"] * 5)), "instead of numbers"),
    "ragged lists": (lambda c: change(c["train"], "audio", [[1.0], [1.0, 2.0], [], [], []]), "different length"),
    "widths": (lambda c: change(c["valid"], "audio", np.zeros((2, 9, 4))), "different number of columns"),
    "no audio in test": (lambda c: c["test"].pop("audio"), "hold different features"),
    "negative length": (lambda c: change(c["train"], "audio_lengths", [-1] * 5), "negative"),
    "few lengths": (lambda c: change(c["train"], "audio_lengths", [1]), "1 lengths for 5"),
    "text as length": (lambda c: change(c["train"], "audio_lengths", ["x"] * 5), "no number"),
    "repeated ids": (lambda c: change(c["train"], "id", ["a$_$1"] * 5), "more than once"),
    "unsafe ids": (lambda c: change(c["train"], "id", [f"../../etc$_${n}" for n in range(5)]), "no names"),
    "ids are dicts": (lambda c: change(c["train"], "id", [{}] * 5), "instead of a string"),
    "flat tokens": (lambda c: change(c["train"], "text_bert", c["train"]["text_bert"][:, 0]), "expected \\[utterances"),
    "four rows of tokens": (lambda c: change(c["train"], "text_bert", np.ones((5, 4, 7))), "3, length"),
    "mask before ids": (
        lambda c: change(c["train"], "text_bert", np.asarray(c["train"]["text_bert"])[:, [1, 0, 2]]),
        "ids, mask and segments",
    ),
    "no feature": (lambda c: [p.pop(k) for p in c.values() for k in FEATURES], "there is no feature"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_problems(tmp_path, name):
    content = toy()
    mutate, message = MUTATIONS[name]
    mutate(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path, content)
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_swapped_lengths_are_cut_and_reported(tmp_path):
    content = toy()
    content["train"]["vision_lengths"] = [FRAMES] * 5
    corpus = read(tmp_path, content)
    assert "long_lengths" in kinds(corpus)
    assert corpus.streams["vision.frames"].ragged.lengths.max() == IMAGES


def test_streams_of_an_earlier_run_go_away(tmp_path):
    read(tmp_path, toy())
    read(tmp_path, toy(), text_states=False)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "text.tokens.safetensors", "audio.frames.safetensors", "vision.frames.safetensors"
    }  # fmt: skip
