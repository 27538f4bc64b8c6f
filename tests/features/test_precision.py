"""Streams stored in half precision, the bfloat16 of encoders, and what a stream would take on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.data.ragged import Ragged
from demeanor.data.safetensors_header import read_header
from demeanor.features import extractor_from, find_extractor
from demeanor.features.base import Clip
from demeanor.features.engine import StreamRequest, build_all, extract_streams
from demeanor.features.sizes import require_room
from tests.features.media_samples import voice

SETTINGS = {"log_mel": 8, "mfcc": 0, "chroma": False, "spectral": True, "pitch": False}
WHOLE = StreamRequest(extractor="librosa_frames", parameters=SETTINGS)
HALF = StreamRequest(extractor="librosa_frames", parameters=SETTINGS, precision="float16")


def clips(count: int = 3) -> list[Clip]:
    return [Clip(f"u{n}", recorded=(voice(0.5, pitch=100 + 20 * n) * 32767).astype(np.int16)) for n in range(count)]


def test_a_stream_in_half_precision_takes_half_the_disk_and_is_read_as_float32(tmp_path: Path):
    requests = {"audio.frames": WHOLE, "audio.half": HALF}
    made, aside = extract_streams(clips(), requests, tmp_path / "cache", tmp_path / "out", workers=1, progress=False)
    assert aside.empty
    whole, half = made["audio.frames"], made["audio.half"]
    types = {name: read_header(tmp_path / "out" / f"{name}.safetensors")[0]["values"]["dtype"] for name in made}
    assert types == {"audio.frames": "F32", "audio.half": "F16"}
    assert half.provenance.parameters["stored"] == "float16"
    assert "stored" not in whole.provenance.parameters
    assert half.provenance.fingerprint != whole.provenance.fingerprint
    values, _ = half.ragged.gather([0, 1])
    for read in (half.ragged["u0"], values):
        assert read.dtype == half.ragged.dtype == np.float32
    np.testing.assert_allclose(half.ragged["u1"], whole.ragged["u1"], rtol=1e-3, atol=1e-6)
    # Who answers for a recording gives a model what it was trained on.
    again = extractor_from(half.provenance)
    np.testing.assert_array_equal(again.as_stored(again.extract_clip(clips()[2])), half.ragged["u2"])
    half.save(tmp_path / "copy.safetensors")
    assert (tmp_path / "copy.safetensors").stat().st_size == (tmp_path / "out/audio.half.safetensors").stat().st_size
    np.testing.assert_array_equal(Ragged.load(tmp_path / "copy.safetensors")["u2"], half.ragged["u2"])


def test_what_half_precision_does_not_hold_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from demeanor.features.spectral import LibrosaFrames

    plain = LibrosaFrames.extract_clip

    def louder(self: LibrosaFrames, clip: Clip) -> np.ndarray:
        return plain(self, clip) * (1e6 if clip.utterance_id == "u1" else 1)

    monkeypatch.setattr(LibrosaFrames, "extract_clip", louder)
    made, aside = extract_streams(
        clips(), {"audio.half": HALF}, tmp_path / "c", tmp_path / "o", workers=1, progress=False
    )
    assert list(aside["utterance_id"]) == ["u1"]
    assert "more than float16 holds" in aside["reason"][0]
    assert (made["audio.half"].ragged.lengths > 0).tolist() == [True, False, True]
    with pytest.raises(InputError, match="whole numbers"):
        find_extractor("hf_tokens", {"stored": "float16"})
    with pytest.raises(InputError, match="float32 or float16"):
        find_extractor("hf_sentence", {"stored": "float8"})


def test_a_stream_larger_than_is_wanted_is_refused_before_it_is_made():
    makers = build_all({"audio.frames": WHOLE, "audio.half": HALF})
    seconds = 100 * 3600.0
    each = 100 * seconds * makers["audio.frames"].dimension / 2**30
    require_room(makers, seconds, most_gib=4 * each)
    with pytest.raises(InputError) as caught:
        require_room(makers, seconds, most_gib=3 * each)
    assert len(caught.value.problems) == 1
    assert "stream 'audio.frames': 21 numbers 100 times a second of 100 hours" in caught.value.problems[0]
    assert "librosa_functionals makes one step a clip" in str(caught.value)
