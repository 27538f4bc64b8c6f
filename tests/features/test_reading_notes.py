"""What a clip notes of how its recording was read, in the words that answers and the doctor have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from demeanor.data.media import REMARKS, MediaProbe, remarked
from demeanor.features.base import Clip
from demeanor.features.painting import described_turn
from demeanor.pipelines.ingestion.nodes import probe_one, with_sound
from tests.features.media_samples import faces, tone, voice, write_pieces, write_recording, write_tracks


def read(path: Path) -> list[str]:
    """The notes after sound and pictures were asked for twice, by a copy as extractors have it."""
    clip = Clip("a", media=path)
    held = replace(clip.at_hand(pictures=True), text="heard")
    for _ in range(2):
        assert held.waveform is not None
        list(held.frames(rate=5.0))
    return list(clip.notes)


def test_tracks_that_are_not_read_are_named(tmp_path: Path):
    names = [("Desk\x1b[2J top", False), ("Microphone", True), (None, False)]
    path = write_tracks(tmp_path / "v.mkv", [(*name, voice(0.5)) for name in names])
    assert read(path) == ["there are further tracks, which are not read: audio track 0 'Desk [2J top', audio track 2"]
    assert read(path) == remarked((), probe_one(path).tracks)


def test_a_gap_cancelling_channels_and_a_mix_of_six_are_told(tmp_path: Path):
    gap = write_pieces(tmp_path / "gap.mkv", [(0, tone(250, 0.5)), (1.5, tone(1000, 0.5))], codec="pcm_s16le")
    assert read(gap) == [REMARKS["sound_gaps"][0]]
    left = voice(1.0)
    opposed = write_recording(tmp_path / "o.wav", np.stack([left, -0.9 * left], axis=1), audio_codec="pcm_s16le")
    assert read(opposed) == [REMARKS["cancelling_channels"][0]]
    six = np.zeros((8000, 6), np.float32)
    six[:, 2] = voice(0.5)
    surround = write_recording(tmp_path / "s.mkv", six, audio_codec="flac", layout="5.1")
    assert read(surround) == [REMARKS["mixed_down"][0]]
    assert probe_one(surround).remarks == ("mixed_down",)
    plain = write_recording(tmp_path / "p.mkv", np.stack([left, left], axis=1), faces(5), audio_codec="flac")
    assert read(plain) == []


def test_sound_of_a_telephone_is_told(tmp_path: Path):
    call = write_recording(tmp_path / "c.wav", voice(0.5)[::2], audio_codec="pcm_s16le", rate=8000)
    assert read(call) == [REMARKS["low_sampling_rate"][0]]
    assert probe_one(call).remarks == ("low_sampling_rate",)


def test_turned_pictures_are_told_by_whoever_looks_at_them(tmp_path: Path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height = stream.width = 96
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(90)
        for image in faces(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    clip = Clip("a", media=path)
    assert clip.waveform is None
    assert not clip.notes
    list(clip.frames())
    assert list(clip.notes) == ["its pictures are turned by 270 degrees clockwise, as it says itself"]


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ((0, 1, -1, 0), "turned by 90 degrees clockwise"), ((-1, 0, 0, -1), "turned by 180 degrees clockwise"),
        ((-1, 0, 0, 1), "mirrored"), ((1, 0, 0, -1), "mirrored and turned by 180 degrees clockwise"),
    ],
)  # fmt: skip
def test_a_turn_in_words(turn: tuple[float, float, float, float], words: str):
    assert described_turn(turn) == f"its pictures are {words}, as it says itself"


def test_what_the_pictures_remark_stays_where_the_sound_lies_apart():
    picture = MediaProbe(has_video=True, remarks=("sound_gaps", "several_faces"), tracks=("audio track 1",))
    sound = MediaProbe(has_audio=True, remarks=("cancelling_channels",))
    assert with_sound(picture, sound).remarks == ("cancelling_channels", "several_faces")
