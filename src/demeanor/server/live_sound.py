"""Sound as a caller streams it: the last seconds in memory, a window at every step, nothing on a disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from demeanor.server.refusals import Refusal
from demeanor.timeline.hearing import wave_file
from demeanor.timeline.live import SHORTEST
from demeanor.timeline.table import to_millisecond

#: Bytes of a sample: 16 bits, signed, little-endian, one channel.
WIDTH = 2
#: Sound may come faster than it is spoken by this factor, and all at once after a pause of some seconds of the network.
FASTER, BURST = 1.25, 5.0


@dataclass(frozen=True)
class Window:
    """`content`: samples of 16 bits, `rate` a second; start and end: seconds of the session; came: when its last sample
    was there, by time.monotonic()."""

    start: float
    end: float
    rate: int
    content: bytes
    came: float

    @property
    def samples(self) -> Float32[np.ndarray, " samples"]:
        """In [-1, 1)."""
        return np.frombuffer(self.content, dtype="<i2").astype(np.float32) / 32768.0

    @property
    def wav(self) -> bytes:
        """Content of a WAV file."""
        return wave_file(np.frombuffer(self.content, dtype="<i2"), self.rate)


class Sound:
    """What has come of one session, no further back than a window needs. Windows end where `demeanor live` ends them:
    the last `window` seconds at every `step`, and the rest at the end."""

    def __init__(self, rate: int, window: float, step: float):
        self.rate, self.window, self.step = rate, window, step
        self._held, self._gone = bytearray(), 0
        self._ended, self._begun = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """That have come."""
        return (self._gone + len(self._held)) / WIDTH / self.rate

    def add(self, content: bytes) -> Iterator[Window]:
        """The windows that are complete with it. Refusal bad_request for half a sample, too_fast for what cannot have
        been spoken meanwhile."""
        if len(content) % WIDTH:
            raise Refusal("bad_request", "a message holds half a sample: samples have 16 bits")
        self._held += content
        if self.seconds > FASTER * (time.monotonic() - self._begun) + BURST:
            raise Refusal("too_fast", "the sound comes faster than it can be spoken; recordings go to /v1/predict")
        while self.seconds - self._ended >= self.step:
            yield self._upto(to_millisecond(self._ended + self.step))

    def rest(self) -> Window | None:
        """What remains at the end."""
        seconds = to_millisecond(self.seconds)
        return self._upto(seconds) if seconds - self._ended >= SHORTEST else None

    def _upto(self, end: float) -> Window:
        self._ended = end
        start = max(0.0, end - self.window)
        first, last = (WIDTH * round(at * self.rate) - self._gone for at in (start, end))
        made = Window(to_millisecond(start), end, self.rate, bytes(self._held[max(0, first) : last]), time.monotonic())
        behind = WIDTH * round(max(0.0, end + SHORTEST - self.window) * self.rate) - self._gone
        if behind > 0:
            del self._held[:behind]
            self._gone += behind
        return made
