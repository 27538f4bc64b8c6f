"""Where a recording holds voice: one pass over its sound, in memory that does not grow with it."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16

from demeanor.features.clip import SAMPLE_RATE, to_int16
from demeanor.features.media import Source
from demeanor.features.sound import stream_samples
from demeanor.timeline.given import GivenSpan

#: Seconds of sound that are searched for voice at once.
BLOCK = 300.0
#: A voice that reaches this near to the end of a block, in seconds, may go on in the next one.
NEAR = 1.0
#: (waveform, its sample rate) -> [(start, end)] in seconds, in order.
Detector = Callable[[np.ndarray, int], list[tuple[float, float]]]


@dataclass(frozen=True)
class Voice:
    """Spans with a voice, and how long the sound is, in seconds."""

    spans: list[GivenSpan]
    seconds: float


@dataclass(frozen=True)
class Hearing:
    """What finds a voice. `padding`: seconds that the detector adds on both sides of what it finds."""

    detector: Detector
    name: str
    padding: float = 0.0


def silero() -> Hearing:
    """Silero's detector; MissingExtraError without its package."""
    from demeanor.features.voice import VoiceSettings, detector_sha256, voice_spans

    settings = VoiceSettings(pause=0.25, padding=0.05)

    def detect(waveform: np.ndarray, rate: int) -> list[tuple[float, float]]:
        return [(span.start, span.end) for span in voice_spans(waveform, rate, settings)]

    return Hearing(detect, f"Silero VAD {detector_sha256()[:12]}", settings.padding)


def energy() -> Hearing:
    """Loudness alone, which needs no package: quiet rooms and no music, or everything is taken for a voice."""
    return Hearing(loud_spans, "energy: loudness alone, which cannot tell a voice from music or noise")


def loud_spans(
    waveform: np.ndarray, rate: int, step: float = 0.02, above: float = 12.0, least: float = 1e-3
) -> list[tuple[float, float]]:
    """Spans whose level is `above` decibels over that of the quietest tenth, and over `least` of full scale.

    waveform [samples], `rate` of them a second; `step` and what is returned in seconds.
    """
    size = max(round(step * rate), 1)
    count = len(waveform) // size
    if count == 0:
        return []
    frames = np.asarray(waveform[: count * size], dtype=np.float32).reshape(count, size)
    level = np.sqrt(np.mean(frames**2, axis=1))
    floor = max(float(np.percentile(level, 10)) * 10 ** (above / 20), least)
    # Where somebody speaks all the time the quietest tenth is speech as well.
    floor = min(floor, max(0.3 * float(np.percentile(level, 90)), least))
    spans: list[tuple[float, float]] = []
    for place in np.flatnonzero(level > floor):
        start = place * step
        if spans and start - spans[-1][1] < 0.2:
            spans[-1] = (spans[-1][0], start + step)
        else:
            spans.append((start, start + step))
    return [span for span in spans if span[1] - span[0] >= 0.1]


def hear(source: Source, hearing: Hearing, channel: int | None = None, speaker: str = "") -> Voice:
    """The spans of a recording that hold a voice; none where it has no sound track. MediaError as by decoding."""
    spans: list[GivenSpan] = []
    offset = 0.0
    held = np.zeros(0, np.float32)
    for block, last in _blocks(source, channel):
        held = np.concatenate([held, block])
        found = hearing.detector(held, SAMPLE_RATE)
        seconds = len(held) / SAMPLE_RATE
        cut = seconds
        if not last and found and found[-1][1] > seconds - NEAR and found[-1][0] > 0.5:
            cut = max(found[-1][0] - 0.25, 0.0)
            found = found[:-1]
        spans += [GivenSpan(offset + start, offset + end, speaker) for start, end in found if end > start]
        kept = round(cut * SAMPLE_RATE)
        held = held[kept:].copy()
        offset += kept / SAMPLE_RATE
    return Voice(spans, offset + len(held) / SAMPLE_RATE)


def _blocks(source: Source, channel: int | None) -> Iterator[tuple[Float32[np.ndarray, " samples"], bool]]:
    """(samples, whether they are the last), BLOCK seconds at a time."""
    size = round(BLOCK * SAMPLE_RATE)
    parts: list[np.ndarray] = []
    count = 0
    for block in stream_samples(source, SAMPLE_RATE, channel=channel):
        parts.append(block)
        count += len(block)
        if count >= size:
            yield np.concatenate(parts), False
            parts, count = [], 0
    yield np.concatenate(parts) if parts else np.zeros(0, np.float32), True


def wave_of(source: Source, start: float, end: float, channel: int) -> bytes:
    """Some seconds of one channel as the content of a WAV file."""
    blocks = list(stream_samples(source, SAMPLE_RATE, start, end, channel))
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return wave_file(samples)


def wave_file(
    samples: Float32[np.ndarray, " samples"] | Int16[np.ndarray, " samples"], rate: int = SAMPLE_RATE
) -> bytes:
    """The content of a mono WAV file with these samples, in [-1, 1] or of 16 bits."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(to_int16(samples).astype("<i2").tobytes())
    return held.getvalue()
