"""Words of a recording that came without any: heard over its voice by the packaged recogniser, or by another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from demeanor.data.errors import DemeanorError, MissingExtraError
from demeanor.data.progress import Progress
from demeanor.features.base import SAMPLE_RATE
from demeanor.features.sound import stream_samples
from demeanor.timeline.given import GivenSpan
from demeanor.timeline.segments import TimedWord

if TYPE_CHECKING:
    from demeanor.features.recognition import RecognitionSettings

AUTO, NONE = "auto", "none"
ADVICE = "no words were recognised: pip install 'demeanor[speech]', or give spans with their text"
#: Seconds of voice, pauses included, that are held and heard at once; flat memory for any recording.
HELD = 240.0
#: A recogniser hears thirty seconds at once; a longer stretch is cut at its quietest place beyond the half of it.
LONGEST = 28.0
#: Seconds that are heard on both sides of a stretch, for soft beginnings and ends.
AROUND = 0.15


@dataclass(frozen=True)
class Recogniser:
    """Words for stretches of a recording without any.

    recognise  (recording, stretches in order, number of the channel or None for all mixed) -> words with times in the
               recording, and the ISO 639-1 code of their language
    """

    recognise: Callable[[Path, Sequence[GivenSpan], int | None], tuple[list[TimedWord], str]]
    name: str


def recogniser_of(choice: Recogniser | str | None, language: str | None) -> tuple[Recogniser | None, str]:
    """A recogniser and a remark: "auto" is the packaged one and without its package none, with a sentence about it.

    choice    "auto", "none" or None, the name or folder of a model, or a recogniser
    language  ISO 639-1 code of what is said; None: that which the recogniser is sure of
    MissingExtraError, EncoderError or WeightsError for a model that was asked for by name and cannot be had.
    """
    if choice is None or choice == NONE or isinstance(choice, Recogniser):
        return (choice if isinstance(choice, Recogniser) else None), ""
    from demeanor.features.recognition import RecognitionSettings, maker_of
    from demeanor.features.whisper_base import WHISPER_BASE

    model = WHISPER_BASE if choice == AUTO else choice
    try:
        name = maker_of(model)
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
        return _recognised(path, spans, channel, settings)

    return Recogniser(recognise, name), ""


def _recognised(
    path: Path, spans: Sequence[GivenSpan], channel: int | None, settings: RecognitionSettings
) -> tuple[list[TimedWord], str]:
    from demeanor.features.recognition import recognise_all
    from demeanor.features.voice import Span

    words: list[TimedWord] = []
    language = settings.language or ""
    seconds = sum(span.end - span.start for span in _apart(spans))
    with Progress("words", round(seconds), "seconds of voice") as progress:
        for offset, samples, inside in _held(path, spans, channel):
            stretches = [Span(start, end) for start, end in _stretches(samples, inside)]
            known = settings.model_copy(update={"language": language or None})
            heard = recognise_all([samples], known, ["en"], [stretches])[0]
            if not language and heard.probability >= settings.sure:
                language = heard.language  # one recording, one language: it is not asked for again
            words += [
                TimedWord(word.text, offset + word.start, offset + word.end, word.confidence) for word in heard.words
            ]
            progress.advance(round(sum(end - start for start, end in inside)))
    return words, language or "en"


def _held(
    path: Path, spans: Sequence[GivenSpan], channel: int | None
) -> Iterator[tuple[float, Float32[np.ndarray, " samples"], list[tuple[float, float]]]]:
    """(seconds at which the sound begins, the sound, stretches within it): voices that lie near to each other."""
    group: list[GivenSpan] = []
    for span in [*_apart(spans), None]:
        if span is not None and (not group or span.end - group[0].start <= HELD):
            group.append(span)
            continue
        if group:
            start, end = max(group[0].start - AROUND, 0.0), group[-1].end + AROUND
            blocks = list(stream_samples(path, SAMPLE_RATE, start, end, channel))
            samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
            seconds = len(samples) / SAMPLE_RATE
            inside = [
                (one.start - start, min(one.end - start, seconds)) for one in group if one.start - start < seconds
            ]
            yield start, samples, inside
        group = [] if span is None else [span]


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


def _stretches(
    samples: Float32[np.ndarray, " samples"], spans: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """What is heard at once: neighbours together, for a sentence is understood better whole; long ones in parts."""
    seconds = len(samples) / SAMPLE_RATE
    made: list[tuple[float, float]] = []
    for begin, end in spans:
        start = begin
        while end - start > LONGEST:
            cut = _quietest(samples, start + LONGEST / 2, start + LONGEST)
            made.append((start, cut))
            start = cut
        made.append((start, end))
    joined: list[tuple[float, float]] = []
    for start, end in made:
        if joined and end - joined[-1][0] <= LONGEST:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    edges = [0.0, *((first[1] + second[0]) / 2 for first, second in pairwise(joined)), seconds]
    return [
        (max(start - AROUND, edges[number]), min(end + AROUND, edges[number + 1]))
        for number, (start, end) in enumerate(joined)
    ]


def _quietest(samples: Float32[np.ndarray, " samples"], first: float, last: float) -> float:
    """Seconds of the quietest tenth of a second between two places."""
    size = SAMPLE_RATE // 10
    part = samples[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)]
    count = len(part) // size
    if count == 0:
        return last
    level = np.mean(part[: count * size].reshape(count, size) ** 2, axis=1)
    return first + (int(np.argmin(level)) + 0.5) * size / SAMPLE_RATE
