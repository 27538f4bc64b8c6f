"""Sound as it comes in, read by a thread while the sound before it is scored; memory does not grow with it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from threading import Condition, Thread

import numpy as np
from jaxtyping import Float32

from demeanor.features.clip import SAMPLE_RATE

#: Seconds of sound that are read ahead of what was asked for; after these whoever writes is kept waiting.
AHEAD = 120.0


class Incoming:
    """Samples at 16 kHz of an iterator that blocks until there are some."""

    def __init__(self, blocks: Iterator[Float32[np.ndarray, " samples"]], ahead: float = AHEAD):
        """`ahead` is in seconds; blocks [samples] of any length."""
        self._blocks, self._ahead = blocks, round(ahead * SAMPLE_RATE)
        self._changed = Condition()
        self._parts: deque[tuple[int, float, np.ndarray]] = deque()
        self._total = self._wanted = 0
        self._ended = False
        self._error: BaseException | None = None
        Thread(target=self._read, name="incoming sound", daemon=True).start()

    def _read(self) -> None:
        try:
            for block in self._blocks:
                with self._changed:
                    self._changed.wait_for(lambda: self._total - self._wanted <= self._ahead)
                    self._parts.append((self._total, time.monotonic(), block))
                    self._total += len(block)
                    self._changed.notify_all()
        except BaseException as error:  # handed on: whoever asks raises it
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def wait(self, end: float) -> bool:
        """Is the sound there up to `end` seconds? Waits for it; False where it ends before. Raises what reading did."""
        count = round(end * SAMPLE_RATE)
        with self._changed:
            self._wanted = max(self._wanted, count)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended or self._total >= count)
            if self._total < count and self._error is not None:
                raise self._error
            return self._total >= count

    @property
    def seconds(self) -> float:
        """Of all that came until now."""
        with self._changed:
            return self._total / SAMPLE_RATE

    def between(self, start: float, end: float) -> tuple[Float32[np.ndarray, " samples"], float]:
        """The sound from `start` to `end`, and when (time.monotonic) its last sample came; what lies before is let
        go. In seconds, as `wait`."""
        first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
        with self._changed:
            while self._parts and self._parts[0][0] + len(self._parts[0][2]) <= first:
                self._parts.popleft()
            held = [part for part in self._parts if part[0] < last]
        came = held[-1][1] if held else time.monotonic()
        pieces = [block[max(first - place, 0) : last - place] for place, _, block in held]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32), came
