"""A conversation in numbers: who speaks how much, silence, interruptions, the course of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from demeanor.data.task import Task
from demeanor.timeline.table import Span, Timeline

#: Draws of the interval of a trend, and its level.
DRAWS, LEVEL = 1000, 0.95
#: Changes that are named.
NAMED = 3


@dataclass(frozen=True)
class Speaker:
    """seconds of talking, turns (a run of utterances that nobody else's comes between), interruptions of others."""

    name: str
    seconds: float
    turns: int
    utterances: int
    interruptions: int


@dataclass(frozen=True)
class Change:
    """Between two neighbouring utterances: when the second begins, in seconds, and by how much."""

    time: float
    before: float | str
    after: float | str
    size: float


@dataclass(frozen=True)
class Course:
    """One task over the recording.

    mean    of a number, weighted by seconds; None for classes
    slope   units per minute, with its bootstrap interval over utterances; None where there are fewer than three
    shares  class -> share of the answered seconds
    """

    task: str
    mean: float | None
    slope: float | None
    low: float | None
    high: float | None
    shares: dict[str, float]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Summary:
    """silence: share of the recording in which nobody speaks; overlap: share in which several do."""

    recording: str
    duration: float
    speakers: tuple[Speaker, ...]
    silence: float
    overlap: float
    courses: tuple[Course, ...]

    def __str__(self) -> str:
        lines = [f"{self.recording}: {self.duration:.1f} s, {self.silence:.0%} silence, {self.overlap:.0%} overlap"]
        for one in self.speakers:
            lines.append(
                f"  {one.name or 'unknown speaker'}: {one.seconds:.1f} s in {one.turns} turns, "
                f"{one.interruptions} interruptions"
            )
        for course in self.courses:
            if course.mean is not None:
                trend = ""
                if course.slope is not None:
                    trend = f", {course.slope:+.2f} a minute [{course.low:+.2f}, {course.high:+.2f}]"
                lines.append(f"  {course.task}: {course.mean:+.2f} on average{trend}")
            elif course.shares:
                ranked = sorted(course.shares.items(), key=lambda pair: -pair[1])[:3]
                lines.append(
                    f"  {course.task}: " + ", ".join(f"{name or 'none'} {share:.0%}" for name, share in ranked)
                )
            lines += [
                f"    at {change.time:.1f} s from {_short(change.before)} to {_short(change.after)}"
                for change in course.changes
            ]
        return "\n".join(lines)


def _short(value: float | str) -> str:
    return f"{value:+.2f}" if isinstance(value, float | int) else value or "none"


def summary_of(timeline: Timeline) -> Summary:
    """Of the utterances; windows inside them are not counted again, nor spans wholly past the end of the recording."""
    spans = timeline.utterances
    duration = timeline.header.duration or max((span.end for span in spans), default=0.0)
    spans = tuple(span for span in spans if span.start < duration)
    some, several = _covered(spans, 1), _covered(spans, 2)
    return Summary(
        recording=timeline.header.recording, duration=duration, speakers=_speakers(spans),
        silence=min(max(1 - some / duration, 0.0), 1.0) if duration else 0.0,
        overlap=min(several / duration, 1.0) if duration else 0.0,
        courses=tuple(_course(spans, task) for task in timeline.tasks),
    )  # fmt: skip


def _covered(spans: Sequence[Span], least: int) -> float:
    """Seconds in which at least so many spans are going on."""
    events = sorted([(span.start, 1) for span in spans] + [(span.end, -1) for span in spans])
    covered, going, position = 0.0, 0, 0.0
    for time, step in events:
        covered += time - position if going >= least else 0.0
        going, position = going + step, time
    return covered


def _speakers(spans: Sequence[Span]) -> tuple[Speaker, ...]:
    names = list(dict.fromkeys(span.speaker for span in spans))
    found = []
    for name in names:
        own = [span for span in spans if span.speaker == name]
        turns = sum(
            1 for place, span in enumerate(spans)
            if span.speaker == name and (place == 0 or spans[place - 1].speaker != name)
        )  # fmt: skip
        breaks = sum(
            1 for span in own
            if any(other.speaker != name and other.start < span.start < other.end - 0.2 for other in spans)
        )  # fmt: skip
        found.append(Speaker(name, round(sum(span.seconds for span in own), 3), turns, len(own), breaks))
    return tuple(found)


def _course(spans: Sequence[Span], task: Task) -> Course:
    answered = [
        span for span in spans if span.answers[task.name].answered and span.answers[task.name].value is not None
    ]
    values = [span.answers[task.name].value for span in answered]
    weights = np.array([span.seconds for span in answered])
    if task.kind != "regression":
        shares: dict[str, float] = {}
        for value, weight in zip(values, weights, strict=True):
            shares[str(value)] = shares.get(str(value), 0.0) + float(weight / weights.sum())
        changes = [
            Change(span.start, str(before.answers[task.name].value), str(span.answers[task.name].value),
                   _distance(before, span, task))
            for before, span in pairwise(answered)
            if before.answers[task.name].value != span.answers[task.name].value
        ]  # fmt: skip
        return Course(task.name, None, None, None, None, shares, _largest(changes))
    numbers = np.array(values, dtype=float)
    if not len(numbers):
        return Course(task.name, None, None, None, None, {}, ())
    times = np.array([(span.start + span.end) / 120 for span in answered])
    slope, low, high = _trend(times, numbers)
    changes = [
        Change(span.start, float(first), float(second), abs(float(second - first)))
        for span, first, second in zip(answered[1:], numbers, numbers[1:], strict=False)
    ]
    mean = float(np.average(numbers, weights=weights))
    return Course(task.name, mean, slope, low, high, {}, _largest(changes))


def _distance(before: Span, after: Span, task: Task) -> float:
    """Half the sum of the differences of all probabilities, in [0, 1]."""
    one, other = before.answers[task.name].probabilities, after.answers[task.name].probabilities
    return sum(abs(one.get(label, 0.0) - other.get(label, 0.0)) for label in task.classes) / 2


def _largest(changes: Sequence[Change]) -> tuple[Change, ...]:
    chosen = sorted(changes, key=lambda change: -change.size)[:NAMED]
    return tuple(sorted(chosen, key=lambda change: change.time))


def _trend(times: np.ndarray, values: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Slope by least squares, with the percentile interval of a bootstrap over utterances."""
    if len(values) < 3 or np.ptp(times) == 0:
        return None, None, None
    random = np.random.default_rng(0)
    draws = random.integers(len(values), size=(DRAWS, len(values)))
    drawn, heights = times[draws], values[draws]
    centred = drawn - drawn.mean(axis=1, keepdims=True)
    below = (centred**2).sum(axis=1)
    own = times - times.mean()
    # One utterance drawn again and again has no slope; rounding leaves a trace of one.
    usable = below > 1e-9 * (own**2).sum()
    slopes = (centred * heights).sum(axis=1)[usable] / below[usable]
    low, high = np.percentile(slopes, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float((own * values).sum() / (own**2).sum()), float(low), float(high)
