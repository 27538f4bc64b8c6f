"""A clip as if nothing had been said, heard and seen in some of its seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from demeanor.data.files import sha256_of
from demeanor.features.base import SAMPLE_RATE, Clip, Word, to_int16

Window = tuple[float, float]


@dataclass(frozen=True, eq=False)
class UnseenClip(Clip):
    """A clip without the pictures of the seconds `unseen`, counted from the start of the utterance."""

    unseen: Window = (0.0, 0.0)

    def frames(self, rate: float | None = None, longest_side: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
        first, last = self.unseen
        return ((time, image) for time, image in super().frames(rate, longest_side) if not first <= time < last)

    def content(self, reads: frozenset[str]) -> str:
        whole = super().content(reads)
        return sha256_of([whole, "unseen", *self.unseen]) if "video" in reads else whole


def without(clip: Clip, window: Window, seconds: float) -> Clip:
    """The clip with silence for its sound in the window [first, last) of seconds, without the pictures of it and
    without the words that have their middle in it. Times stay: what comes later does not come earlier.

    seconds  length of the clip; words of which no times are known are spread over it evenly
    """
    fields = {name: getattr(clip, name) for name in Clip.__dataclass_fields__}
    samples = clip.waveform
    if samples is not None:
        quiet = to_int16(samples)
        first, last = (round(time * SAMPLE_RATE) for time in window)
        quiet[first:last] = 0
        fields |= {"recorded": quiet, "stored": None, "sound": None}
    made = UnseenClip(**fields, unseen=window)
    if clip.spoken is None or clip.text is None:
        return made
    left = [word for word in timed(clip, seconds) if not window[0] <= (word.start + word.end) / 2 < window[1]]
    text = " ".join(word.text for word in left) or None
    turns = list(clip.dialogue)
    if turns:
        turns[clip.turn] = text
    words = None if clip.words is None or text is None else tuple(left)
    return replace(made, text=text, words=words, dialogue=tuple(turns))


def timed(clip: Clip, seconds: float) -> Sequence[Word]:
    """The words of a clip with their times, evenly spread over it where none are known."""
    spoken = (clip.text or "").split()
    if clip.words is not None:
        return clip.words
    step = seconds / max(len(spoken), 1)
    return [Word(word, place * step, (place + 1) * step) for place, word in enumerate(spoken)]


def length_of(clip: Clip) -> float | None:
    """Seconds of the utterance, None where it is no recording."""
    samples = clip.waveform
    if samples is not None:
        return len(samples) / SAMPLE_RATE
    if clip.media is None:
        return None
    if clip.end is not None:
        return clip.end - clip.start
    from demeanor.features.media import probe

    duration = probe(clip.media).duration
    return None if duration is None else duration - clip.start


def windows_of(seconds: float, length: float, most: int) -> list[Window]:
    """Windows of equal length that cover `seconds`: of about `length`, longer where there would be more than `most`."""
    count = min(max(round(seconds / length), 1), most)
    return [(seconds * place / count, seconds * (place + 1) / count) for place in range(count)]
