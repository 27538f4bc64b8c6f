"""Small recordings made on the spot, so that the tests need no media files."""

from __future__ import annotations

import multiprocessing
import os
import signal
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from demeanor.features.base import Clip

RATE = 16_000


def voice(seconds: float, rate: int = RATE, pitch: float = 140.0, loudness: float = 0.3) -> np.ndarray:
    """[samples] float32: a harmonic tone whose level rises and falls four times a second, like syllables."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 12))
    return (loudness * 0.4 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


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
) -> Path:
    """Write samples [T] or [T, channels] and pictures; `times` (seconds) makes their spacing vary."""
    with av.open(str(path), "w") as container:
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
            audio.layout = "mono" if channels == 1 else "stereo"
        for n, image in enumerate(images or []):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = round(1000 * (times[n] if times else n / frame_rate))
            frame.time_base = Fraction(1, 1000)
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode(None))
        if audio is not None:
            block = np.ascontiguousarray(np.atleast_2d(samples.T).astype(np.float32))
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=audio.layout.name)
            frame.sample_rate = rate
            frame.pts = 0
            resampler = av.AudioResampler(format=audio.codec_context.format, layout=audio.layout.name, rate=rate)
            fifo = av.AudioFifo()
            for part in resampler.resample(frame):
                fifo.write(part)
            size = audio.codec_context.frame_size or 1024
            while (part := fifo.read(size, partial=True)) is not None:
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


class PoisonedClip(Clip):
    """A clip whose sound takes down the process that decodes it, as a bug in a codec would."""

    @property
    def waveform(self) -> np.ndarray | None:
        if multiprocessing.parent_process() is None:
            raise RuntimeError("a poisoned clip reached the main process")
        os.kill(os.getpid(), signal.SIGKILL)
        return None
