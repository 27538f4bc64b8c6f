"""A recording is what its container says: how pictures are turned, where sound stands, which track, which channels."""

from __future__ import annotations

import errno
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest

from demeanor.features.media import MediaError, decode_frames, probe
from demeanor.features.painting import turned
from demeanor.features.sound import decode_audio, listen, stream_samples
from tests.features.media_samples import faces, surveyed, tone, voice, write_pieces, write_recording, write_tracks

RATE = 16_000


def quadrants(width: int = 96, height: int = 64) -> np.ndarray:
    """[height, width, 3]: bright in the top left quarter, grey in the top right one, dark below."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = 220, 120
    return image


def pitch(samples: np.ndarray, rate: int = RATE) -> float:
    """Of the strongest partial, Hz."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


@pytest.mark.parametrize(
    ("degrees", "mirrored", "stored"),
    [
        (90, {}, lambda image: np.rot90(image, -1)), (180, {}, lambda image: np.rot90(image, 2)),
        (270, {}, lambda image: np.rot90(image, 1)), (0, {"hflip": True}, lambda image: image[:, ::-1]),
        (0, {"vflip": True}, lambda image: image[::-1]), (90, {"hflip": True}, None),
    ],
)  # fmt: skip
def test_pictures_are_turned_and_mirrored_as_the_display_matrix_says(tmp_path: Path, degrees, mirrored, stored):
    upright = quadrants()
    if stored is None:  # shown: turned to the left first, then mirrored
        image, upright = upright, np.rot90(upright, 1)[:, ::-1]
    else:
        image = stored(upright)
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(degrees, **mirrored)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))
    shown = [picture for _, picture in decode_frames(path)]
    assert len(shown) == 3
    assert shown[0].shape == upright.shape
    assert np.abs(shown[0].astype(int) - upright).mean() < 4
    assert shown[0].flags.c_contiguous


def test_a_rotation_by_any_angle_keeps_the_whole_picture():
    angle = np.radians(30)
    shown = turned(quadrants(), (np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)))
    assert shown.shape[:2] == (round(96 * 0.5 + 64 * np.cos(angle)), round(96 * np.cos(angle) + 64 * 0.5))
    assert (shown > 170).mean() == pytest.approx(96 * 64 / 4 / (shown.shape[0] * shown.shape[1]), rel=0.05)
    smaller = turned(quadrants(), (np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)), 64)
    assert max(smaller.shape[:2]) == 64


def test_the_tag_rotate_stands_in_for_a_matrix(tmp_path: Path):
    image = np.rot90(quadrants(), 1)  # lies on its left; turned by 90 degrees clockwise it stands
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
        stream.metadata["rotate"] = "90"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))
    ((_, shown),) = decode_frames(path)
    assert np.abs(shown.astype(int) - quadrants()).mean() < 4


@pytest.mark.parametrize(("ratio", "size"), [(Fraction(4, 3), (64, 128)), (Fraction(1, 2), (128, 96)), (1, (64, 96))])
def test_pixels_are_made_square(tmp_path: Path, ratio: Fraction, size: tuple[int, int]):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(ratio)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(quadrants(), format="rgb24")))
        container.mux(stream.encode(None))
    ((_, shown),) = decode_frames(path)
    assert shown.shape[:2] == size
    ((_, shown),) = decode_frames(path, longest_side=48)
    assert max(shown.shape[:2]) == 48


def test_lost_sound_is_silence_and_what_follows_stays_in_its_place(tmp_path: Path):
    path = write_pieces(tmp_path / "v.mkv", [(0, tone(250, 1.0)), (2, tone(1000, 1.0))], codec="pcm_s16le")
    heard = listen(path)
    assert heard.samples is not None
    assert len(heard.samples) == pytest.approx(3 * RATE, abs=32)
    assert heard.remarks == ("sound_gaps",)
    assert pitch(heard.samples[:RATE]) == 250
    assert not heard.samples[RATE + 100 : 2 * RATE - 100].any()
    assert pitch(decode_audio(path, 2.0, 3.0)) == pytest.approx(1000, abs=2)
    between = decode_audio(path, 1.1, 1.9)
    assert len(between) == round(0.8 * RATE)
    assert not between.any()
    assert surveyed(path).remarks == ("sound_gaps",)


