"""librosa's descriptors: the switch for those whom openSMILE's licence does not allow.

Frames last 25 ms and step by 10 ms at 16 kHz, centred on their time (zero-padded at the ends). All but pitch and
voicing are librosa's own functions with its definitions; pitch is librosa's YIN (de Cheveigne and Kawahara, 2002).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from demeanor.data.settings import Settings
from demeanor.features.base import SAMPLE_RATE, Clip, Extractor

HOP, WINDOW, TRANSFORM = 160, 400, 512
PITCH_WINDOW = 1024
LOWEST, HIGHEST = 60.0, 500.0


class SpectralSettings(Settings):
    """Which groups of columns, and how many bands and coefficients."""

    log_mel: int = Field(default=40, ge=0, le=128, description="mel bands in dB; 0 leaves them out")
    mfcc: int = Field(default=13, ge=0, le=40, description="coefficients, each with delta and delta-delta")
    chroma: bool = True
    spectral: bool = True
    pitch: bool = True


def column_names(settings: SpectralSettings) -> list[str]:
    """Name of the columns that the settings ask for, in their order."""
    names = [f"log_mel_{n}" for n in range(settings.log_mel)]
    for kind in ("mfcc", "mfcc_delta", "mfcc_delta2"):
        names += [f"{kind}_{n}" for n in range(settings.mfcc)]
    names += [f"chroma_{n}" for n in range(12)] if settings.chroma else []
    if settings.spectral:
        names += ["rms_db", "zero_crossing_rate", "centroid_hz", "bandwidth_hz", "rolloff_hz", "flatness"]
        names += [f"contrast_db_{n}" for n in range(7)]
    return names + (["pitch_hz", "voiced"] if settings.pitch else [])


class LibrosaFrames(Extractor):
    """`audio.frames`: log-mel (dB), MFCC with deltas, chroma, spectral descriptors (Hz, dB), pitch (Hz, 0 where
    unvoiced) and voicing, [T, 106] float32 by default, 100 frames per second; absent where silent."""

    name = "librosa_frames"
    stream = "audio.frames"
    reads = frozenset({"audio"})
    unit = "frame"
    licence = "ISC (librosa)"
    settings_type: ClassVar[type[Settings]] = SpectralSettings

    @property
    def version(self) -> str:
        from importlib.metadata import version

        return f"librosa {version('librosa')}"

    @property
    def names(self) -> list[str]:
        """Name of the columns, in their order."""
        return column_names(self.settings)

    @property
    def dimension(self) -> int:
        return len(self.names)

    @property
    def rate(self) -> float | None:
        return SAMPLE_RATE / HOP

    def extract_clip(self, clip: Clip) -> np.ndarray:
        waveform = clip.audible
        return self.absent if waveform is None else describe(waveform, self.settings)

    def cost(self, clip: Clip) -> float:
        return (clip.end or 0.0) - clip.start


def describe(
    waveform: Float32[np.ndarray, " samples"], settings: SpectralSettings
) -> Float32[np.ndarray, "frames columns"]:
    """The columns of `column_names` for one waveform at 16 kHz."""
    import librosa
    from librosa import feature

    # A centred transform needs some samples to stand on, so that 50 ms of sound have frames too.
    padded = np.pad(waveform, (0, max(TRANSFORM - len(waveform), 0)))
    magnitude = np.abs(
        librosa.stft(padded, n_fft=TRANSFORM, hop_length=HOP, win_length=WINDOW, center=True, pad_mode="constant")
    )
    frames = 1 + len(waveform) // HOP
    power: Any = magnitude**2
    parts: list[np.ndarray] = []
    if settings.log_mel:
        mel = feature.melspectrogram(S=power, sr=SAMPLE_RATE, n_mels=settings.log_mel)
        parts.append(librosa.power_to_db(mel, ref=1.0, top_db=None))
    if settings.mfcc:
        bands = librosa.power_to_db(feature.melspectrogram(S=power, sr=SAMPLE_RATE, n_mels=64), ref=1.0, top_db=None)
        coefficients = feature.mfcc(S=bands, sr=SAMPLE_RATE, n_mfcc=settings.mfcc)
        parts.append(coefficients)
        parts += [feature.delta(coefficients, order=order, mode="nearest") for order in (1, 2)]
    if settings.chroma:
        # A fixed tuning: estimating one from speech only adds noise.
        parts.append(feature.chroma_stft(S=power, sr=SAMPLE_RATE, n_fft=TRANSFORM, tuning=0.0))
    if settings.spectral:
        level = feature.rms(S=magnitude, frame_length=TRANSFORM)
        parts.append(librosa.amplitude_to_db(level, ref=1.0, top_db=None))
        parts.append(feature.zero_crossing_rate(padded, frame_length=WINDOW, hop_length=HOP))
        parts += [
            function(S=magnitude, sr=SAMPLE_RATE)
            for function in (feature.spectral_centroid, feature.spectral_bandwidth, feature.spectral_rolloff)
        ]
        parts.append(feature.spectral_flatness(S=magnitude))
        parts.append(feature.spectral_contrast(S=magnitude, sr=SAMPLE_RATE, fmin=100.0))
    if settings.pitch:
        parts.append(pitch(padded))
    values = np.concatenate([part[:, :frames] for part in parts]).T
    return np.nan_to_num(values, posinf=0.0, neginf=0.0).astype(np.float32)


def pitch(waveform: Float32[np.ndarray, " samples"]) -> np.ndarray:
    """[2, T]: fundamental frequency in Hz between 60 and 500 (0 where unvoiced), and 1 where voiced.

    A frame is voiced if its autocorrelation at the period found is at least 0.5 of its energy and its level is
    within 40 dB of the loudest.
    """
    import librosa

    padded = np.pad(waveform, (0, max(PITCH_WINDOW - len(waveform), 0)))
    hertz = librosa.yin(
        padded, fmin=LOWEST, fmax=HIGHEST, sr=SAMPLE_RATE, frame_length=PITCH_WINDOW, hop_length=HOP,
        pad_mode="constant",
    )  # fmt: skip
    centred = np.pad(padded, PITCH_WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(centred, PITCH_WINDOW)[::HOP][: len(hertz)].astype(np.float64)
    lags = np.clip(np.rint(SAMPLE_RATE / hertz).astype(int), 1, PITCH_WINDOW - 1)
    energy = (frames**2).sum(axis=1)
    columns = np.arange(PITCH_WINDOW)[None, :] + lags[:, None]
    inside = columns < PITCH_WINDOW
    shifted = np.take_along_axis(frames, np.minimum(columns, PITCH_WINDOW - 1), axis=1) * inside
    head = (np.where(inside, frames, 0.0) ** 2).sum(axis=1)
    tail = (shifted**2).sum(axis=1)
    correlation = (frames * shifted).sum(axis=1) / np.sqrt(np.maximum(head * tail, 1e-12))
    voiced = (correlation >= 0.5) & (energy > energy.max(initial=0.0) * 1e-4)
    return np.stack([np.where(voiced, hertz, 0.0), voiced.astype(np.float64)])


class LibrosaFunctionals(LibrosaFrames):
    """`audio.functionals`: mean, standard deviation, 5th, 50th and 95th percentile of every column of
    `librosa_frames` over the utterance (pitch over voiced frames only), [1, 530] float32 by default."""

    name = "librosa_functionals"
    stream = "audio.functionals"
    unit = "utterance"
    statistics: ClassVar[tuple[str, ...]] = ("mean", "std", "p5", "p50", "p95")

    @property
    def names(self) -> list[str]:
        """Name of the columns: each statistic of each descriptor."""
        return [f"{column}_{kind}" for kind in self.statistics for column in column_names(self.settings)]

    @property
    def rate(self) -> float | None:
        return None

    def extract_clip(self, clip: Clip) -> np.ndarray:
        frames = super().extract_clip(clip)
        if not len(frames):
            return self.absent
        values = frames.astype(np.float64)
        summary = self._summary(values)
        if self.settings.pitch:
            voiced = values[:, -1] > 0.5
            summary[:, -2] = self._summary(values[voiced][:, -2:-1])[:, 0] if voiced.any() else 0.0
        return summary.reshape(1, -1).astype(np.float32)

    def _summary(self, values: np.ndarray) -> np.ndarray:
        quantiles = np.percentile(values, [5, 50, 95], axis=0)
        return np.concatenate([[values.mean(axis=0), values.std(axis=0)], quantiles])
