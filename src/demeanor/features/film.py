"""The pictures of one span of a recording, decoded once for all extractors that look at them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from demeanor.features.media import MediaError, Note, Source, shown_at, timed_frames, unheard
from demeanor.features.painting import Painter

#: Bytes of decoded frames that are held: five minutes of 12 small pictures a second, or some seconds of full HD.
HELD = 256 << 20


class Film:
    """Opens the recording when first asked. What one pass decoded serves the next, each at its own rate and size, as
    long as it takes no more than HELD bytes; the frames of a longer film go by, and every pass decodes it anew."""

    def __init__(self, source: Source, start: float = 0.0, end: float | None = None, note: Note = unheard):
        self.source, self.start, self.end, self.note = source, start, end, note
        self._frames: list[tuple[float, Any, Painter]] | None = None
        self._error: MediaError | None = None

    def frames(self, rate: float | None = None, longest_side: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
        """As `decode_frames`; MediaError, in every pass, where the recording cannot be read.

        Seconds from `start` and a picture [height, width, 3] of 8 bits (RGB).
        """
        with closing(self._held() if self._frames is not None else self._decoded()) as frames:
            yield from shown_at(frames, self.start, self.end, rate, longest_side)

    def _held(self) -> Generator[tuple[float, Any, Painter], None, None]:
        yield from self._frames or []
        if self._error is not None:
            raise MediaError(str(self._error))

    def _decoded(self) -> Generator[tuple[float, Any, Painter], None, None]:
        held: list[tuple[float, Any, Painter]] | None = []
        size = 0
        try:
            for entry in timed_frames(self.source, self.start, self.end, self.note):
                size += sum(plane.buffer_size for plane in entry[1].planes)
                if size > HELD:
                    held = None
                elif held is not None:
                    held.append(entry)
                if self.end is not None and entry[0] >= self.end - self.start:
                    self._frames = held  # nobody asks for another frame after this one
                yield entry
        except MediaError as error:
            self._frames, self._error = held, error
            raise
        self._frames = held