def retimed(path: Path, times: list[int]) -> bytes:
    """A Matroska file of 10 ms blocks, of one cluster, with other times (ms): no writer lets them go back or shake."""
    content = bytearray(path.read_bytes())
    mark, place = b"\xa3\x41\x44\x81", 0  # SimpleBlock, 324 bytes long, of track 1
    for time in times:
        place = content.index(mark, place) + len(mark)
        content[place : place + 2] = time.to_bytes(2, "big")
    return bytes(content)


def test_overlapping_sound_is_cut_off(tmp_path: Path):
    whole = np.concatenate([tone(250, 2.0), tone(1000, 1.5)])
    path = write_pieces(tmp_path / "v.mkv", [(0, whole)], codec="pcm_s16le")
    samples = decode_audio(retimed(path, [10 * n if n < 200 else 10 * n - 500 for n in range(350)]))
    assert len(samples) == pytest.approx(3 * RATE, abs=32)
    assert pitch(samples[: 2 * RATE]) == pytest.approx(250, abs=1)
    assert pitch(samples[2 * RATE + 160 :]) == pytest.approx(1000, abs=2)


def test_shaking_timestamps_leave_no_click(tmp_path: Path):
    sound = tone(250, 2.0)
    path = write_pieces(tmp_path / "v.mkv", [(0, sound)], codec="pcm_s16le")
    generator = np.random.default_rng(0)
    times = [0, *(10 * n + int(generator.integers(-25, 25)) for n in range(3, 200))]
    samples = decode_audio(retimed(path, [0, 10, 20, *times[1:]]))
    np.testing.assert_allclose(samples, decode_audio(path))


def test_a_clock_that_starts_again_goes_on(tmp_path: Path):
    first = write_pieces(tmp_path / "a.mkv", [(0, tone(250, 2.0))])
    second = write_pieces(tmp_path / "b.mkv", [(0, tone(1000, 1.0))])
    joined = tmp_path / "c.mkv"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    samples = decode_audio(joined)
    assert len(samples) == pytest.approx(3 * RATE, abs=200)
    assert pitch(samples[-RATE + 200 :]) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp3", "libmp3lame"), (".aac", "aac"), (".ogg", "flac")])
