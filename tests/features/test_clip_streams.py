"""Sound beside pictures: the same values, notes and errors as one after the other."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from demeanor.features.base import ExtractionError, Extractor
from demeanor.features.clip import Clip
from demeanor.features.clip_streams import made_of
from demeanor.features.media import MediaError


class Told(Extractor):
    """Makes one step of the number of letters, notes its name, or fails."""

    version = "1"
    dimension = 1
    unit = "clip"

    def __init__(self, name: str, reads: set[str], fails: type[Exception] | None = None):
        super().__init__()
        self.name, self.reads, self.fails = name, frozenset(reads), fails  # type: ignore[misc]
        self.threads: set[str] = set()

    def extract_clip(self, clip: Clip) -> np.ndarray:
        self.threads.add(threading.current_thread().name)
        clip.note(f"{self.name} was here")
        if self.fails is not None and clip.text == "bad":
            raise self.fails(f"{self.name}: no")
        return np.full((1, 1), len(clip.text or ""), np.float32)


def extractors(**fails: type[Exception]) -> dict[str, Extractor]:
    reads = {"vision.a": {"video"}, "text.b": {"text"}, "vision.c": {"video"}, "audio.d": {"audio"}}
    return {name: Told(name, what, fails.get(name.replace(".", "_"))) for name, what in reads.items()}


def told(beside: bool, **fails: type[Exception]) -> tuple[list[Any], dict[str, Any], dict[str, Extractor]]:
    clips = {text: Clip(text, text=text) for text in ("good", "bad", "last one")}
    made = extractors(**fails)
    found = [
        (name, {key: str(value) if isinstance(value, Exception) else value.tolist() for key, value in outcome.items()})
        for name, outcome in made_of(clips, made, beside)
    ]
    return found, {name: list(clip.notes) for name, clip in clips.items()}, made


@pytest.mark.parametrize(
    "fails", [{}, {"vision_a": MediaError}, {"audio_d": MediaError}, {"vision_c": ExtractionError}]
)
def test_one_thread_or_two(fails: dict[str, type[Exception]]):
    one, two = told(False, **fails), told(True, **fails)
    assert one[:2] == two[:2]
    assert one[1]["good"] == [f"{name} was here" for name in ("text.b", "audio.d", "vision.a", "vision.c")]
    assert two[2]["vision.a"].threads.isdisjoint(two[2]["text.b"].threads)
    assert one[2]["vision.a"].threads == one[2]["text.b"].threads


def test_what_no_recording_explains_ends_the_clip_and_no_other():
    found = dict(told(False, text_b=ExtractionError)[0])
    assert found["bad"] == {"text.b": "text.b: no"}
    assert found["last one"] == {name: [[8.0]] for name in ("vision.a", "text.b", "vision.c", "audio.d")}
