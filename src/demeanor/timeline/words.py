"""Words of a recording that came without any: heard over its voice by the packaged recogniser, or by another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from demeanor.data.errors import DemeanorError, MissingExtraError
from demeanor.data.progress import Progress
from demeanor.features.clip import SAMPLE_RATE
from demeanor.features.sound import stream_samples
from demeanor.timeline.given import GivenSpan
from demeanor.timeline.segments import TimedWord
from demeanor.timeline.sides import KnownWords

if TYPE_CHECKING:
    from demeanor.features.clip import Word
    from demeanor.features.recognition import RecognitionSettings

AUTO, NONE = "auto", "none"
ADVICE = "no words were recognised: pip install 'demeanor[speech]', or give spans with their text"
#: Seconds of voice, pauses included, that are held and heard at once; flat memory for any recording.
HELD = 480.0
#: Seconds of voice that are heard together, as many as Whisper's thirty hold; a longer stretch is cut at its quietest
#: place beyond the half of it. On 101 s of the demo's voices 8, 13, 18 and 28 s take 5.9, 9.4, 7.0 and 8.9 s of
#: processor time, with 32, 30, 31 and 22 % of 292 words wrong: what was said before tells much of what comes next.
LONGEST = 28.0
#: Seconds that are heard on both sides of a voice, for soft beginnings and ends; of a pause no more than twice that.
AROUND = 0.15
Stretch = tuple[float, float]


@dataclass(frozen=True)
class Recogniser:
    """Words for stretches of a recording without any.

    recognise  (recording, stretches in order, number of the channel or None for all mixed) -> words with times in the
               recording, and the ISO 639-1 code of their language
    """

    recognise: Callable[[Path, Sequence[GivenSpan], int | None], tuple[list[TimedWord], str]]
    name: str


def recogniser_of(
    choice: Recogniser | str | None, language: str | None, workers: int = 1, known: KnownWords | None = None
) -> tuple[Recogniser | None, str]:
    """A recogniser and a remark: "auto" is the packaged one and without its package none, with a sentence about it.

    choice    "auto", "none" or None, the name or folder of a model, or a recogniser
    language  ISO 639-1 code of what is said; None: that which the recogniser is sure of
    workers   passes at the same time
    known     what a run that was stopped has heard of this recording, and where this one keeps what it hears
    MissingExtraError, EncoderError or WeightsError for a model that was asked for by name and cannot be had.
    """
    if choice is None or choice == NONE or isinstance(choice, Recogniser):
        return (choice if isinstance(choice, Recogniser) else None), ""
    from demeanor.features.recognition import RecognitionSettings, maker_of
    from demeanor.features.whisper_base import WHISPER_BASE

    model = WHISPER_BASE if choice == AUTO else choice
    try:
        name = maker_of(model, workers)
    except MissingExtraError:
        if choice == AUTO:
            return None, ADVICE
        raise
    except DemeanorError as error:
        if choice == AUTO:
            return None, f"no words were recognised: {' '.join(str(error).split())}"
        raise
    settings = RecognitionSettings(model=model, language=language)

    def recognise(path: Path, spans: Sequence[GivenSpan], channel: int | None) -> tuple[list[TimedWord], str]:
        return _recognised(path, spans, channel, settings, workers, known or KnownWords(None, ""), name)

    return Recogniser(recognise, name), ""


def _recognised(
    path: Path,
    spans: Sequence[GivenSpan],
    channel: int | None,
    settings: RecognitionSettings,
    workers: int,
    known: KnownWords,
    name: str,
) -> tuple[list[TimedWord], str]:
    words: list[TimedWord] = []
    language = settings.language or ""
    seconds = sum(span.end - span.start for span in _apart(spans))
    with Progress("words", round(seconds), "seconds of voice") as progress:
        for group in _groups(spans):
            asked = settings.model_copy(update={"language": language or None})
            key = [name, asked.as_dict(), channel, [(span.start, span.end) for span in group], HELD, LONGEST, AROUND]
            heard = known.get(key)
            if heard is None:
                heard = _heard(*_sound(path, group, channel), asked, workers)
                known.keep(key, heard)
            if not language and heard["probability"] >= settings.sure:
                language = heard["language"]  # one recording, one language: it is not asked for again
            words += [TimedWord(*word) for word in heard["words"]]
            progress.advance(round(sum(span.end - span.start for span in group)))
    return words, language or "en"


def _heard(
    offset: float,
    samples: Float32[np.ndarray, " samples"],
    inside: Sequence[Stretch],
    settings: RecognitionSettings,
    workers: int,
) -> dict[str, Any]:
    """Language, its probability, and words as (text, start, end, confidence) in seconds of the recording."""
    from demeanor.features.recognition import recognise_all
    from demeanor.features.voice import Span

    pieces = _pieces(samples, inside)
    parts = [part for piece in pieces for part in piece]
    # The voices one after the other, without what is silent between them.
    edges = np.cumsum([0, *(round((end - start) * SAMPLE_RATE) for start, end in parts)])
    sound = np.zeros(edges[-1], np.float32)
    for (start, _), first, last in zip(parts, edges[:-1], edges[1:], strict=True):
        part = samples[round(start * SAMPLE_RATE) :][: last - first]
        sound[first : first + len(part)] = part
    ends = edges[np.cumsum([len(piece) for piece in pieces])] / SAMPLE_RATE if pieces else []
    spans = [Span(float(start), float(end)) for start, end in pairwise([0.0, *ends])]
    found = recognise_all([sound], settings, ["en"], [spans], workers)[0]
    begins = edges[:-1] / SAMPLE_RATE

    def said(word: Word) -> tuple[str, float, float, float | None]:
        """Where it stands in the recording: within the voice that holds its middle."""
        place = max(int(np.searchsorted(begins, (word.start + word.end) / 2, side="right")) - 1, 0)
        first, last = parts[place]
        moved = first - float(begins[place])
        start, end = (min(max(time + moved, first), last) for time in (word.start, word.end))
        return word.text, offset + start, offset + end, word.confidence

    return {
        "language": found.language, "probability": found.probability, "words": [said(word) for word in found.words]
    }  # fmt: skip


def _groups(spans: Sequence[GivenSpan]) -> Iterator[list[GivenSpan]]:
    """Voices that lie near to each other and are held together."""
    group: list[GivenSpan] = []
    for span in _apart(spans):
        if group and span.end - group[0].start > HELD:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _sound(
    path: Path, group: Sequence[GivenSpan], channel: int | None
) -> tuple[float, Float32[np.ndarray, " samples"], list[Stretch]]:
    """Seconds at which the sound of a group begins, the sound, and the voices within it."""
    start, end = max(group[0].start - AROUND, 0.0), group[-1].end + AROUND
    blocks = list(stream_samples(path, SAMPLE_RATE, start, end, channel))
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    seconds = len(samples) / SAMPLE_RATE
    return start, samples, [
        (one.start - start, min(one.end - start, seconds)) for one in group if one.start - start < seconds
    ]  # fmt: skip


def _apart(spans: Sequence[GivenSpan]) -> Iterator[GivenSpan]:
    """Stretches that overlap are one, for the sound of all of them is; and none is held whole that lasts too long."""
    merged: list[GivenSpan] = []
    for span in sorted(spans, key=lambda span: span.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = replace(merged[-1], end=max(merged[-1].end, span.end))
        else:
            merged.append(span)
    for span in merged:
        start = span.start
        while span.end - start > HELD:
            yield replace(span, start=start, end=start + HELD)
            start += HELD
        yield replace(span, start=start)


def _pieces(samples: Float32[np.ndarray, " samples"], voices: Sequence[Stretch]) -> list[list[Stretch]]:
    """What is heard at once: neighbouring voices, for a sentence is understood better whole; long ones in parts.

    Each piece lists its parts, in seconds of the samples: what is silent between them is not heard.
    """
    seconds = len(samples) / SAMPLE_RATE
    edges = [0.0, *((first[1] + second[0]) / 2 for first, second in pairwise(voices)), seconds]
    parts: list[Stretch] = []
    for number, (begin, stop) in enumerate(voices):
        start, end = max(begin - AROUND, edges[number]), min(stop + AROUND, edges[number + 1])
        while end - start > LONGEST:
            cut = _quietest(samples, start + LONGEST / 2, start + LONGEST)
            parts.append((start, cut))
            start = cut
        parts.append((start, end))
    pieces: list[list[Stretch]] = []
    room = 0.0
    for start, end in parts:
        if not pieces or end - start > room:
            pieces.append([])
            room = LONGEST
        pieces[-1].append((start, end))
        room -= end - start
    return pieces


def _quietest(samples: Float32[np.ndarray, " samples"], first: float, last: float) -> float:
    """Seconds of the quietest tenth of a second between two places."""
    size = SAMPLE_RATE // 10
    part = samples[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)]
    count = len(part) // size
    if count == 0:
        return last
    level = np.mean(part[: count * size].reshape(count, size) ** 2, axis=1)
    return first + (int(np.argmin(level)) + 0.5) * size / SAMPLE_RATE
