"""The doctor finds what was planted, and nothing in a sound corpus."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from demeanor.corpora.base import Card, Corpus
from demeanor.corpora.doctor import DoctorSettings, Report, examine, require_share
from demeanor.data.errors import InputError
from demeanor.data.media import MediaProbe
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.utterances import make_table

SOUND = MediaProbe(duration=2.0, has_audio=True, has_video=True, silent=False, face=True)
SPLITS = ("train", "train", "train", "valid", "test", "test")


def make_corpus(root: Path, changes=None, streams=None, published=None) -> Corpus:
    rows = []
    for n, split in enumerate(SPLITS):
        path = root / f"{n}.mp4"
        path.write_bytes(bytes([n]) * 100)
        row = {
            "utterance_id": f"u{n}", "corpus": "toy", "split": split, "dialogue": f"d{n}", "turn": 0, "start": 0.0,
            "speaker": f"s{n}", "text": f"this is sentence number {n}", "media": path.name,
            "sentiment": float(n - 3), "emotion": "joy" if n % 2 else "anger",
        }  # fmt: skip
        rows.append(row | (changes or {}).get(n, {}))
    card = Card("Toy", "none", "nobody", published or {"train": 3, "valid": 1, "test": 2})
    return Corpus("toy", make_table(rows), root, card, streams or {})


def probes(**changes: MediaProbe) -> dict[str, MediaProbe]:
    return {f"u{n}": SOUND for n in range(len(SPLITS))} | changes


def kinds(report: Report) -> dict[str, int]:
    return {finding.kind: finding.count for finding in report.findings}


def test_a_sound_corpus_has_no_findings(tmp_path):
    report = examine(make_corpus(tmp_path), probes=probes())
    assert kinds(report) == {}
    assert report.set_aside == {}
    assert report.counts == {"train": 3, "valid": 1, "test": 2}
    assert report.histogram["emotion"]["train"] == {"anger": 2, "joy": 1}
    assert report.histogram["sentiment"]["test"] == {"-3": 0, "-2": 0, "-1": 0, "0": 0, "1": 1, "2": 1}
    assert "Nothing to remark" in report.to_markdown()
    require_share(report, 0.0)


def test_recordings_that_this_user_may_not_open_are_set_aside(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """One in a folder that is closed, one whose content is; made here, because to root nothing is forbidden."""
    corpus = make_corpus(tmp_path)
    refused, ask = tmp_path / "0.mp4", Path.is_file

    def is_file(path: Path) -> bool:
        if path == refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return ask(path)

    def hashed(path: Path) -> str:
        if path.name == "1.mp4":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return path.name

    monkeypatch.setattr(Path, "is_file", is_file)
    monkeypatch.setattr("demeanor.corpora.duplicates.sha256_of_file", hashed)
    report = examine(corpus, probes=probes(u1=MediaProbe(error="Permission denied")))
    assert report.set_aside == {
        "u0": "recording cannot be opened (Permission denied)",
        "u1": "recording cannot be decoded (Permission denied)",
    }


def test_media(tmp_path):
    corpus = make_corpus(tmp_path)
    (tmp_path / "0.mp4").unlink()
    (tmp_path / "1.mp4").write_bytes(b"")
    seen = probes(
        u2=MediaProbe(error="moov atom not found"),
        u3=MediaProbe(2.0, True, True, silent=True, face=False),
        u4=MediaProbe(2.0, False, True, face=True),
        u5=MediaProbe(0.01, True, False, silent=False),
    )
    report = examine(corpus, probes=seen)
    assert report.set_aside == {
        "u0": "recording is missing",
        "u1": "recording is an empty file",
        "u2": "recording cannot be decoded (moov atom not found)",
    }
    found = kinds(report)
    assert found["missing_media"] == found["silent_audio"] == found["no_face"] == 1
    assert found["undecodable_media"] == 1
    assert found["no_audio_track"] == found["no_video_track"] == found["short_media"] == 1
    assert report.findings[0].severity == "error"
    with pytest.raises(InputError, match="3 of 6 utterances") as caught:
        require_share(report, 0.05)
    assert len(caught.value.problems) == 3
    require_share(report, 0.5)


def test_what_probing_remarked_is_told_and_costs_no_utterance(tmp_path):
    seen = probes(
        u0=MediaProbe(2.0, False, True, face=True, broken={"audio": "damaged, only 0 frames"}),
        u1=MediaProbe(2.0, True, True, silent=False, face=True, tracks=("audio track 1 'Desktop'",)),
        u2=MediaProbe(2.0, True, True, silent=False, face=True, remarks=("cancelling_channels", "sound_gaps")),
        u3=MediaProbe(2.0, True, True, silent=False, face=True, remarks=("sound_ends_early", "mixed_sound_formats")),
    )
    report = examine(make_corpus(tmp_path), probes=seen)
    assert report.set_aside == {}
    assert kinds(report) == {
        "broken_audio": 1, "several_tracks": 1, "cancelling_channels": 1, "sound_gaps": 1, "sound_ends_early": 1,
        "mixed_sound_formats": 1,
    }  # fmt: skip
    text = report.to_markdown()
    assert "u0 (damaged, only 0 frames)" in text
    assert "u1 (audio track 1 'Desktop')" in text


def test_speech_speed(tmp_path):
    seen = probes(u0=MediaProbe(100.0, True, True), u1=MediaProbe(0.2, True, True))
    assert kinds(examine(make_corpus(tmp_path), probes=seen)) == {"too_long": 1, "too_short": 1}
    spans = {0: {"start": 1.0, "end": 1.1}}
    assert kinds(examine(make_corpus(tmp_path, spans), probes=probes())) == {"too_short": 1}
    assert kinds(examine(make_corpus(tmp_path, spans), DoctorSettings(fastest=1000), probes())) == {}


def test_leakage_and_duplicates(tmp_path):
    changes = {
        4: {"speaker": "s0", "dialogue": "d0", "turn": 1, "text": "This is: sentence NUMBER 0!"},
        3: {"text": "thank you"},
        1: {"text": "Thank you."},
    }
    corpus = make_corpus(tmp_path, changes)
    (tmp_path / "5.mp4").write_bytes((tmp_path / "2.mp4").read_bytes())
    found = {finding.kind: finding for finding in examine(corpus, probes=probes()).findings}
    assert set(found) == {"speaker_leakage", "dialogue_leakage", "duplicate_text", "duplicate_media"}
    assert found["speaker_leakage"].examples == ("s0",)
    assert found["duplicate_text"].examples == ("u0 = u4",)
    assert found["duplicate_media"].examples == ("u2 = u5",)
    without = examine(corpus, DoctorSettings(hash_media=False), probes())
    assert "duplicate_media" not in kinds(without)


def test_counts_and_empty_split(tmp_path):
    report = examine(make_corpus(tmp_path, {3: {"split": "train"}}), probes=probes())
    assert set(kinds(report)) == {"counts", "empty_split"}
    assert "train: 4 here, 3 published" in report.to_markdown()


@pytest.mark.parametrize("stored", [True, False])
def test_streams(tmp_path, stored):
    generator = np.random.default_rng(0)
    sequences = {f"u{n}": generator.normal(size=(n + 2, 4)).astype(np.float32) for n in range(5)} | {
        "u5": np.zeros((0, 4), np.float32)
    }
    for values in sequences.values():
        values[:, 2] = 7.0
    sequences["u1"][0, 0] = np.nan
    sequences["u1"][1, 1] = -np.inf
    sequences["u4"] = sequences["u0"].copy()
    stream = Stream("audio.frames", Ragged.from_sequences(sequences), Provenance(extractor="toy", version="1"))
    if stored:
        stream.save(tmp_path / "audio.frames.safetensors")
        stream = Stream.load(tmp_path / "audio.frames.safetensors")
    report = examine(make_corpus(tmp_path, streams={stream.name: stream}), probes=probes())
    found = {finding.kind: finding for finding in report.findings}
    assert set(found) == {"not_finite", "zero_variance", "empty_sequences", "duplicate_audio.frames"}
    assert found["not_finite"].examples == ("u1",)
    assert "2 values" in found["not_finite"].message
    assert found["zero_variance"].examples == ("column 2",)
    assert found["empty_sequences"].examples == ("u5",)
    assert found["duplicate_audio.frames"].examples == ("u0 = u4",)
    assert report.streams["audio.frames"]["longest"] == 5


def test_report_is_plain_data(tmp_path):
    corpus = make_corpus(tmp_path)
    (tmp_path / "0.mp4").unlink()
    values = json.loads(json.dumps(examine(corpus, probes=probes()).to_json()))
    assert values["set_aside"] == {"u0": "recording is missing"}
    assert values["bad_share"] == pytest.approx(1 / 6)
    assert values["findings"][0]["kind"] == "missing_media"
