"""Frames and samples in, one mp4 out (H.264 and AAC), the same bytes for the same input and codec version."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import Float, UInt8

VIDEO_QUALITY = 25
"""x264's constant rate factor: lower is better and larger."""
AUDIO_BITS_PER_SECOND = 40_000
_SAMPLES_PER_PACKET = 1024


def write_clip(
    path: Path,
    frames: Sequence[UInt8[np.ndarray, "height width 3"]],
    frame_rate: int,
    samples: Float[np.ndarray, " time"],
    sample_rate: int,
) -> None:
    """Write RGB frames and mono samples in [-1, 1] to `path`."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=frame_rate)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        # One thread, because x264's choices depend on their number.
        video.codec_context.thread_count = 1
        video.codec_context.flags |= av.codec.context.Flags.bitexact
        # No vector code: x264's reads memory that it never wrote, and its choices then differ from call to call.
        video.options = {"crf": str(VIDEO_QUALITY), "preset": "slow", "g": "48", "x264-params": "asm=0"}
        video.codec_context.time_base = Fraction(1, frame_rate)
        audio = add_sound(container, sample_rate)
        for index, pixels in enumerate(frames):
            # OpenCV's conversion, because the same picture converted by libswscale is not always coded the same.
            planes = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2YUV_I420)
            picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, frame_rate)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        mux_sound(container, audio, samples, len(samples), last=True)


def add_sound(container: Any, sample_rate: int, bits_per_second: int = AUDIO_BITS_PER_SECOND) -> Any:
    """A track of mono sound in a container that is open for writing."""
    audio = container.add_stream("aac", rate=sample_rate, layout="mono")
    audio.codec_context.flags |= av.codec.context.Flags.bitexact
    audio.bit_rate = bits_per_second
    return audio


def mux_sound(
    container: Any, audio: Any, samples: Float[np.ndarray, " time"], end: int, last: bool
) -> Float[np.ndarray, " rest"]:
    """Code samples whose last one is number `end` of the track; what fills no packet is returned, for the next call,
    unless these are the `last`."""
    whole = len(samples) if last else len(samples) // _SAMPLES_PER_PACKET * _SAMPLES_PER_PACKET
    for start in range(0, whole, _SAMPLES_PER_PACKET):
        block = samples[start : min(start + _SAMPLES_PER_PACKET, whole)].astype(np.float32)
        sound = av.AudioFrame.from_ndarray(block[None, :], format="fltp", layout="mono")
        sound.sample_rate, sound.pts = audio.rate, end - len(samples) + start
        sound.time_base = Fraction(1, audio.rate)
        container.mux(audio.encode(sound))
    if last:
        container.mux(audio.encode(None))
    return samples[whole:]


def read_clip(
    path: Path,
) -> tuple[UInt8[np.ndarray, "frames height width 3"], Float[np.ndarray, " time"], int]:
    """Frames, mono samples and sample rate of a clip; av.FFmpegError where it cannot be decoded."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(pictures), *read_sound(path)


def read_sound(path: Path) -> tuple[Float[np.ndarray, " time"], int]:
    """Mono samples and sample rate of a clip; av.FFmpegError where it cannot be decoded."""
    with av.open(str(path)) as container:
        sounds = [frame.to_ndarray().mean(axis=0) for frame in container.decode(audio=0)]
        return np.concatenate(sounds), container.streams.audio[0].rate
