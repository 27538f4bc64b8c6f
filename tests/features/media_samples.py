"""Small recordings made on the spot, so that the tests need no media files."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from demeanor.features.base import Clip
from demeanor.features.media import described, name_of, opened
from demeanor.features.sound import Survey, survey

RATE = 16_000


def surveyed(path: Path) -> Survey:
    """What is heard of the sound of a file when a corpus is examined."""
    with opened(path) as container:
        return survey(container, described(container, name_of(path)), path)


def voice(seconds: float, rate: int = RATE, pitch: float = 140.0, loudness: float = 0.3) -> np.ndarray:
    """[samples] float32: a harmonic tone whose level rises and falls four times a second, like syllables."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 12))
    return (loudness * 0.4 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def tone(pitch: float, seconds: float, rate: int = RATE) -> np.ndarray:
    """[samples] float32: one partial of `pitch` Hz."""
    return (0.4 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def faces(count: int, size: int = 96, mouth: float = 0.0) -> list[np.ndarray]:
    """Grey-ish pictures [size, size, 3] with a bright disc that moves, two eyes and a mouth."""
    images = []
    rows, columns = np.mgrid[0:size, 0:size] / size
    for n in range(count):
        shift = 0.02 * np.sin(n / 3)
        image = np.full((size, size), 60.0)
        image[((columns - 0.5 - shift) / 0.3) ** 2 + ((rows - 0.5) / 0.4) ** 2 < 1] = 190
        for x in (0.38, 0.62):
            image[((columns - x - shift) / 0.06) ** 2 + ((rows - 0.4) / 0.03) ** 2 < 1] = 30
        image[(np.abs(columns - 0.5 - shift) < 0.12) & (np.abs(rows - 0.7 - mouth * (columns - 0.5) ** 2) < 0.02)] = 40
        images.append(np.repeat(image.astype(np.uint8)[..., None], 3, axis=-1))
    return images


def write_recording(
    path: Path,
    samples: np.ndarray | None = None,
    images: list[np.ndarray] | None = None,
    rate: int = RATE,
    audio_codec: str = "aac",
    video_codec: str = "libx264",
    times: list[float] | None = None,
    frame_rate: int = 10,
    layout: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write samples [T] or [T, channels] and pictures; `times` (seconds) makes their spacing vary."""
    with av.open(str(path), "w", options=options or {}) as container:
        video = audio = None
        if images is not None:
            video = container.add_stream(video_codec, rate=frame_rate)
            size = images[0].shape[:2] if images else (64, 64)
            video.height, video.width = size
            video.pix_fmt = "yuv420p"
            video.codec_context.time_base = Fraction(1, 1000)
        if samples is not None:
            channels = 1 if samples.ndim == 1 else samples.shape[1]
            audio = container.add_stream(audio_codec, rate=rate)
            audio.layout = layout or ("mono" if channels == 1 else "stereo")
        for n, image in enumerate(images or []):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = round(1000 * (times[n] if times else n / frame_rate))
            frame.time_base = Fraction(1, 1000)
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode(None))
        if audio is not None:
            _encode(container, audio, samples, rate)
    return path


def _encode(container: av.container.OutputContainer, audio: av.AudioStream, samples: np.ndarray, rate: int) -> None:
    # Interleaved: PyAV loses itself in eight planes and more.
    block = np.ascontiguousarray(samples.astype(np.float32).reshape(1, -1))
    frame = av.AudioFrame.from_ndarray(block, format="flt", layout=audio.layout.name)
    frame.sample_rate, frame.pts = rate, 0
    size = audio.codec_context.frame_size or 1024
    resampler = av.AudioResampler(audio.codec_context.format, audio.layout.name, rate, size)
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        container.mux(audio.encode(part))
    container.mux(audio.encode(None))


def write_tracks(path: Path, tracks: list[tuple[str | None, bool, np.ndarray]]) -> Path:
    """Several sound tracks: title, is it the default one, mono samples."""
    with av.open(str(path), "w") as container:
        streams = []
        for title, default, _ in tracks:
            stream = container.add_stream("flac", rate=RATE, layout="mono")
            stream.disposition = av.stream.Disposition.default if default else 0
            if title:
                stream.metadata["title"] = title
            streams.append(stream)
        for stream, (_, _, samples) in zip(streams, tracks, strict=True):
            _encode(container, stream, samples, RATE)
    return path


def write_pieces(path: Path, pieces: Sequence[tuple[float, np.ndarray]], rate: int = RATE, codec: str = "flac") -> Path:
    """Sound whose pieces begin at given seconds, whatever lies between them."""
    blocks = [
        (start + n / rate, samples[n : n + 160]) for start, samples in pieces for n in range(0, len(samples), 160)
    ]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        for time, block in blocks:
            frame = av.AudioFrame.from_ndarray((block[None] * 32767).astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, round(time * rate), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class PoisonedClip(Clip):
    """A clip whose sound takes down the process that decodes it, as a bug in a codec would."""

    @property
    def waveform(self) -> np.ndarray | None:
        if multiprocessing.parent_process() is None:
            raise RuntimeError("a poisoned clip reached the main process")
        os.kill(os.getpid(), signal.SIGKILL)
        return None
