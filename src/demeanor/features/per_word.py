"""Frames of another extractor, averaged over each word."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from demeanor.data.settings import Settings
from demeanor.features import find_extractor
from demeanor.features.alignment import uniform_times
from demeanor.features.base import Clip, Extractor, Word


class PerWordSettings(Settings):
    """`extractor` and `parameters` of a stream of regular frames; `unaligned` says what becomes of a clip whose words
    have no times: absent, or its frames shared out uniformly."""

    extractor: str
    parameters: dict[str, Any] = {}
    unaligned: Literal["absent", "uniform"] = "absent"


class FramesPerWord(Extractor):
    """`audio.words`, `vision.words`: frames of another extractor averaged over each word, [W, D] float32.

    A frame belongs to a word if its middle lies within it; a word without a frame takes the nearest one. Times come
    from the corpus or from `text.word_times`; with `unaligned: uniform` the alignment in provenance names both.
    """

    name = "per_word"
    stream = "audio.words"
    unit = "word"
    reads = frozenset({"words", "text", "audio", "video"})
    settings_type: ClassVar[type[Settings]] = PerWordSettings

    @cached_property
    def inner(self) -> Extractor:
        """The extractor whose frames are averaged."""
        return find_extractor(self.settings.extractor, self.settings.parameters)

    @property
    def version(self) -> str:
        return f"1, {self.inner.version}"

    @property
    def dimension(self) -> int:
        return self.inner.dimension

    @property
    def weights_sha256(self) -> str | None:
        """That of the inner extractor."""
        return self.inner.weights_sha256

    @property
    def alignment(self) -> str:
        """How frames are given to words, and what becomes of those without times."""
        return "words or uniform" if self.settings.unaligned == "uniform" else "words"

    def facts(self) -> dict[str, Any]:
        return {"frames": self.inner.provenance().fingerprint}

    def extract_clip(self, clip: Clip) -> np.ndarray:
        (values,) = self.extract([clip])
        return values

    def extract(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        return [self._averaged(clip, frames) for clip, frames in zip(clips, self.inner.extract(clips), strict=True)]

    def _averaged(self, clip: Clip, frames: np.ndarray) -> np.ndarray:
        rate = self.inner.rate
        if not len(frames) or clip.spoken is None or rate is None:
            return self.absent
        words = clip.words
        if words is None:
            if self.settings.unaligned == "absent":
                return self.absent
            spoken = clip.spoken.split()
            times = uniform_times(spoken, len(frames) / rate)
            words = tuple(Word(word, *map(float, span)) for word, span in zip(spoken, times, strict=True))
        return np.stack([_mean_within(frames, word, rate) for word in words]).astype(np.float32)


def _mean_within(frames: np.ndarray, word: Word, rate: float) -> np.ndarray:
    first, last = int(np.ceil(word.start * rate - 0.5)), int(np.ceil(word.end * rate - 0.5))
    first, last = max(first, 0), min(last, len(frames))
    if first >= last:
        nearest = int(np.clip(round((word.start + word.end) / 2 * rate - 0.5), 0, len(frames) - 1))
        return frames[nearest]
    return frames[first:last].mean(axis=0)
