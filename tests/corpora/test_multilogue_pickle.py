"""Multilogue-Net's 9-tuples: the golden data set against its collated batches, and what can be wrong."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from demeanor.corpora.multilogue_pickle import MultiloguePickleReader, MultiloguePickleSettings
from demeanor.data.errors import InputError
from tests.parity.golden import cases


@pytest.mark.parametrize("path", cases("multilogue_net", "pipeline_*.pkl"))
def test_golden_batches(tmp_path, path):
    """What the reference's loader collates is what the streams hold, utterance by utterance."""
    stored = np.load(path.with_suffix(".npz"))
    target = "sentiment" if "regression" in path.stem else "polarity"
    corpus = MultiloguePickleReader().read(MultiloguePickleSettings(path=path, target=target), tmp_path)
    table = corpus.utterances
    streams = {"text": "text.sentence", "visual": "vision.functionals", "audio": "audio.functionals"}
    for split in ("train", "test"):
        videos = [str(name) for name in stored[f"{split}_ids"]]
        assert table.loc[table["split"] == split, "dialogue"].unique().tolist() == videos
        seen = batch = 0
        while f"batch/{split}/{batch}/umask" in stored:
            prefix = f"batch/{split}/{batch}"
            batch += 1
            for column, mask in enumerate(stored[f"{prefix}/umask"]):
                part = table[table["dialogue"] == videos[seen]].sort_values("turn")
                length = int(mask.sum())
                assert len(part) == length
                for key, name in streams.items():
                    found = np.concatenate([corpus.streams[name].ragged[i] for i in part["utterance_id"]])
                    np.testing.assert_array_equal(found, stored[f"{prefix}/{key}"][:length, column])
                labels = part["sentiment"] if target == "sentiment" else part["polarity"] == "positive"
                np.testing.assert_allclose(labels.astype(float), stored[f"{prefix}/label"][column, :length], rtol=1e-6)
                first = part["speaker"].isin(["M", "user"]).to_numpy()
                np.testing.assert_array_equal(first, stored[f"{prefix}/qmask"][:length, column, 0] == 1)
                seen += 1
        assert seen == len(videos)


def toy() -> list:
    generator = np.random.default_rng(0)
    lengths = {"a": 3, "b": 1, "c": 2}
    features = [{video: generator.random((n, width)) for video, n in lengths.items()} for width in (300, 384, 35)]
    return [
        list(lengths), {video: ["M", "F", "M"][:n] for video, n in lengths.items()},
        {video: [1, 0, 1][:n] for video, n in lengths.items()}, *features,
        {video: ["caf\xc3\xa9", "no", "yes"][:n] for video, n in lengths.items()}, ["a", "b"], ["c"],
    ]  # fmt: skip


def read(tmp_path, content, **settings):
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    return MultiloguePickleReader().read(MultiloguePickleSettings(path=path, **settings), tmp_path / "out")


def test_toy(tmp_path):
    corpus = read(tmp_path, tuple(toy()), target="happiness")
    assert corpus.counts == {"train": 4, "valid": 0, "test": 2}
    assert corpus.utterances["emotion_happiness"].tolist() == [1.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    assert corpus.utterances["text"].iloc[0] == "café"
    assert {finding.kind for finding in corpus.findings} == {"no_valid"}


def replaced(number, value):
    content = toy()
    content[number] = value
    return tuple(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": 1}, "expected a tuple of 9 parts"),
        (tuple(toy()[:7]), "found 7 parts"),
        (replaced(1, ["M"]), "speakers is a list"),
        (replaced(4, {"a": np.zeros((3, 384))}), "audio_feat lacks 2 videos"),
        (replaced(4, {v: np.zeros((5, 384)) for v in "abc"}), "differ in length"),
        (replaced(4, {"a": np.zeros((3, 4)), "b": np.zeros((1, 5)), "c": np.zeros((2, 4))}), "different width"),
        (replaced(4, {v: np.zeros(3) for v in "abc"}), "must be \\[utterances"),
        (replaced(2, {"a": [1, 0, 2], "b": [1], "c": [0, 1]}), "neither 0 nor 1"),
        (replaced(2, {"a": [1, 0, np.nan], "b": [1], "c": [0, 1]}), "NaN or infinite"),
        (replaced(7, []), "names no video"),
        (replaced(7, ["a", "c"]), "train and test"),
        (replaced(7, ["../x"]), "leads out of"),
    ],
)
def test_problems(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, content, target="polarity")
    assert not (tmp_path / "out").exists()
