"""From a recording to its timeline: hear, cut, score, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from demeanor import __version__
from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of, sha256_of_file
from demeanor.data.progress import Progress
from demeanor.features.media import MediaInfo, probe
from demeanor.timeline.formats import read_spans
from demeanor.timeline.given import GivenSpan, checked
from demeanor.timeline.hearing import Hearing, energy, hear, silero, wave_of
from demeanor.timeline.scoring import Scorer, answer_of, mean_answer, score_all
from demeanor.timeline.segments import (
    Segment,
    SegmentSettings,
    TimedWord,
    turns_of,
    utterances_of,
    windows_of,
    with_overlaps,
)
from demeanor.timeline.sides import SideFiles
from demeanor.timeline.table import Header, Span, Timeline

CHANNELS = "channels"
#: Rows that are scored together; of a conversation as many turns, which see one another.
TOGETHER, TURNS = 16, 100
#: Seconds by which a span may reach beyond the end of a recording without a word: containers round.
SLACK = 0.05


@dataclass(frozen=True)
class Recogniser:
    """Words for spans without any. `recognise`: (recording, spans) -> words with times in the recording."""

    recognise: Callable[[Path, Sequence[GivenSpan]], Sequence[TimedWord]]
    name: str
    language: str = "en"


@dataclass(frozen=True)
class Options:
    """
    speakers    a file that says who speaks when (.rttm or any format of spans), "channels", spans, or None: unknown
    spans       a file of spans, or spans, that are scored as they are; None: they are found
    voice       "silero", "energy", or "auto": silero where its package is
    recogniser  None: spans have the words that they were given
    language    ISO 639-1 code of what is said
    processes   that score at the same time
    """

    speakers: Path | str | Sequence[GivenSpan] | None = None
    spans: Path | str | Sequence[GivenSpan] | None = None
    voice: str = "auto"
    recogniser: Recogniser | None = None
    language: str = "en"
    segments: SegmentSettings = field(default_factory=SegmentSettings)
    processes: int = 1


@dataclass(frozen=True)
class Plan:
    """What will be scored: utterances with their windows, and the header without the models."""

    header: Header
    spans: tuple[Span, ...]
    channels: dict[str, int]
    info: MediaInfo


def make_timeline(
    recording: Path | str,
    scorer: Scorer,
    options: Options | None = None,
    *,
    make: Callable[[], Scorer] | None = None,
    output: Path | None = None,
    name: str | None = None,
) -> Timeline:
    """The timeline of a recording.

    make    makes the scorer in other processes, for `options.processes` > 1
    output  where it will be written: a run that is killed goes on there, see SideFiles
    name    of the recording in the table; its file name without ending by default
    MediaError where the recording cannot be read, InputError where spans or speakers cannot.
    """
    options = options or Options()
    path = Path(recording)
    planned = plan(path, options, name)
    spans, header = planned.spans, planned.header.model_copy(update={"models": scorer.headers})
    scored = [span for span in spans if not span.problem.startswith(BEYOND) and not _has_windows(span, spans)]
    size = TURNS if scorer.in_dialogue else TOGETHER
    batches = [scored[start : start + size] for start in range(0, len(scored), size)]
    key = sha256_of([header.as_dict(), [(span.span, span.start, span.end, span.speaker, span.text) for span in spans]])
    kept = SideFiles(output, key)
    missing = [number for number in range(len(batches)) if number not in kept.done]
    with Progress("timeline", len(scored), "spans") as progress:
        progress.advance(sum(len(batches[number]) for number in kept.done))
        rows = _Batches([batches[number] for number in missing], path, planned, options)
        for place, answers in score_all(rows, scorer, make, options.processes):
            kept.keep(missing[place], answers)
            progress.advance(len(batches[missing[place]]))
    found = {
        span.span: [records[row] for records in kept.done[number]]
        for number, batch in enumerate(batches)
        for row, span in enumerate(batch)
    }
    made = Timeline(header, _answered(planned, header, found))
    made.check()
    return made


class _Batches(Sequence):
    """Rows of each batch, made when they are asked for: the sound of channels travels with them."""

    def __init__(self, batches: list[list[Span]], path: Path, planned: Plan, options: Options):
        self.batches, self.path, self.planned, self.options = batches, path, planned, options
        order = [span.span for span in planned.spans if not span.parent]
        self.turns = {name: turn for turn, name in enumerate(order)}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: Any) -> list[dict[str, Any]]:
        return [self._row(span) for span in self.batches[number]]

    def _row(self, span: Span) -> dict[str, Any]:
        info = self.planned.info
        row: dict[str, Any] = {
            "utterance_id": span.span, "start": span.start, "end": span.end, "text": span.text,
            "language": span.language, "speaker": span.speaker or None,
        }  # fmt: skip
        row["video" if info.has_video else "audio"] = str(self.path)
        channel = self.planned.channels.get(span.speaker)
        if channel is not None:
            row.pop("audio", None)
            row["audio_bytes"] = wave_of(self.path, span.start, span.end, channel)
        if not span.parent:
            row |= {"dialogue": span.recording, "turn": self.turns[span.span]}
        return row


def plan(path: Path, options: Options, name: str | None = None) -> Plan:
    """Everything that can be known before a model is asked."""
    info = probe(path)
    recording = name or path.stem
    remarks: list[str] = []
    channels: dict[str, int] = {}
    speakers, where = _speakers(options)
    if options.spans is not None:
        given = _given(options.spans)
        duration = info.duration
        found, voice_name = "spans were given", ""
        pieces = [Segment(span.start, span.end, span.speaker, span.text) for span in given]
        where = where or ("the spans" if any(piece.speaker for piece in pieces) else "")
    else:
        hearing = _hearing(options.voice)
        voice_name, found = hearing.name, "voice activity"
        voice: list[GivenSpan] = []
        if not info.has_audio:
            remarks.append("there is no sound track, so no spans were found: give them")
            heard_seconds = info.duration or 0.0
        elif options.speakers == CHANNELS:
            count = info.channels or 1
            channels = {f"channel {number + 1}": number for number in range(count)}
            heard = [hear(path, hearing, number, speaker) for speaker, number in channels.items()]
            voice = sorted((span for one in heard for span in one.spans), key=lambda span: (span.start, span.end))
            heard_seconds, where = max(one.seconds for one in heard), f"the {count} channels of the recording"
        else:
            one = hear(path, hearing)
            voice, heard_seconds = one.spans, one.seconds
        duration = max(info.duration or 0.0, heard_seconds)
        if info.has_audio and not voice:
            remarks.append("no voice was found")
        silence = max(options.segments.silence - 2 * hearing.padding, 0.05)
        turns = turns_of(voice, speakers)
        words = options.recogniser.recognise(path, turns) if options.recogniser and turns else ()
        pieces = utterances_of(turns, words, options.segments.model_copy(update={"silence": silence}))
    header = Header(
        recording=recording, medium=str(path), duration=duration, frame_rate=info.frame_rate,
        sha256=sha256_of_file(path), voice_activity=voice_name, speakers=where or "unknown",
        recognition=options.recogniser.name if options.recogniser else "", remarks=tuple(remarks),
        segmentation={**options.segments.model_dump(), "from": found}, demeanor=__version__,
    )  # fmt: skip
    return Plan(header, tuple(_spans(pieces, recording, duration, options)), channels, info)


def _hearing(choice: str) -> Hearing:
    from demeanor.data.errors import MissingExtraError

    if choice == "energy":
        return energy()
    if choice not in ("auto", "silero"):
        raise InputError("voice", [f"there is no voice activity '{choice[:40]}': auto, silero, energy"])
    try:
        return silero()
    except MissingExtraError:
        if choice == "silero":
            raise
        return energy()


def _given(source: Path | str | Sequence[GivenSpan]) -> list[GivenSpan]:
    if isinstance(source, Path | str):
        return read_spans(source)
    return sorted(checked(source, "spans"), key=lambda span: (span.start, span.end))


def _speakers(options: Options) -> tuple[list[GivenSpan], str]:
    """Who speaks when, and where that is known from."""
    source = options.speakers
    if source is None or source == CHANNELS:
        return [], ""
    if options.spans is not None:
        raise InputError("speakers", ["spans were given as well, and they say who speaks"], "Give one of the two.")
    return _given(source), Path(source).name if isinstance(source, Path | str) else "given"


BEYOND = "begins after the end of the recording"


def _spans(pieces: Sequence[Segment], recording: str, duration: float | None, options: Options) -> list[Span]:
    """Utterances and their windows; what lies past the end of the recording is cut, or has its problem."""
    limited = [_limited(piece, duration) for piece in pieces]
    inside = iter(with_overlaps([piece for piece, problem in limited if not problem.startswith(BEYOND)]))
    made: list[Span] = []
    for number, (limit, problem) in enumerate(limited, 1):
        piece = limit if problem.startswith(BEYOND) else next(inside)
        name = f"u{number:04d}"
        known = [word.confidence for word in piece.words if word.confidence is not None]
        source = options.recogniser.name if options.recogniser and options.spans is None else "given"
        common: dict[str, Any] = {
            "recording": recording,
            "speaker": piece.speaker,
            "language": options.language,
            "text_confidence": min(max(sum(known) / len(known), 0.0), 1.0) if known else None,
        }
        parts = [("", name, piece)]
        if not problem.startswith(BEYOND):
            windows = windows_of(piece, options.segments)
            parts += [(name, f"{name}.{place}", window) for place, window in enumerate(windows, 1)]
        for parent, own, part in parts:
            times = {"start": part.start, "end": part.end, "overlap": part.overlap}
            words = {"text": part.text, "text_source": source if part.text else ""}
            made.append(Span(span=own, parent=parent, problem="" if parent else problem, **times, **words, **common))
    return made


def _limited(piece: Segment, duration: float | None) -> tuple[Segment, str]:
    """The piece within the recording, and what is to be said about it."""
    if duration is None or piece.end <= duration:
        return piece, ""
    if piece.start >= duration - 0.001:
        return piece, f"{BEYOND}, which is {duration:.3f} s long"
    told = f"ends after the end of the recording ({duration:.3f} s) and is cut there"
    return replace(piece, end=duration), told if piece.end > duration + SLACK else ""


def _has_windows(span: Span, spans: Sequence[Span]) -> bool:
    return not span.parent and any(other.parent == span.span for other in spans)


def _answered(planned: Plan, header: Header, found: dict[str, list[dict[str, Any]]]) -> tuple[Span, ...]:
    """Spans with their answers; a longer utterance has the mean of those of its windows."""
    tasks = [model.task for model in header.models]
    made: list[Span] = []
    for span in planned.spans:
        records = found.get(span.span)
        if records is None:
            made.append(replace(span, answers={task.name: mean_answer([], task) for task in tasks}))
            continue
        answers = {task.name: answer_of(record, task) for task, record in zip(tasks, records, strict=True)}
        used = sorted({part for record in records for part in str(record["modalities"] or "").split("+") if part})
        problems = dict.fromkeys([span.problem, *(str(record["problem"] or "") for record in records)])
        absent = {
            name: _why_absent(name, span, planned.info)
            for name in sorted({stream.split(".", 1)[0] for model in header.models for stream in model.extractors})
            if name not in used
        }
        made.append(
            replace(
                span,
                answers=answers,
                modalities=tuple(used),
                absent=absent,
                problem="; ".join(problem for problem in problems if problem),
            )
        )
    windows: dict[str, list[Span]] = {}
    for span in made:
        if span.parent:
            windows.setdefault(span.parent, []).append(span)
    for place, span in enumerate(made):
        inside = windows.get(span.span)
        if inside:
            used = sorted({name for window in inside for name in window.modalities})
            answers = {task.name: mean_answer([window.answers[task.name] for window in inside], task) for task in tasks}
            absent = {name: why for window in inside for name, why in window.absent.items() if name not in used}
            made[place] = replace(span, answers=answers, modalities=tuple(used), absent=absent)
    return tuple(made)


def _why_absent(modality: str, span: Span, info: MediaInfo) -> str:
    if modality == "text":
        return "no words are known" if span.text is None else "its words could not be used"
    if modality == "audio":
        return "nothing is heard" if info.has_audio else "there is no sound track"
    return "no face was found" if info.has_video else "there is no picture"
