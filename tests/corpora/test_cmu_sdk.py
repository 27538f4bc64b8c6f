"""The reader of `.csd` folders: a toy folder written with h5py alone, the golden one, and damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from demeanor.corpora.cmu_sdk import CmuSdkReader, CmuSdkSettings, load_folds
from demeanor.data.errors import InputError
from tests.parity.golden import golden_file


def csd(path: Path, root: str, videos: dict, name: str | None = None) -> None:
    with h5py.File(path, "w") as handle:
        for video, (intervals, features) in videos.items():
            handle[f"{root}/data/{video}/intervals"] = np.asarray(intervals, dtype=np.float64)
            handle[f"{root}/data/{video}/features"] = features
        text = h5py.string_dtype()
        handle.create_dataset(f"{root}/metadata/root name", data=[json.dumps(name or root)], dtype=text)
        handle.create_dataset(f"{root}/metadata/creator", data=["not JSON"], dtype=text)


@pytest.fixture
def toy(tmp_path) -> Path:
    """Video v: four words of a second and one of no length, audio at 10 Hz; segment 0 holds two words, 1 the rest."""
    folder = tmp_path / "csd"
    folder.mkdir()
    words = [[0, 1], [1, 2], [2, 2], [2, 3], [3, 4]]
    frames = np.stack([np.arange(40) / 10, np.arange(1, 41) / 10], axis=1)
    audio = np.stack([np.arange(40.0), np.ones(40)], axis=1).astype(np.float32)
    audio[3, 0], audio[25, 0] = -np.inf, np.nan
    segments, labels = [[0, 2], [2, 4], [9, 10]], np.arange(21.0).reshape(3, 7) / 10
    other = ([[0, 1]], np.ones((1, 3), np.float32))
    csd(folder / "a.csd", "glove_vectors", {"v": (words, np.arange(15, dtype=np.float32).reshape(5, 3)), "w": other})
    csd(folder / "b.csd", "COVAREP", {"v": (frames, audio), "w": ([[0, 1]], np.ones((1, 2), np.float32))})
    csd(folder / "c.csd", "root", {"v": ([[0, 0.5]], np.full((1, 4), 7.0))}, name="FACET 4.2")
    spoken = np.array([b"well", b"sp", b"no", b"never", b"ever"])[:, None]
    csd(folder / "d.csd", "words", {"v": (words, spoken)})
    csd(folder / "e.csd", "All Labels", {"v": (segments, labels), "w": ([[0, 1]], np.zeros((1, 7)))})
    (tmp_path / "folds.json").write_text(json.dumps({"train": ["v"], "valid": ["w"], "test": ["x"]}))
    return folder


def read(folder: Path, **settings):
    options = {"folds": folder.parent / "folds.json", **settings}
    return CmuSdkReader().read(CmuSdkSettings(path=folder, **options), folder.parent / "out")


def test_average_over_words(toy):
    corpus = read(toy)
    table = corpus.utterances
    assert table["utterance_id"].tolist() == ["v[0]", "v[1]"]
    assert table["split"].tolist() == ["train", "train"]
    assert table["start"].tolist() == [0.0, 2.0]
    assert table["text"].tolist() == ["well", "never ever"]
    assert table["sentiment"].tolist() == [0.0, 0.7]
    assert table["emotion_fear"].tolist() == [0.6, 1.3]
    audio = corpus.streams["audio.frames"].ragged
    np.testing.assert_allclose(audio["v[0]"][:, 0], [np.delete(np.arange(10), 3).mean(), 14.5])
    np.testing.assert_allclose(audio["v[1]"][:, 0], [np.delete(np.arange(20, 30), 5).mean(), 34.5])
    np.testing.assert_array_equal(corpus.streams["vision.frames"].ragged["v[0]"], [[7] * 4, [0] * 4])
    np.testing.assert_array_equal(corpus.streams["text.words"].ragged["v[1]"], [[9, 10, 11], [12, 13, 14]])
    assert {finding.kind: finding.count for finding in corpus.findings} == {"incomplete_videos": 1, "no_words": 1}
    assert not corpus.streams["audio.frames"].provenance.recomputable


def test_frames_as_published(toy):
    corpus = read(toy, alignment="reference", non_finite="keep")
    audio = corpus.streams["audio.frames"].ragged
    assert audio.lengths.tolist() == [20, 20]
    assert np.isneginf(audio["v[0]"][3, 0])
    assert corpus.streams["text.words"].ragged.lengths.tolist() == [2, 2]
    assert corpus.streams["vision.frames"].ragged["v[0]"].tolist() == [[7] * 4, [0] * 4]


@pytest.mark.parametrize(("alignment", "prefix"), [("average", "avg_final_aligned"), ("reference", "final_aligned")])
def test_golden_toy(tmp_path, alignment, prefix):
    folder = golden_file("conv_autoencoder", "sdk_toy")
    ids = json.loads((folder / "ids.json").read_text())
    folds = {name: ids[f"{name}_ids"] for name in ("train", "valid", "test")}
    (tmp_path / "folds.json").write_text(json.dumps(folds))
    settings = CmuSdkSettings(
        path=folder, folds=tmp_path / "folds.json", alignment=alignment, non_finite="keep", prefix_bug=True
    )
    corpus = CmuSdkReader().read(settings, tmp_path / "out")
    expected = np.load(folder / "expected.npz")
    names = {"text.words": "glove_vectors", "audio.frames": "COVAREP", "vision.frames": "FACET 4.2"}
    videos = {video for fold in folds.values() for video in fold}
    kept = [
        entry for entry in (key.split("|")[2] for key in expected if key.startswith(f"{prefix}|All Labels|"))
        if entry.split("[")[0] in videos
    ]  # fmt: skip
    assert set(corpus.utterances["utterance_id"]) == set(kept)
    for stream, sequence in names.items():
        for entry in corpus.utterances["utterance_id"]:
            value = expected[f"{prefix}|{sequence}|{entry}|features"]
            np.testing.assert_allclose(corpus.streams[stream].ragged[entry], value, rtol=1e-6, atol=1e-6)


def test_standard_folds():
    folds = load_folds("mosei")
    assert {name: len(videos) for name, videos in folds.items()} == {"train": 2249, "valid": 300, "test": 678}
    stored = json.loads(golden_file("conv_autoencoder", "standard_folds.json").read_text())
    for corpus, key in (("mosei", "cmu_mosei"), ("mosi", "cmu_mosi"), ("pom", "pom")):
        assert load_folds(corpus) == stored[key]


def test_missing_sequences_are_listed(toy):
    (toy / "a.csd").unlink()
    (toy / "e.csd").unlink()
    with pytest.raises(InputError) as caught:
        read(toy, audio="COVARP")
    assert len(caught.value.problems) == 3
    assert "Did you mean 'COVAREP'" in str(caught.value)


def test_audio_and_vision_may_be_absent(toy):
    (toy / "b.csd").unlink()
    (toy / "c.csd").unlink()
    assert set(read(toy).streams) == {"text.words"}


def test_folds_that_overlap(toy):
    (toy.parent / "folds.json").write_text(json.dumps({"train": ["v"], "valid": ["v"], "test": []}))
    with pytest.raises(InputError, match="two folds"):
        read(toy)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_cut_files(toy, share):
    path = toy / "b.csd"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError):
        read(toy)
    assert not list((toy.parent / "out").glob("*"))


def test_wrong_content(toy):
    labels = np.arange(21.0).reshape(3, 7)
    for videos, message in (
        ({"v": ([[0, 1], [1, 2]], np.zeros((3, 7))), "w": ([[0, 1]], np.zeros((1, 7)))}, "3 rows of features for 2"),
        ({"v": ([0, 1], np.zeros((2, 7)))}, "intervals must be"),
        ({"v": ([[0, np.nan]], np.zeros((1, 7)))}, "NaN or infinite times"),
        ({"v": ([[0, 1]], np.array([[b"text"]]))}, "features are"),
        ({"v": ([[0, 2], [2, 4], [4, 5]], labels)}, "outside \\[-3, 3\\]|2 sentiment labels"),
        ({"x": ([[0, 2]], labels[:1])}, "no label segment"),
    ):
        csd(toy / "e.csd", "All Labels", videos)
        with pytest.raises(InputError, match=message):
            read(toy)
        assert not list((toy.parent / "out").glob("*"))
    with h5py.File(toy / "e.csd", "w") as handle:
        handle["x"] = [1]
    with pytest.raises(InputError, match="not a computational sequence"):
        read(toy)


def of_widths(folder: Path, widths: dict[str, int]) -> Path:
    """A folder whose COVAREP has so many columns for each video, all else alike."""
    folder.mkdir()
    one = [[0.0, 1.0]]
    csd(folder / "a.csd", "glove_vectors", {video: (one, np.ones((1, 3), np.float32)) for video in widths})
    csd(folder / "b.csd", "COVAREP", {video: (one, np.ones((1, w), np.float32)) for video, w in widths.items()})
    csd(folder / "e.csd", "All Labels", {video: (one, np.zeros((1, 7))) for video in widths})
    folds = {"train": sorted(widths), "valid": [], "test": []}
    (folder.parent / "folds.json").write_bytes(json.dumps(folds).encode("utf-16"))
    return folder


@pytest.mark.parametrize("alignment", ["average", "reference"])
def test_videos_of_a_rarer_width_are_left_out_and_counted(tmp_path, alignment):
    corpus = read(of_widths(tmp_path / "csd", {"a": 43, "b": 74, "c": 74, "d": 43, "e": 74}), alignment=alignment)
    assert corpus.utterances["dialogue"].tolist() == ["b", "c", "e"]
    assert corpus.streams["audio.frames"].dimension == 74
    (finding,) = [found for found in corpus.findings if found.kind == "other_width"]
    assert (finding.count, finding.examples) == (2, ("a", "d"))
    assert "COVAREP: 2 with 43 columns instead of 74" in finding.message


def test_a_width_that_is_none_of_most_videos_is_an_error(tmp_path):
    with pytest.raises(InputError, match="1 videos have 43 columns, 1 videos have 74 columns"):
        read(of_widths(tmp_path / "csd", {"a": 43, "b": 74}))
