"""The timeline: a span of speech per row, an answer per task, and a header that says how it was made.

Times are seconds from the start of the recording, exact to the millisecond: they are rounded once, when a span is
made, and every file format gives them back as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd
from pydantic import Field, ValidationError

from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.inference.describe import plain

SCHEMA = 1
NOTE = "Expression is not feeling: these numbers describe what is said, heard and seen, not what somebody feels."


def milliseconds(seconds: float) -> int:
    """Whole milliseconds nearest to a time in seconds."""
    return round(seconds * 1000)


def to_millisecond(seconds: float) -> float:
    """The nearest number of seconds that is a whole millisecond."""
    return milliseconds(seconds) / 1000


@dataclass(frozen=True)
class SpokenWord:
    """A word as it was said: start and end in seconds of the recording, confidence of its recogniser in [0, 1]."""

    word: str
    start: float
    end: float
    confidence: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", to_millisecond(self.start))
        object.__setattr__(self, "end", to_millisecond(self.end))


@dataclass(frozen=True)
class Answer:
    """What one model says of one span.

    value          a number for regression, a class for classification, classes joined by "+" for several; None: none
    probabilities  class -> share in [0, 1]
    low, high      interval of a number, in the units of the task
    confidence     in [0, 1]
    answered       False where there is no answer, or where the model abstained
    contributions  modality -> its share of the answer, in the units of the task
    conflict       how far the modalities disagree, in [0, 1]; from a model that only says whether, 0 or 1
    notes          what the model says of its answer: what it was not given, was not trained for, or why it withheld it
    """

    value: float | str | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    answered: bool = False
    contributions: Mapping[str, float] = field(default_factory=dict)
    conflict: float | None = None
    notes: str = ""


@dataclass(frozen=True)
class Span:
    """Some seconds of a recording in which one person speaks.

    span        its name within the timeline: u0001 of an utterance, u0001.2 of the second window inside it
    parent      the utterance that a window lies in; empty for an utterance
    start, end  seconds
    overlap     share of it during which somebody else speaks as well, in [0, 1]
    text_source "given", or by which recogniser
    word_times  the words of `text` one by one, where they were recognised; a word may reach some tenths of a second
                beyond the span
    modalities  those that an answer was made from
    absent      modality -> why it was not used
    answers     task -> Answer
    problem     why there is no answer, or what of the span was left out; empty where nothing was
    """

    recording: str
    span: str
    start: float
    end: float
    parent: str = ""
    speaker: str = ""
    speaker_confidence: float | None = None
    overlap: float = 0.0
    text: str | None = None
    text_source: str = ""
    text_confidence: float | None = None
    word_times: tuple[SpokenWord, ...] = ()
    language: str = ""
    modalities: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)
    problem: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", to_millisecond(self.start))
        object.__setattr__(self, "end", to_millisecond(self.end))

    @property
    def seconds(self) -> float:
        """Its length, to the millisecond."""
        return to_millisecond(self.end - self.start)


class ModelHeader(Settings):
    """One model that answered."""

    uri: str = Field(description="address in the registry, or the folder of the bundle")
    branch: str
    system: str
    version: str = ""
    weights_sha256: str
    task: Task
    licence: str = ""
    extractors: dict[str, str] = Field(default_factory=dict, description="stream -> fingerprint of its maker")
    extractor_licences: dict[str, str] = Field(default_factory=dict, description="stream -> licence of its maker")
    calibration: str = Field(default="none", description="on which split probabilities were calibrated")


class Header(Settings):
    """How a timeline was made."""

    schema_version: int = SCHEMA
    recording: str
    medium: str = Field(default="", description="the caller's path of the recording, as the page plays it")
    duration: float | None = Field(default=None, description="seconds")
    frame_rate: float | None = Field(default=None, description="pictures per second")
    sha256: str = Field(default="", description="of the recording")
    models: tuple[ModelHeader, ...] = ()
    voice_activity: str = Field(default="", description="what found the voice, with its version")
    speakers: str = Field(default="", description="where speakers come from")
    recognition: str = Field(default="", description="what recognised the words, with its version")
    segmentation: dict[str, Any] = Field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    demeanor: str = Field(default="", description="version that made it")
    note: str = NOTE


@dataclass(frozen=True)
class Timeline:
    """Spans in order of their starts, windows behind the utterance that they lie in."""

    header: Header
    spans: tuple[Span, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The task of each model."""
        return tuple(model.task for model in self.header.models)

    @property
    def utterances(self) -> tuple[Span, ...]:
        """The spans that are no windows of another."""
        return tuple(span for span in self.spans if not span.parent)

    def windows(self, span: Span) -> tuple[Span, ...]:
        """The windows into which an utterance was cut."""
        return tuple(other for other in self.spans if other.parent == span.span)

    def with_spans(self, spans: Sequence[Span]) -> Timeline:
        """The same header over other spans."""
        return replace(self, spans=tuple(spans))

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; `from_dict` gives the same timeline back."""
        return {"header": self.header.as_dict(), "spans": [plain(asdict(span)) for span in self.spans]}

    @classmethod
    def from_dict(cls, content: Any, where: str) -> Timeline:
        """InputError where it is no timeline, or where it contradicts itself."""
        try:
            header = Header.model_validate(content["header"])
            spans = tuple(_span(entry) for entry in content["spans"])
        except ValidationError as error:
            problems = [f"header, {'.'.join(map(str, part['loc']))[:80]}: {part['msg']}" for part in error.errors()]
            raise InputError(where, problems) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(where, [f"is no timeline ({type(error).__name__})"]) from None
        made = cls(header, spans)
        made.check(where)
        return made

    def check(self, where: str = "timeline") -> None:
        """InputError lists everything that contradicts itself."""
        problems, names = [], set()
        for number, span in enumerate(self.spans, 1):
            place = f"span {number}"
            if span.span in names:
                problems.append(f"{place}: its name is used twice")
            if span.parent and span.parent not in names:
                problems.append(f"{place}: the utterance that it lies in does not stand before it")
            names.add(span.span)
            if not 0 <= span.start < span.end:
                problems.append(f"{place}: its end is not after its start")
            shares = [span.overlap, span.speaker_confidence, span.text_confidence]
            shares += [word.confidence for word in span.word_times]
            if any(not 0 <= word.start <= word.end for word in span.word_times):
                problems.append(f"{place}: the end of a word lies before its start")
            for task in self.tasks:
                answer = span.answers.get(task.name)
                if answer is None:
                    problems.append(f"{place}: nothing about the task {task.name}")
                    continue
                shares += [answer.confidence, *answer.probabilities.values()]
                if answer.answered and answer.value is None:
                    problems.append(f"{place}: {task.name} is answered without an answer")
                if set(answer.probabilities) - set(task.classes):
                    problems.append(f"{place}: {task.name} has classes that its task has not")
            if any(share is not None and not -1e-9 <= share <= 1 + 1e-9 for share in shares):
                problems.append(f"{place}: a share lies outside of 0 and 1")
        if problems:
            raise InputError(where, problems)

    def to_frame(self) -> pd.DataFrame:
        """One row per span; see `columns_of`."""
        from demeanor.timeline.columns import frame_of

        return frame_of(self)


def _span(entry: Any) -> Span:
    answers = {task: Answer(**answer) for task, answer in entry["answers"].items()}
    words = tuple(SpokenWord(**word) for word in entry.get("word_times", ()))
    values = {**entry, "answers": answers, "modalities": tuple(entry["modalities"]), "word_times": words}
    if not all(isinstance(values[name], int | float) for name in ("start", "end")):
        raise TypeError("times are numbers")
    return Span(**values)
