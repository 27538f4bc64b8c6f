"""Many channels to one: the mean of two, FFmpeg's down-mix by layout for more.

Of channels that cancel each other the loudest is taken alone. One on which nothing was recorded (the other side of a
stereo plug) does not count, for it would make the voice half as loud.

FFmpeg's weights (ITU-R BS.775: the centre whole, left and right at -3 dB, the surround at -6 dB, no subwoofer) leave a
voice in the centre channel of a film as loud as it is alone. Channels without a layout, as arrays of microphones have
them, are averaged.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import av
import numpy as np
from jaxtyping import Float32

from demeanor.features.limits import LIMITS

#: The mix has less than this share of the power that channels with nothing in common would give it: they cancel each
#: other. Of equal channels at opposite polarity nothing is left, of one at 0.27 of the other half.
CANCELLED = 0.5
#: Seconds over which that is looked at, and seconds and shares of the loud ones (of two channels, and of those with
#: places of their own, whose surround may well be mixed at opposite polarity) from which it counts for the whole.
WINDOW, LEAST_SECONDS, LEAST_OF_TWO, LEAST_OF_PLACES = 0.1, 0.3, 0.05, 0.25
#: A window is loud from this share of the mean power on.
LOUD = 0.01
#: Mean power of a channel below which nothing was recorded: the square of base.SILENCE.
QUIET = 1e-8
#: Share of the loudest channel's power below which one beside it was not recorded: the crosstalk of a plug.
DEAD = 1e-4
#: PyAV finds no end of the list of planes from eight on and reads on behind it; such frames are interleaved first.
PLANES = 8


class Mixer:
    """Decoded frames as mono; remembers how loud the mix and every channel was, and if more than two were mixed.

    only  numbers of the channels that are read, where not all are; what there is of them is averaged
    """

    def __init__(self, only: Sequence[int] | None = None):
        self.only = only
        self.surround = False
        self.samples = 0
        self.channels = np.zeros(LIMITS.channels)
        self.windows = array("f")
        self.kind: tuple[Any, ...] | None = None
        self.converter: Any = None
        self.weights: Float32[np.ndarray, " channels"] | None = None
        self._window = [0.0, 0.0, 0.0]

    def __call__(self, frame: Any) -> list[Float32[np.ndarray, " samples"]]:
        layout = frame.layout
        count = layout.nb_channels
        kind = (frame.format.name, count, frame.sample_rate, layout.name if count > 2 else "")
        if kind != self.kind:
            self._set_up(kind, layout.name)
        blocks = [frame] if self.converter is None else self.converter.resample(frame)
        return [self._mono(self._values(block, count), frame.sample_rate) for block in blocks]

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

    def _mono(self, values: Float32[np.ndarray, "channels samples"], rate: int) -> Float32[np.ndarray, " samples"]:
        count = len(values)
        if count == 1:
            return values[0]
        if self.only is not None:
            there = [n for n in self.only if n < count] or [count - 1]
            return values[there[0]] if len(there) == 1 else values[there].mean(axis=0, dtype=np.float32)
        mono = values.mean(axis=0, dtype=np.float32) if self.weights is None else self.weights @ values
        expected = 0.0
        for n, channel in enumerate(values):
            weight = 1 / count if self.weights is None else float(self.weights[n])
            if weight:
                power = float(np.dot(channel, channel))
                self.channels[n] += power
                expected += weight**2 * power
        self.samples += len(mono)
        window = self._window
        for place, value in enumerate((len(mono) / rate, float(np.dot(mono, mono)), expected)):
            window[place] += value
        if window[0] >= WINDOW:
            self._close_window()
        return mono

    def _close_window(self) -> None:
        self.windows.extend(self._window)
        self._window = [0.0, 0.0, 0.0]

    @property
    def cancelled(self) -> tuple[int, ...] | None:
        """Number of the loudest channel, where the channels cancel each other in the mix, or in parts of it."""
        loudest = int(self.channels.argmax())
        if self.channels[loudest] <= QUIET * self.samples:
            return None
        self._close_window()
        seconds, mixed, expected = np.array(self.windows, dtype=np.float64).reshape(-1, 3).T
        if mixed.sum() < CANCELLED * expected.sum():
            return (loudest,)
        loud = expected * seconds.sum() > LOUD * expected.sum() * seconds
        lost = float(seconds[loud & (mixed < CANCELLED * expected)].sum())
        least = LEAST_OF_PLACES if self.surround else LEAST_OF_TWO
        return (loudest,) if lost >= max(LEAST_SECONDS, least * float(seconds[loud].sum())) else None

    @property
    def recorded(self) -> tuple[int, ...] | None:
        """Numbers of the channels that hold something, where channels without places of their own hold nothing."""
        loudest = float(self.channels.max())
        if self.weights is not None or loudest <= QUIET * self.samples:
            return None
        count = 0 if self.kind is None else int(self.kind[1])
        live = tuple(int(n) for n in np.flatnonzero(self.channels[:count] > DEAD * loudest))
        return live if len(live) < count else None


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
