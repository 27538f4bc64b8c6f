"""Windows as they come: a recording that is still being written, or a stream of sound, is scored every few seconds.

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
from jaxtyping import Float32

from demeanor.data.errors import InputError
from demeanor.features.clip import SAMPLE_RATE
from demeanor.features.media import MediaError, probe
from demeanor.features.piped import Bare, Read, piped_samples
from demeanor.features.sound import stream_samples
from demeanor.inference.describe import records_of
from demeanor.timeline.hearing import Hearing, wave_file
from demeanor.timeline.incoming import Incoming
from demeanor.timeline.scoring import Scorer, answer_of
from demeanor.timeline.table import Answer, to_millisecond

#: Seconds of an end that are still a window.
SHORTEST = 0.25


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
            yield _scored_file(recording, scorer, hearing, max(0.0, end - window), end)
    length = _length(recording, end)
    if known <= 0 or (length <= 0.0 and end == 0.0):
        raise InputError(
            str(recording), ["nothing of it could be read while it was being written"],
            "Record into .wav, .mkv, .webm, .ts, .ogg or .mp3; an mp4 can be read only when it is complete.",
        )  # fmt: skip
    if length - end >= SHORTEST:
        length = to_millisecond(length)
        yield _scored_file(recording, scorer, hearing, max(0.0, length - window), length)


def _length(recording: Path, known: float) -> float:
    """Seconds of sound that are there; only what came after `known` is decoded."""
    try:
        count = sum(len(block) for block in stream_samples(recording, SAMPLE_RATE, known))
    except MediaError:  # its head is not there yet
        return known
    return known + count / SAMPLE_RATE


def follow_pipe(
    read: Read, scorer: Scorer, hearing: Hearing, *, window: float = 10.0, step: float = 3.0, bare: Bare | None = None
) -> Iterator[LiveWindow]:
    """The same of a stream of sound that comes through a pipe, until it ends.

    read  gives the bytes that are there; see demeanor.features.piped for what they may be
    bare  rate and channels of bare samples
    MediaError for a stream that is no sound. InputError where it ends before anything came.
    """
    sound = Incoming(piped_samples(read, bare))
    end = 0.0
    while sound.wait(to_millisecond(end + step)):
        end = to_millisecond(end + step)
        yield _scored_part(sound, scorer, hearing, max(0.0, end - window), end)
    length = to_millisecond(sound.seconds)
    if length <= 0.0:
        raise InputError("standard input", ["it ended before any sound came"], "Pipe a recorder into it.")
    if length - end >= SHORTEST:
        yield _scored_part(sound, scorer, hearing, max(0.0, length - window), length)


def _scored_part(sound: Incoming, scorer: Scorer, hearing: Hearing, start: float, end: float) -> LiveWindow:
    samples, came = sound.between(start, end)
    row = {"audio_bytes": wave_file(samples), "start": 0.0, "end": to_millisecond(end - start)}
    return _scored(samples, row, scorer, hearing, start, end, came)


def _scored_file(recording: Path, scorer: Scorer, hearing: Hearing, start: float, end: float) -> LiveWindow:
    came = time.monotonic()
    blocks = list(stream_samples(recording, SAMPLE_RATE, start, end))
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    column = "video" if probe(recording).has_video else "audio"
    return _scored(samples, {column: str(recording), "start": start, "end": end}, scorer, hearing, start, end, came)


def _scored(
    samples: Float32[np.ndarray, " samples"],
    row: dict[str, Any],
    scorer: Scorer,
    hearing: Hearing,
    start: float,
    end: float,
    came: float,
) -> LiveWindow:
    """`came`: when the end of the window was there (time.monotonic)."""
    if not hearing.detector(samples, SAMPLE_RATE):
        return LiveWindow(start, end, False, {}, time.monotonic() - came)
    records = [records_of(table)[0] for table in scorer.score([{"utterance_id": f"{end:.3f}", "text": None, **row}])]
    answers = {
        model.task.name: answer_of(record, model.task) for model, record in zip(scorer.headers, records, strict=True)
    }
    problems = dict.fromkeys(str(record["problem"] or "") for record in records)
    problem = "; ".join(told for told in problems if told)
    heard = next((str(record["transcript"]) for record in records if record.get("transcript")), "")
    return LiveWindow(start, end, True, answers, time.monotonic() - came, problem, heard)
