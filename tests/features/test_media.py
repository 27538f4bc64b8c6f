from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demeanor.features.media import MediaError, decode_frames, probe
from demeanor.features.sound import decode_audio, stream_audio
from tests.features.media_samples import faces, voice, write_recording


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [
        (".wav", "pcm_s16le", 16_000), (".wav", "pcm_u8", 16_000), (".wav", "pcm_f32le", 48_000),
        (".flac", "flac", 44_100), (".ogg", "libopus", 48_000), (".mp3", "libmp3lame", 44_100),
        (".m4a", "aac", 48_000), (".opus", "libopus", 48_000), (".mka", "aac", 22_050),
    ],
)  # fmt: skip
def test_audio_of_every_kind_is_the_same_voice(tmp_path: Path, suffix: str, codec: str, rate: int):
    expected = voice(1.5)
    path = write_recording(tmp_path / f"a{suffix}", voice(1.5, rate), rate=rate, audio_codec=codec)
    samples = decode_audio(path)
    assert samples is not None
    assert samples.dtype == np.float32
    assert abs(len(samples) - len(expected)) < 0.15 * 16_000
    shared = min(len(samples), len(expected))
    lags = np.correlate(samples[4000 : shared - 4000], expected[4000 - 800 : shared - 4000 + 800], mode="valid")
    scale = np.linalg.norm(samples[4000 : shared - 4000]) * np.linalg.norm(expected[4000 : shared - 4000])
    assert lags.max() / scale > 0.98


def test_stereo_becomes_the_mean_of_its_channels(tmp_path: Path):
    left, right = voice(0.5), 0.2 * voice(0.5, pitch=90)
    path = write_recording(tmp_path / "s.wav", np.stack([left, right], axis=1), audio_codec="pcm_s16le")
    np.testing.assert_allclose(decode_audio(path), (left + right) / 2, atol=2e-4)


def test_a_span_is_the_part_of_the_whole(tmp_path: Path):
    path = write_recording(tmp_path / "v.mp4", voice(6.0), faces(60))
    whole, span = decode_audio(path), decode_audio(path, 3.2, 4.7)
    assert len(span) == 24_000
    np.testing.assert_allclose(span, whole[51_200:75_200], atol=1e-4)
    frames, part = list(decode_frames(path)), list(decode_frames(path, 3.2, 4.7))
    assert len(part) == 15
    for (_, mine), (_, theirs) in zip(part, frames[32:47], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_content_in_memory_reads_as_the_file_does(tmp_path: Path):
    path = write_recording(tmp_path / "v.mp4", voice(1.0), faces(10))
    np.testing.assert_array_equal(decode_audio(path), decode_audio(path.read_bytes()))
    assert probe(path) == probe(path.read_bytes())


def test_absent_tracks_are_absent(tmp_path: Path):
    silent_film = write_recording(tmp_path / "film.mp4", None, faces(10))
    radio = write_recording(tmp_path / "radio.m4a", voice(1.0))
    assert decode_audio(silent_film) is None
    assert list(decode_frames(radio)) == []
    assert not probe(silent_film).has_audio
    assert not probe(radio).has_video


def test_frames_at_a_rate_follow_the_clock_even_where_the_recording_does_not(tmp_path: Path):
    times = [0.0, 0.05, 0.1, 0.5, 0.55, 1.2, 1.3, 1.9]
    images = [np.full((64, 64, 3), 20 + 25 * n, np.uint8) for n in range(8)]
    path = write_recording(tmp_path / "vfr.mkv", None, images, times=times)
    found = list(decode_frames(path, rate=5))
    assert [time for time, _ in found] == pytest.approx([0.2 * k for k in range(len(found))])
    shown = [round((float(image.mean()) - 20) / 25) for _, image in found]
    assert shown[:9] == [0, 2, 2, 4, 4, 4, 5, 6, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"this is a text that calls itself a film\n" * 50, "not a readable recording")],
)
def test_what_is_no_recording_says_so(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    for read in (probe, decode_audio, lambda p: list(decode_frames(p))):
        with pytest.raises(MediaError, match=message):
            read(path)
    with pytest.raises(MediaError, match="no such file"):
        decode_audio(tmp_path / "nowhere.mp4")


def test_a_recording_cut_short_is_an_error_and_noise_inside_is_not_a_crash(tmp_path: Path):
    path = write_recording(tmp_path / "v.mkv", voice(6.0), faces(60))
    content = path.read_bytes()
    with pytest.raises(MediaError, match=r"damaged|could be decoded|not a readable"):
        decode_audio(content[: len(content) // 4])
    generator = np.random.default_rng(0)
    damaged = bytearray(content)
    for place in generator.integers(2000, len(content), 200):
        damaged[place] = int(generator.integers(256))
    try:
        samples = decode_audio(bytes(damaged))
    except MediaError:
        samples = None
    assert samples is None or np.isfinite(samples).all()


def test_long_audio_comes_in_small_blocks(tmp_path: Path):
    path = write_recording(tmp_path / "long.flac", voice(60.0), audio_codec="flac")
    blocks = [len(block) for _, block in stream_audio(path)]
    assert sum(blocks) == 960_000
    assert max(blocks) <= 65_536
