"""Many channels to one: the mean of one or two, FFmpeg's down-mix by layout for more.

FFmpeg's weights (ITU-R BS.775: the centre whole, left and right at -3 dB, the surround at -6 dB, no subwoofer) leave a
voice in the centre channel of a film as loud as it is alone. Channels without a layout, as arrays of microphones have
them, are averaged.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import av
import numpy as np
from jaxtyping import Float32

from demeanor.features.limits import LIMITS

#: The mix has less than this share of its loudest channel's power: the channels cancel each other.
CANCELLED = 0.1
#: Mean power of a channel below which nothing was recorded: the square of base.SILENCE.
QUIET = 1e-8
#: PyAV finds no end of the list of planes from eight on and reads on behind it; such frames are interleaved first.
PLANES = 8


class Mixer:
    """Decoded frames as mono; remembers how loud the mix and every channel was, and if more than two were mixed."""

    def __init__(self, only: int | None = None):
        self.only = only
        self.surround = False
        self.samples = 0
        self.mixed = 0.0
        self.channels = np.zeros(LIMITS.channels)
        self.kind: tuple[Any, ...] | None = None
        self.converter: Any = None
        self.weights: Float32[np.ndarray, " channels"] | None = None

    def __call__(self, frame: Any) -> list[Float32[np.ndarray, " samples"]]:
        layout = frame.layout
        count = layout.nb_channels
        kind = (frame.format.name, count, frame.sample_rate, layout.name if count > 2 else "")
        if kind != self.kind:
            self._set_up(kind, layout.name)
        blocks = [frame] if self.converter is None else self.converter.resample(frame)
        return [self._mono(self._values(block, count)) for block in blocks]

    def _set_up(self, kind: tuple[Any, ...], layout: str) -> None:
        name, count, rate, _ = kind
        self.kind, self.converter = kind, None
        # Common formats need no converter: setting one up costs more than decoding a short clip.
        if name not in ("s16", "s16p", "flt", "fltp") or (name.endswith("p") and count >= PLANES):
            target = "flt" if count >= PLANES else "fltp"
            self.converter = av.AudioResampler(format=target, layout=layout, rate=rate)
        self.weights = _weights(layout, count) if count > 2 else None
        self.surround |= count > 2

    @staticmethod
    def _values(frame: Any, count: int) -> Float32[np.ndarray, "channels samples"]:
        """Finite floats; full scale is 1."""
        if count == 1 or not frame.format.is_planar:  # as `to_ndarray`, which takes detours for many planes
            kind = np.int16 if frame.format.name.startswith("s16") else np.float32
            values = np.frombuffer(frame.planes[0], kind, frame.samples * count).reshape(-1, count).T
        else:
            values = frame.to_ndarray()
        if values.dtype == np.int16:
            return values.astype(np.float32, order="C") * np.float32(1 / 32768)
        values = np.array(values, order="C")
        flat = values.reshape(-1)
        if not np.isfinite(np.dot(flat, flat)):
            values = np.nan_to_num(values, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
        return values

    def _mono(self, values: Float32[np.ndarray, "channels samples"]) -> Float32[np.ndarray, " samples"]:
        count = len(values)
        if count == 1:
            return values[0]
        if self.only is not None:
            return values[min(self.only, count - 1)]
        mono = values.mean(axis=0, dtype=np.float32) if self.weights is None else self.weights @ values
        self.samples += len(mono)
        self.mixed += float(np.dot(mono, mono))
        for n, channel in enumerate(values):
            if self.weights is None or self.weights[n]:
                self.channels[n] += float(np.dot(channel, channel))
        return mono

    @property
    def cancelled(self) -> int | None:
        """Number of the loudest channel, where the channels cancel each other in the mix."""
        loudest = int(self.channels.argmax())
        power = float(self.channels[loudest])
        return loudest if power > QUIET * self.samples and self.mixed < CANCELLED * power else None


@lru_cache(maxsize=64)
def _weights(layout: str, count: int) -> Float32[np.ndarray, " channels"] | None:
    """FFmpeg's, found by mixing one sample of each channel; None where the layout has no places for them."""
    try:
        channels = av.AudioLayout(layout)
        if channels.nb_channels != count or any(channel.name in ("NONE", "UNK") for channel in channels.channels):
            return None
        one_each = av.AudioFrame.from_ndarray(np.eye(count, dtype=np.float32).reshape(1, -1), "flt", layout)
        one_each.sample_rate = 48_000
        (mixed,) = av.AudioResampler(format="fltp", layout="mono", rate=48_000).resample(one_each)
    except (av.FFmpegError, ValueError):  # ambisonics and their like
        return None
    weights = mixed.to_ndarray()[0].astype(np.float32)
    return weights if len(weights) == count and weights.any() else None
