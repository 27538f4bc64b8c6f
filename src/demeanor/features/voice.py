"""Where somebody speaks: Silero's voice activity detector (MIT), whose weights faster-whisper carries.

One voice activity for everything: recognition hears these spans alone, features and segments are cut along them.
Silence, noise and music are no voice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from demeanor.data.errors import MissingExtraError
from demeanor.data.files import sha256_of_file
from demeanor.data.settings import Settings
from demeanor.features.base import SAMPLE_RATE, SILENCE
from demeanor.features.sharing import loaded_once

#: Samples that the detector judges together; what is shorter than two of them holds no syllable.
WINDOW = 512


@dataclass(frozen=True)
class Span:
    """A stretch of a recording, `start` to `end` in seconds from its beginning; `end` is after `start`."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


class VoiceSettings(Settings):
    """
    threshold  probability of a voice from which a window of 32 ms counts as speech
    speech     seconds: what is shorter is no speech but a click or a cough
    pause      seconds of silence that end a span; shorter ones are within it
    padding    seconds that are added on both sides, for soft beginnings and ends; never into the next span
    longest    seconds: a longer span is cut at its last short pause; None leaves it whole
    """

    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    speech: float = Field(default=0.2, ge=0.0)
    pause: float = Field(default=0.3, ge=0.0)
    padding: float = Field(default=0.1, ge=0.0)
    longest: float | None = Field(default=None, ge=1.0)


DEFAULTS = VoiceSettings()


def voice_spans(
    waveform: Float[np.ndarray, " time"], rate: int = SAMPLE_RATE, settings: VoiceSettings = DEFAULTS
) -> list[Span]:
    """The spans with a voice, in order and apart from each other; none where nobody speaks.

    waveform  mono samples in [-1, 1]
    rate      samples per second; the detector hears 16 kHz, anything else is resampled
    Raises MissingExtraError without the package. Any number of threads may ask at once.
    """
    seconds = len(waveform) / rate
    samples = np.nan_to_num(np.asarray(waveform, dtype=np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
    if rate != SAMPLE_RATE and len(samples):
        import soxr

        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    if len(samples) < 2 * WINDOW or float(np.abs(samples).max()) < SILENCE:
        return []
    vad = _detector()
    options = vad.VadOptions(
        threshold=settings.threshold,
        min_speech_duration_ms=round(1000 * settings.speech),
        max_speech_duration_s=float("inf") if settings.longest is None else settings.longest,
        min_silence_duration_ms=round(1000 * settings.pause),
        speech_pad_ms=round(1000 * settings.padding),
    )
    stamps = vad.get_speech_timestamps(samples, options, SAMPLE_RATE)
    spans = [Span(one["start"] / SAMPLE_RATE, min(one["end"] / SAMPLE_RATE, seconds)) for one in stamps]
    return [span for span in spans if span.seconds > 0]


def joined(spans: list[Span], longest: float) -> list[Span]:
    """Neighbouring spans in one as long as that is at most `longest` seconds, pauses between them included: a
    recogniser hears thirty seconds at once, and a sentence is understood better whole."""
    groups: list[Span] = []
    for span in spans:
        if groups and span.end - groups[-1].start <= longest:
            groups[-1] = Span(groups[-1].start, span.end)
        else:
            groups.append(span)
    return groups


@loaded_once(maxsize=1)
def _detector() -> Any:
    """faster-whisper's module of voice activity, its weights loaded."""
    try:
        from faster_whisper import vad
    except ImportError:
        raise MissingExtraError("voice activity", "speech") from None
    vad.get_vad_model()
    return vad


@loaded_once(maxsize=1)
def detector_sha256() -> str:
    """Hash of the detector's weights. MissingExtraError without the package."""
    _detector()
    from faster_whisper.utils import get_assets_path

    return sha256_of_file(Path(get_assets_path()) / "silero_vad_v6.onnx")
