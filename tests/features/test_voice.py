"""Voice activity: a spoken sentence is one span where it is, and silence, noise and music are none."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.errors import MissingExtraError
from demeanor.features import voice as module
from demeanor.features.base import SAMPLE_RATE
from demeanor.features.sound import decode_audio
from demeanor.features.voice import Span, VoiceSettings, joined, voice_spans
from tests.parity.golden import PROJECT

pytest.importorskip("faster_whisper")
CLIP = PROJECT / "data" / "01_raw" / "demo" / "Raw" / "synthetic_01" / "0001.mp4"


@pytest.fixture(scope="module")
def sentence() -> np.ndarray:
    samples = decode_audio(CLIP, 0.0, None, SAMPLE_RATE)
    assert samples is not None
    return samples


def chords(seconds: float) -> np.ndarray:
    """[samples] float32: struck chords of five sines each, twice a second."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    partials = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 277.2, 329.6, 440.0, 554.4))
    return (0.15 * partials * np.exp(-3 * (time % 0.5))).astype(np.float32)


def nothing(kind: str) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(8 * SAMPLE_RATE).astype(np.float32)
    return {
        "silence": np.zeros(8 * SAMPLE_RATE, np.float32), "noise": 0.1 * noise, "quiet": 0.003 * noise,
        "music": chords(8.0), "empty": np.zeros(0, np.float32), "one window": 0.1 * noise[:512],
        "not a number": np.full(SAMPLE_RATE, np.nan, np.float32),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["silence", "noise", "quiet", "music", "empty", "one window", "not a number"])
def test_nobody_speaks(kind: str):
    assert voice_spans(nothing(kind)) == []


def test_two_sentences_are_two_spans_where_they_are(sentence: np.ndarray):
    length, gap = len(sentence) / SAMPLE_RATE, 2.0
    pause = np.zeros(int(gap * SAMPLE_RATE), np.float32)
    first, second = voice_spans(np.concatenate([pause, sentence, pause, sentence, pause]))
    assert gap - 0.2 <= first.start < first.end <= gap + length + 0.2
    assert 2 * gap + length - 0.2 <= second.start < second.end <= 2 * (gap + length) + 0.2
    assert joined([first, second], 30.0) == [Span(first.start, second.end)]
    assert joined([first, second], 3.0) == [first, second]
    whole = voice_spans(np.concatenate([sentence, pause, sentence]), settings=VoiceSettings(pause=10.0))
    assert len(whole) == 1


def test_another_rate_gives_the_same_seconds(sentence: np.ndarray):
    import soxr

    (here,) = voice_spans(sentence)
    (there,) = voice_spans(soxr.resample(sentence, SAMPLE_RATE, 44_100), 44_100)
    assert there.start == pytest.approx(here.start, abs=0.1)
    assert there.end == pytest.approx(here.end, abs=0.1)


def test_without_its_package_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, sentence: np.ndarray):
    module._detector.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "faster_whisper", None)
    with pytest.raises(MissingExtraError, match=r"demeanor\[speech\]"):
        voice_spans(sentence)
    module._detector.cache_clear()
