"""Inputs of MMML's audio-only programs (docs/systems/mmml.md#audio-only): log-mel pictures and raw samples.

Its third input, openSMILE ComParE_2016 descriptors with their deltas, is extractor `opensmile_lld` with
`features: ComParE_2016, deltas: true`: 65 + 65 columns at 100 frames per second, of which the program reads 300.
"""

from __future__ import annotations

import hashlib
import math
import random
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from demeanor.data.settings import Settings
from demeanor.features.base import Clip, Extractor

SECONDS, RATE = 6, 16_000
LONGEST = SECONDS * RATE
TRANSFORM, HOP, BANDS, HIGHEST = 960, 320, 128, 8000.0
RANGE, FLOOR = 80.0, 1e-10
#: (mean, variance) of the decibels of channel 0 and 1, as the program has them for its two corpora.
STANDARD: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "mosi": ((-34.57500023, 492.96437826), (-34.62100053, 491.16052842)),
    "sims": ((-30.24599383, 473.88704116), (-30.35495954, 472.0672438)),
}


@lru_cache(maxsize=2)
def mel_filters() -> Float[Tensor, "frequencies bands"]:
    """Triangles on the HTK mel scale from 0 to 8000 Hz, height 1, [481, 128]."""
    frequencies = torch.linspace(0, RATE // 2, TRANSFORM // 2 + 1)
    highest = 2595.0 * np.log10(1.0 + HIGHEST / 700.0)
    corners = 700.0 * (10.0 ** (torch.linspace(0.0, float(highest), BANDS + 2) / 2595.0) - 1.0)
    widths = corners[1:] - corners[:-1]
    slopes = corners[None, :] - frequencies[:, None]
    down, up = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    return torch.minimum(down, up).clamp(min=0)


@lru_cache(maxsize=1)
def _window() -> Float[Tensor, " transform"]:
    return torch.hann_window(TRANSFORM, periodic=True)


def decibels(samples: Float[Tensor, "channels samples"]) -> Float[Tensor, "channels bands frames"]:
    """Mel power in dB, at most 80 below the loudest bin of any channel; 50 frames per second, centred, reflected."""
    padded = torch.nn.functional.pad(samples, (TRANSFORM // 2, TRANSFORM // 2), mode="reflect")
    frames = 1 + (padded.shape[1] - TRANSFORM) // HOP
    levels = torch.full((len(samples), BANDS, frames), 10.0 * math.log10(FLOOR))
    # Short sounds are filled up with zeros, of which nothing needs to be computed.
    sounding = padded.any(dim=0).numpy()
    if sounding.any():
        begin, end = int(sounding.argmax()), len(sounding) - int(sounding[::-1].argmax())
        first, stop = max((begin - TRANSFORM) // HOP + 1, 0), min((end - 1) // HOP + 1, frames)
        heard = padded[:, first * HOP : (stop - 1) * HOP + TRANSFORM]
        spectrum = torch.stft(heard, TRANSFORM, HOP, TRANSFORM, _window(), center=False, return_complex=True)
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        levels[:, :, first:stop] = (mel_filters().T @ power).clamp_(min=FLOOR).log10_().mul_(10.0)
    return levels.clamp_(min=float(levels.max()) - RANGE)


def standardised(levels: Float[Tensor, "2 bands frames"], corpus: str) -> Float[Tensor, "2 bands frames"]:
    """Each channel with the fixed statistics of `corpus`."""
    constants = torch.tensor(STANDARD[corpus])
    return (levels - constants[:, :1, None]) / constants[:, 1:, None].sqrt()


def six_seconds(samples: Float[Tensor, "channels samples"], before: int = 0) -> Float[Tensor, "channels 96000"]:
    """Cut to six seconds, or filled up with `before` zeros in front and the rest behind."""
    samples = samples[:, :LONGEST]
    missing = LONGEST - samples.shape[1]
    return torch.nn.functional.pad(samples, (min(before, missing), missing - min(before, missing)))


def normalised(samples: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """The first six seconds with mean 0 and (population) variance 1, as speech encoders want them
    (docs/systems/mmml.md#audio-input)."""
    samples = samples[:LONGEST]
    return (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + 1e-7)


class SpectrogramSettings(Settings):
    """`standardise`: by the program's constants for mosi or sims, or leave decibels.

    `padding`: a sound shorter than six seconds is followed by zeros ("behind"), or put at a random place as the
    program does even when it scores ("random"; drawn from the sound itself, so that it is the same every time).
    """

    standardise: Literal["mosi", "sims", "none"] = "none"
    padding: Literal["behind", "random"] = "behind"


class MelSpectrogram(Extractor):
    """`audio.spectrogram`: six seconds of log-mel in dB, or standardised, [301, 256] float32, 50 frames per second.

    The two channels' 128 bands stand side by side (equal, recordings being mono here); absent where silent.
    """

    name = "mel_spectrogram"
    stream = "audio.spectrogram"
    reads = frozenset({"audio"})
    unit = "frame"
    settings_type: ClassVar[type[Settings]] = SpectrogramSettings

    @property
    def version(self) -> str:
        return "1"

    @property
    def dimension(self) -> int:
        return 2 * BANDS

    @property
    def rate(self) -> float | None:
        return RATE / HOP

    def extract_clip(self, clip: Clip) -> np.ndarray:
        waveform = clip.audible
        if waveform is None:
            return self.absent
        missing = max(LONGEST - len(waveform), 0)
        before = 0
        if self.settings.padding == "random":
            before = random.Random(hashlib.sha256(waveform.tobytes()).hexdigest()).randint(0, missing)
        with torch.inference_mode():
            levels = decibels(six_seconds(torch.from_numpy(waveform)[None], before))
            # Recordings are mono here, so that one channel's decibels are the other's too.
            channels = levels.expand(2, -1, -1)
            if self.settings.standardise != "none":
                channels = standardised(channels, self.settings.standardise)
            return channels.permute(2, 0, 1).reshape(levels.shape[2], -1).numpy()
