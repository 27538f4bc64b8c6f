"""Timelines and recordings that the tests make themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from demeanor.data.task import Task
from demeanor.timeline.table import Answer, Header, ModelHeader, Span, SpokenWord, Timeline

SENTIMENT = Task(name="sentiment", kind="regression", column="sentiment")
EMOTION = Task(name="emotion", kind="classification", column="emotion", classes=("happiness", "sadness", "anger"))
RATE = 16_000
#: As a recogniser gives them: the second begins within the first, the last lies at the end and has no length.
WORDS = (
    SpokenWord('"She', 0.05, 0.4, 0.25), SpokenWord("said", 0.3995, 0.75), SpokenWord("没有", 1.9, 1.9, 1.0),
    SpokenWord("left.", 2.1, 2.2, 0.5),
)  # fmt: skip


def timeline(tasks: tuple[Task, ...] = (SENTIMENT, EMOTION)) -> Timeline:
    models = tuple(
        ModelHeader(uri=f"folder/{task.name}", branch="b", system="late_fusion", weights_sha256="ab", task=task)
        for task in tasks
    )
    header = Header(
        recording="interview", medium="clips/interview.mp4", duration=20.0, models=models, demeanor="1", sha256="cd"
    )

    def answers(number: float, label: str) -> dict[str, Answer]:
        shares = {"happiness": 0.2, "sadness": 0.3, "anger": 0.5}
        made = {
            "sentiment": Answer(number, {}, number - 0.5, number + 0.5, 0.9, True, {"text": 0.25}, 0.125),
            "emotion": Answer(label, shares, None, None, 0.5, True),
        }
        return {task.name: made[task.name] for task in tasks}

    none = {task.name: Answer() for task in tasks}
    spans = (
        Span("interview", "u0001", 0.1234, 2.001, "", "ann", 0.75, 0.0, 'She said "no" # twice & <left>.', "given", 0.5,
             WORDS, "en", ("audio", "text"), {"vision": "no face"}, answers(-1.25, "anger")),
        Span("interview", "u0002", 1.5, 19.999, "", "bob smith", None, 0.027, "Nä, 好的\u2028.", "given", None, (),
             "en", ("text",), {}, answers(0.1, "happiness"), "without audio: damaged"),
        Span("interview", "u0002.1", 1.5, 11.5, "u0002", "bob smith", answers=answers(0.2, "sadness"),
             modalities=("audio",)),
        Span("interview", "u0003", 19.999, 20.0, answers=none, problem="nothing in it"),
    )  # fmt: skip
    return Timeline(header, spans)


def write_wav(path: Path, *channels: np.ndarray, rate: int = RATE) -> Path:
    """Channels of samples in [-1, 1] as 16-bit PCM."""
    import wave

    values = np.stack(channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(values, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def voice(seconds: float, pitch: float = 140.0, rate: int = RATE) -> np.ndarray:
    """A hum with the harmonics and syllables of a voice; an energy detector hears it, nobody understands it."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * pitch * harmonic * time) / harmonic for harmonic in range(1, 12))
    return 0.1 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))


def silence(seconds: float, rate: int = RATE) -> np.ndarray:
    return 1e-4 * np.random.default_rng(0).standard_normal(round(seconds * rate))


__all__ = ["EMOTION", "RATE", "SENTIMENT", "silence", "timeline", "voice", "write_wav"]