def test_the_sample_rate_and_the_channels_may_change(tmp_path: Path, suffix: str, codec: str):
    first = write_recording(tmp_path / f"a{suffix}", tone(250, 2.0, 44_100), rate=44_100, audio_codec=codec)
    stereo = np.repeat(tone(1000, 2.0, 48_000)[:, None], 2, axis=1)
    second = write_recording(tmp_path / f"b{suffix}", stereo, rate=48_000, audio_codec=codec)
    joined = tmp_path / f"c{suffix}"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    heard = listen(joined)
    assert heard.samples is not None
    assert heard.remarks == ("mixed_sound_formats",)
    assert len(heard.samples) == pytest.approx(4 * RATE, abs=0.2 * RATE)
    assert pitch(heard.samples[RATE // 2 : 3 * RATE // 2]) == pytest.approx(250, abs=2)
    assert pitch(heard.samples[5 * RATE // 2 : 7 * RATE // 2]) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_opus_that_is_joined_to_opus_of_other_channels_says_that_it_breaks_off(tmp_path: Path, order: str):
    stereo = np.repeat(tone(1000, 2.0, 48_000)[:, None], 2, axis=1)
    parts = {
        "a": write_recording(tmp_path / "a.ogg", tone(250, 2.0, 48_000), rate=48_000, audio_codec="libopus"),
        "b": write_recording(tmp_path / "b.ogg", stereo, rate=48_000, audio_codec="libopus"),
    }
    joined = tmp_path / "c.ogg"
    joined.write_bytes(b"".join(parts[name].read_bytes() for name in order))
    heard = listen(joined)
    assert heard.samples is not None
    assert len(heard.samples) == pytest.approx(2 * RATE, abs=0.1 * RATE)
    assert heard.remarks == ("sound_breaks_off",)
    twice = tmp_path / "d.ogg"
    twice.write_bytes(2 * parts["a"].read_bytes())
    again = listen(twice)
    assert (len(again.samples), again.remarks) == (pytest.approx(4 * RATE, abs=0.1 * RATE), ())


def test_the_default_track_is_taken_and_the_others_are_named(tmp_path: Path):
    path = write_tracks(
        tmp_path / "v.mkv",
        [("Desktop", False, 0 * tone(250, 1.0)), ("Microphone", True, tone(1000, 1.0)), (None, False, tone(500, 1.0))],
    )
    assert pitch(decode_audio(path)[:RATE]) == pytest.approx(1000, abs=2)
    assert probe(path).passed_over == ("audio track 0 'Desktop'", "audio track 2")


def test_a_voice_in_the_centre_of_surround_is_as_loud_as_alone(tmp_path: Path):
    sound = voice(1.0)
    for layout, centre, subwoofer in (("5.1", 2, 3), ("7.1", 2, 3), ("3.0", 2, None)):
        channels = np.zeros((len(sound), av.AudioLayout(layout).nb_channels), np.float32)
        channels[:, centre] = sound
        if subwoofer is not None:
            channels[:, subwoofer] = tone(60, 1.0)
        path = write_recording(tmp_path / f"{layout}.wav", channels, audio_codec="pcm_s16le", layout=layout)
        np.testing.assert_allclose(decode_audio(path), sound, atol=1e-3)
    left = np.zeros((len(sound), 6), np.float32)
    left[:, 0] = sound
    path = write_recording(tmp_path / "left.wav", left, audio_codec="pcm_s16le", layout="5.1")
    np.testing.assert_allclose(decode_audio(path), sound * np.sqrt(0.5), atol=1e-3)


def test_eight_channels_in_planes_are_read(tmp_path: Path):
    channels = np.zeros((48_000, 8), np.float32)
    channels[:, 2] = voice(1.0, 48_000)
    path = write_recording(tmp_path / "v.mka", channels, rate=48_000, audio_codec="aac", layout="7.1")
    samples, alone = decode_audio(path), voice(1.0)
    assert np.sqrt((samples**2).mean()) == pytest.approx(np.sqrt((alone**2).mean()), rel=0.1)


def test_channels_that_cancel_each_other_give_the_louder_one(tmp_path: Path):
    sound = voice(1.0)
    path = write_recording(tmp_path / "v.wav", np.stack([0.9 * sound, -sound], axis=1), audio_codec="pcm_s16le")
    heard = listen(path)
    assert heard.samples is not None
    np.testing.assert_allclose(heard.samples, -sound, atol=1e-3)
    assert heard.remarks == surveyed(path).remarks == ("cancelling_channels",)
    assert (surveyed(path).peak or 0.0) > 0.05


def rms(samples: np.ndarray | None) -> float:
    assert samples is not None
    return float(np.sqrt((samples**2).mean()))


def stereo(folder: Path, left: np.ndarray, right: np.ndarray, suffix: str = ".wav", codec: str = "pcm_s16le") -> Path:
    return write_recording(folder / f"s{suffix}", np.stack([left, right], axis=1), audio_codec=codec)


@pytest.mark.parametrize(("suffix", "codec"), [(".wav", "pcm_s16le"), (".m4a", "aac"), (".opus", "libopus")])
@pytest.mark.parametrize(
    ("strength", "inverted"), [(-0.5, (0, 4)), (-0.3, (0, 4)), (-1, (0, 1)), (-1, (3, 4)), (-0.8, (1.5, 2.2))]
)  # fmt: skip
def test_channels_that_cancel_in_part_or_for_a_while_give_the_louder_one(
    tmp_path: Path, strength: float, inverted: tuple[float, float], suffix: str, codec: str
):
    rate = 48_000 if codec == "libopus" else RATE
    sound = voice(4.0, rate)
    times = np.arange(len(sound)) / rate
    second = np.where((times >= inverted[0]) & (times < inverted[1]), strength, 0.9) * sound
    channels = np.stack([sound, second], axis=1)
    path = write_recording(tmp_path / f"v{suffix}", channels, rate=rate, audio_codec=codec)
    heard = listen(path)
    assert heard.remarks == surveyed(path).remarks == ("cancelling_channels",)
    assert rms(heard.samples) == pytest.approx(rms(sound), rel=0.03)
    inside = slice(round((inverted[0] + 0.2) * RATE), round((inverted[1] - 0.2) * RATE))
    assert rms(heard.samples[inside]) == pytest.approx(rms(sound), rel=0.1)
    # Whoever reads it piece by piece hears the same.
    np.testing.assert_array_equal(np.concatenate(list(stream_samples(path))), heard.samples)


def test_several_channels_are_decoded_once_unless_they_need_another_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened: list[str] = []
    plain = av.open

    def counting(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(str(file))
        return plain(file, *arguments, **options)

    sound = voice(2.0)
    usual = stereo(tmp_path, sound, 0.7 * sound, ".flac", "flac")
    cancelling = stereo(tmp_path, sound, -sound)
    monkeypatch.setattr(av, "open", counting)

    def streamed(path: Path, passes: int) -> None:
        expected = listen(path).samples
        opened.clear()
        np.testing.assert_array_equal(np.concatenate(list(stream_samples(path))), expected)
        assert len(opened) == passes

    streamed(usual, 1)
    streamed(cancelling, 2)
    monkeypatch.setattr("demeanor.features.sound.HELD", 1000)  # the rest goes through a file
    streamed(usual, 1)

    def full(self: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)
    streamed(usual, 2)


def test_channels_that_differ_without_cancelling_are_averaged(tmp_path: Path):
    noise = np.random.default_rng(0).normal(0, 0.05, (2, 3 * RATE)).astype(np.float32)
    room = voice(3.0)
    for left, right in [
        (noise[0], noise[1]),
        (room + 0.2 * noise[0], 0.6 * room + 0.2 * noise[1]),
        (np.concatenate([room[:RATE], 0.05 * room[RATE:]]), np.concatenate([0.05 * room[:RATE], room[RATE:]])),
    ]:
        heard = listen(stereo(tmp_path, left, right))
        assert heard.remarks == ()
        np.testing.assert_allclose(heard.samples, (left + right) / 2, atol=1e-4)


@pytest.mark.parametrize(("suffix", "codec"), [(".wav", "pcm_s16le"), (".m4a", "aac"), (".flac", "flac")])
@pytest.mark.parametrize("side", [0, 1])
def test_a_microphone_on_one_side_of_a_stereo_plug_is_as_loud_as_alone(tmp_path: Path, side, suffix, codec):
    sound = voice(1.0)
    channels = [1e-3 * sound, 1e-3 * sound]
    channels[side] = sound
    path = stereo(tmp_path, channels[0], channels[1], suffix, codec)
    assert rms(listen(path).samples) == pytest.approx(rms(sound), rel=0.03)
    assert listen(path).remarks == surveyed(path).remarks == ("silent_channels",)


def test_silence_in_two_channels_is_silence(tmp_path: Path):
    path = stereo(tmp_path, np.zeros(RATE, np.float32), np.zeros(RATE, np.float32))
    assert rms(listen(path).samples) == 0
    assert listen(path).remarks == ()


def test_a_film_whose_surround_is_out_of_phase_keeps_its_voice(tmp_path: Path):
    sound, effect = voice(4.0, 48_000), 0.3 * tone(90, 4.0, 48_000)
    effect[: 3 * 48_000] = 0
    channels = np.zeros((len(sound), 6), np.float32)
    channels[:, 2], channels[:, 4], channels[:, 5] = sound, effect, -effect
    path = write_recording(tmp_path / "f.mkv", channels, rate=48_000, audio_codec="flac", layout="5.1")
    assert listen(path).remarks == ("mixed_down",)
    assert rms(listen(path).samples) == pytest.approx(rms(sound), rel=0.03)


def test_sound_shorter_than_the_picture_costs_nothing(tmp_path: Path):
    path = write_recording(tmp_path / "v.mp4", voice(2.0), faces(60))
    heard = listen(path)
    assert heard.samples is not None
    assert len(heard.samples) == pytest.approx(2 * RATE, abs=1100)
    assert heard.remarks == ("sound_ends_early",)
    assert len(decode_audio(path, 3.0, 5.0)) == 0
    assert len(list(decode_frames(path, rate=5))) == 30
    other = write_recording(tmp_path / "w.mp4", voice(6.0), faces(20))
    assert len(decode_audio(other)) == pytest.approx(6 * RATE, abs=1100)
    assert len(list(decode_frames(other, rate=5))) == 10


@pytest.mark.parametrize("name", ["v.mkv", "v.wav", "v.flac", "v.avi", "v.aiff", "v.w64", "v.au"])
def test_a_copy_that_was_broken_off_is_found(tmp_path: Path, name: str):
    codec = {".mkv": "aac", ".flac": "flac", ".avi": "mp2", ".aiff": "pcm_s16be", ".au": "pcm_s16be"}
    picture = faces(60) if name in ("v.mkv", "v.avi") else None
    content = write_recording(
        tmp_path / name, voice(6.0), picture, audio_codec=codec.get(name[1:], "pcm_s16le"), video_codec="mpeg4"
    ).read_bytes()
    assert len(decode_audio(content)) > 5.5 * RATE
    with pytest.raises(MediaError, match="damaged"):
        decode_audio(content[: len(content) // 4])


def test_a_copy_of_an_mp4_with_its_index_in_front_is_found_when_broken_off(tmp_path: Path):
    path = write_recording(tmp_path / "v.mp4", voice(6.0), faces(60), options={"movflags": "+faststart"})
    content = path.read_bytes()
    with pytest.raises(MediaError, match="damaged"):
        decode_audio(content[: len(content) * 2 // 5])


@pytest.mark.parametrize("declared", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_header_written_before_the_length_was_known_is_no_damage(tmp_path: Path, declared: int):
    path = write_recording(tmp_path / "v.wav", voice(2.0), audio_codec="pcm_s16le")
    content = bytearray(path.read_bytes())
    place = content.find(b"data") + 4
    content[4:8] = content[place : place + 4] = declared.to_bytes(4, "little")
    assert len(decode_audio(bytes(content))) == 2 * RATE


def test_times_below_zero_and_frames_without_times(tmp_path: Path):
    path = write_pieces(tmp_path / "v.mkv", [(-0.02, tone(250, 1.0))], codec="pcm_s16le")
    assert len(decode_audio(path)) == pytest.approx(RATE, abs=400)
    raw = write_recording(tmp_path / "v.h264", None, faces(20))
    times = [time for time, _ in decode_frames(raw)]
    assert len(times) == 20
    assert times == sorted(times)


@pytest.fixture
def half_broken(tmp_path: Path) -> Path:
    """A film whose sound is noise instead of packets."""
    path = write_recording(tmp_path / "v.mkv", voice(2.0), faces(20), audio_codec="flac")
    content = bytearray(path.read_bytes())
    sound = write_recording(tmp_path / "w.mka", voice(2.0), audio_codec="flac").read_bytes()
    mark, found = b"\xff\xf8", 0  # the sync code of FLAC frames
    assert mark in sound
    place = content.find(mark)
    while place >= 0:
        content[place : place + 12] = bytes(12)
        found, place = found + 1, content.find(mark, place + 12)
    assert found > 5
    path.write_bytes(bytes(content))
    return path


def test_broken_sound_leaves_the_picture_to_ingestion(half_broken: Path):
    from demeanor.pipelines.ingestion.nodes import probe_one

    seen = probe_one(half_broken)
    assert seen.error is None
    assert (seen.has_audio, seen.has_video, seen.face) == (False, True, True)
    assert "audio could be decoded" in seen.broken["audio"]


def test_broken_sound_leaves_picture_and_words_to_prediction(half_broken: Path):
    from demeanor.data.bundle import BundleCard, InputSpecification
    from demeanor.features import find_extractor
    from demeanor.inference.describe import completed
    from demeanor.inference.extraction import Extraction
    from tests.models.examples import TASKS

    makers = {
        "audio.waveform": find_extractor("waveform"),
        "vision.frames": find_extractor("face_descriptors", {"fallback": "centre"}),
    }
    inputs = {
        stream.split(".")[0]: InputSpecification(
            stream=stream, dimension=maker.dimension, provenance=maker.provenance()
        )
        for stream, maker in makers.items()
    }
    card = BundleCard(
        branch="a", system="late_fusion", settings={}, task=TASKS["regression"], inputs=inputs, protocol={}, metrics={}
    )
    extraction = Extraction(card)
    rows = [
        {"utterance_id": "film", "video": str(half_broken)},
        {"utterance_id": "apart", "video": str(half_broken), "audio": str(half_broken)},
        {"utterance_id": "sound", "audio": str(half_broken)},
    ]
    read = extraction(rows)
    assert read.examples.ids == ["film", "apart"]
    assert read.used["film"] == read.used["apart"] == ("vision",)
    assert "audio could be decoded" in read.problems["sound"]
    answers = pd.DataFrame({"mood": [1.0, 2.0], "modalities": ["vision", "vision"]})
    table = completed(answers, read).set_index("utterance_id")
    assert table.loc["film", "problem"].startswith("without audio: ")
    assert list(table["modalities"]) == ["vision", "vision", ""]
