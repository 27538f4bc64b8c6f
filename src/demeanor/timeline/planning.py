"""What of a recording will be scored: its voice, its turns, its utterances with their windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from demeanor import __version__
from demeanor.data.errors import InputError, MissingExtraError
from demeanor.data.files import sha256_of_file
from demeanor.features.media import MediaInfo, probe
from demeanor.timeline.formats import read_spans
from demeanor.timeline.given import GivenSpan, checked
from demeanor.timeline.hearing import Hearing, energy, hear, silero
from demeanor.timeline.segments import (
    Segment,
    SegmentSettings,
    TimedWord,
    turns_of,
    utterances_of,
    windows_of,
    with_overlaps,
    with_words,
)
from demeanor.timeline.sides import KnownWords
from demeanor.timeline.table import Header, Span, SpokenWord
from demeanor.timeline.words import AUTO, Recogniser, recogniser_of

CHANNELS = "channels"
#: How the problem of a span begins that is not scored at all.
BEYOND = "begins after the end of the recording"
#: Seconds by which a span may reach beyond the end of a recording without a word: containers round.
SLACK = 0.05


@dataclass(frozen=True)
class Options:
    """
    speakers    a file that says who speaks when (.rttm or any format of spans), "channels", spans, or None: unknown
    spans       a file of spans, or spans, that are scored as they are; None: they are found
    voice       "silero", "energy", or "auto": silero where its package is
    recogniser  "auto": the packaged one, where that is installed; "none": spans have the words that they were given;
                else a model's name or folder, or a recogniser. What has words already is not heard
    language    ISO 639-1 code of what is said; None: the one that a recogniser is sure of, else English
    processes   that score at the same time
    """

    speakers: Path | str | Sequence[GivenSpan] | None = None
    spans: Path | str | Sequence[GivenSpan] | None = None
    voice: str = "auto"
    recogniser: Recogniser | str | None = AUTO
    language: str | None = None
    segments: SegmentSettings = field(default_factory=SegmentSettings)
    processes: int = 1


@dataclass(frozen=True)
class Plan:
    """What will be scored: utterances with their windows, and the header without the models."""

    header: Header
    spans: tuple[Span, ...]
    channels: dict[str, int]
    info: MediaInfo


def plan(path: Path, options: Options, name: str | None = None, output: Path | None = None) -> Plan:
    """Everything that can be known before a model is asked. What is heard is kept beside `output`, see KnownWords."""
    info = probe(path)
    digest = sha256_of_file(path)
    hear_words = _Listener(path, info, options, KnownWords(output, digest))
    recording = name or path.stem
    remarks: list[str] = []
    channels: dict[str, int] = {}
    speakers, where = _speakers(options)
    if options.spans is not None:
        given = _given(options.spans)
        duration = info.duration
        found, voice_name = "spans were given", ""
        heard_words = hear_words([span for span in given if not span.text], {}, remarks)
        pieces = with_words(
            [Segment(span.start, span.end, span.speaker, span.text) for span in given], heard_words.words
        )
        where = where or ("the spans" if any(piece.speaker for piece in pieces) else "")
    else:
        hearing = hearing_of(options.voice)
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
        heard_words = hear_words([turn for turn in turns if not turn.text], channels, remarks)
        pieces = utterances_of(turns, heard_words.words, options.segments.model_copy(update={"silence": silence}))
    header = Header(
        recording=recording, medium=str(path), duration=duration, frame_rate=info.frame_rate,
        sha256=digest, voice_activity=voice_name, speakers=where or "unknown",
        recognition=heard_words.source, remarks=tuple(remarks),
        segmentation={**options.segments.model_dump(), "from": found}, demeanor=__version__,
    )  # fmt: skip
    return Plan(header, tuple(_spans(pieces, recording, duration, options, heard_words)), channels, info)


@dataclass(frozen=True)
class _Words:
    """What was recognised: `source` is empty where nothing had to be heard, or could be."""

    words: tuple[TimedWord, ...] = ()
    source: str = ""
    language: str = ""


@dataclass(frozen=True)
class _Listener:
    """Hears words of one recording."""

    path: Path
    info: MediaInfo
    options: Options
    known: KnownWords

    def __call__(self, silent: Sequence[GivenSpan], channels: Mapping[str, int], remarks: list[str]) -> _Words:
        """Of the turns or spans that have none; of channels those of each with whom it belongs to."""
        if not silent or not self.info.has_audio:
            return _Words()
        options = self.options
        recogniser, remark = recogniser_of(options.recogniser, options.language, options.processes, self.known)
        remarks += [remark] if remark else []
        if recogniser is None:
            return _Words()
        if not channels:
            words, language = recogniser.recognise(self.path, silent, None)
            return _Words(tuple(words), recogniser.name, language)
        found: list[TimedWord] = []
        languages = []
        for speaker, channel in channels.items():
            own = [span for span in silent if span.speaker == speaker]
            if own:
                words, language = recogniser.recognise(self.path, own, channel)
                found += [replace(word, speaker=speaker) for word in words]
                languages += [language] * len(words)
        return _Words(tuple(found), recogniser.name, max(languages, key=languages.count, default=""))


def hearing_of(choice: str) -> Hearing:
    """Of "silero", "energy" or "auto"; MissingExtraError for silero without its package.

    InputError for another word.
    """
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


def _spans(
    pieces: Sequence[Segment], recording: str, duration: float | None, options: Options, heard: _Words
) -> list[Span]:
    """Utterances and their windows; what lies past the end of the recording is cut, or has its problem."""
    limited = [_limited(piece, duration) for piece in pieces]
    inside = iter(with_overlaps([piece for piece, problem in limited if not problem.startswith(BEYOND)]))
    made: list[Span] = []
    for number, (limit, problem) in enumerate(limited, 1):
        piece = limit if problem.startswith(BEYOND) else next(inside)
        name = f"u{number:04d}"
        known = [word.confidence for word in piece.words if word.confidence is not None]
        source = heard.source if piece.words else "given"
        common: dict[str, Any] = {
            "recording": recording,
            "speaker": piece.speaker,
            "language": options.language or (heard.language if piece.words else "") or "en",
            "text_confidence": min(max(sum(known) / len(known), 0.0), 1.0) if known else None,
        }
        parts = [("", name, piece)]
        if not problem.startswith(BEYOND):
            windows = windows_of(piece, options.segments)
            parts += [(name, f"{name}.{place}", window) for place, window in enumerate(windows, 1)]
        for parent, own, part in parts:
            seen: dict[str, Any] = {"start": part.start, "end": part.end, "overlap": part.overlap}
            seen |= {"text": part.text, "text_source": source if part.text else ""}
            seen |= {"word_times": tuple(_spoken(word) for word in part.words)}
            made.append(Span(span=own, parent=parent, problem="" if parent else problem, **seen, **common))
    return made


def _spoken(word: TimedWord) -> SpokenWord:
    confidence = None if word.confidence is None else min(max(word.confidence, 0.0), 1.0)
    return SpokenWord(word.text.strip(), word.start, word.end, confidence)


def _limited(piece: Segment, duration: float | None) -> tuple[Segment, str]:
    """The piece within the recording, and what is to be said about it."""
    if duration is None or piece.end <= duration:
        return piece, ""
    if piece.start >= duration - 0.001:
        return piece, f"{BEYOND}, which is {duration:.3f} s long"
    told = f"ends after the end of the recording ({duration:.3f} s) and is cut there"
    return replace(piece, end=duration), told if piece.end > duration + SLACK else ""
