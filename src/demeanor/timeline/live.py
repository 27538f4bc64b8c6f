"""Windows as they come: a recording that is still being written is scored every few seconds.

A window is scored once all of it is there, so that its answer comes at most `step` seconds of recording, plus the time
of scoring it, behind what was said at its end. What can be read before it is complete can be followed: WAV, Matroska
and WebM, MPEG-TS, Ogg, MP3; an mp4 has its index at its end and cannot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demeanor.data.errors import InputError
from demeanor.features.base import SAMPLE_RATE
from demeanor.features.media import MediaError, probe
from demeanor.features.sound import stream_samples
from demeanor.inference.describe import records_of
from demeanor.timeline.hearing import Hearing
from demeanor.timeline.scoring import Scorer, answer_of
from demeanor.timeline.table import Answer, to_millisecond


@dataclass(frozen=True)
class LiveWindow:
    """start, end  seconds of the recording
    voice       is somebody heard in it? Without a voice nothing is scored
    answers     task -> Answer
    delay       seconds from when the end of the window was read to its answer
    text        words that were recognised in it, for a model that reads words; empty without a recogniser
    """

    start: float
    end: float
    voice: bool
    answers: dict[str, Answer]
    delay: float
    problem: str = ""
    text: str = ""


def follow(
    recording: Path,
    scorer: Scorer,
    hearing: Hearing,
    *,
    window: float = 10.0,
    step: float = 3.0,
    patience: float = 5.0,
    wait: Callable[[float], Any] = time.sleep,
    poll: float = 0.5,
) -> Iterator[LiveWindow]:
    """The last `window` seconds at every `step`, as the recording grows; ends when it has not grown for `patience`.

    What remains at the end is a window as well. InputError for a recording that cannot be read while it grows.
    """
    end, known, idle = 0.0, -1, 0.0
    while True:
        size = recording.stat().st_size if recording.is_file() else 0
        if size == known:
            idle += poll
            if idle >= patience:
                break
            wait(poll)
            continue
        known, idle = size, 0.0
        length = _length(recording, end)
        while length - end >= step:
            end = to_millisecond(end + step)
            yield _scored(recording, scorer, hearing, max(0.0, end - window), end)
    length = _length(recording, end)
    if known <= 0 or (length <= 0.0 and end == 0.0):
        raise InputError(
            str(recording), ["nothing of it could be read while it was being written"],
            "Record into .wav, .mkv, .webm, .ts, .ogg or .mp3; an mp4 can be read only when it is complete.",
        )  # fmt: skip
    if length - end >= 0.25:
        length = to_millisecond(length)
        yield _scored(recording, scorer, hearing, max(0.0, length - window), length)


def _length(recording: Path, known: float) -> float:
    """Seconds of sound that are there; only what came after `known` is decoded."""
    try:
        count = sum(len(block) for block in stream_samples(recording, SAMPLE_RATE, known))
    except MediaError:  # its head is not there yet
        return known
    return known + count / SAMPLE_RATE


def _scored(recording: Path, scorer: Scorer, hearing: Hearing, start: float, end: float) -> LiveWindow:
    began = time.monotonic()
    blocks = list(stream_samples(recording, SAMPLE_RATE, start, end))
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if not hearing.detector(samples, SAMPLE_RATE):
        return LiveWindow(start, end, False, {}, time.monotonic() - began)
    column = "video" if probe(recording).has_video else "audio"
    row = {"utterance_id": f"{end:.3f}", column: str(recording), "start": start, "end": end, "text": None}
    records = [records_of(table)[0] for table in scorer.score([row])]
    answers = {
        model.task.name: answer_of(record, model.task) for model, record in zip(scorer.headers, records, strict=True)
    }
    problems = dict.fromkeys(str(record["problem"] or "") for record in records)
    problem = "; ".join(told for told in problems if told)
    heard = next((str(record["transcript"]) for record in records if record.get("transcript")), "")
    return LiveWindow(start, end, True, answers, time.monotonic() - began, problem, heard)
