"""Words for recordings that have none: Whisper (Radford et al., 2022) by faster-whisper, on CTranslate2.

Only what the voice activity detector calls speech is heard, eight stretches in one pass, the most probable words
taken (beam 1), so that the same sound gives the same text. Each recording has one language: the expected one, unless
the model is sure of another. What is recognised in ingestion stands in the utterances table, its maker in column
`transcript`; what is recognised when a model answers, in the answer. Given text always wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Float
from pydantic import Field

from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.settings import Settings
from demeanor.data.stream import Stream
from demeanor.features.base import SAMPLE_RATE, Clip, Word
from demeanor.features.clips import WORD_TIMES
from demeanor.features.hub import EncoderError
from demeanor.features.recogniser import PIECE, Recogniser, load_recogniser, primary, reach
from demeanor.features.voice import Span, VoiceSettings, joined, voice_spans
from demeanor.features.whisper_base import WHISPER_BASE

#: Clips whose sound is held at once while a corpus is transcribed.
HELD = 64


class RecognitionSettings(Settings):
    """
    model     "whisper-base" (two packages of the index, no hub), a folder or a hub id with a CTranslate2 Whisper
    together  stretches of speech per pass
    language  ISO 639-1 code of everything that is said; None: detected, recording by recording
    sure      probability from which a detected language takes the place of the expected one
    """

    model: str = WHISPER_BASE
    together: int = Field(default=8, ge=1, le=256)
    language: str | None = None
    sure: float = Field(default=0.8, ge=0.0, le=1.0)


@dataclass(frozen=True)
class Recognised:
    """
    text         None where nobody speaks or nothing was understood
    words        of `text.split()`, with times in seconds from the start of the sound and the model's confidence
    language     ISO 639-1 code; empty where nobody speaks
    probability  of that language, between 0 and 1
    """

    text: str | None = None
    words: tuple[Word, ...] = ()
    language: str = ""
    probability: float = 0.0


@dataclass
class _Hearing:
    """One recording while it is heard."""

    waveform: np.ndarray
    spans: list[Span]
    language: str = ""
    probability: float = 0.0
    words: list[Word] = field(default_factory=list)

    def piece(self, number: int) -> np.ndarray:
        span = self.spans[number]
        return self.waveform[int(span.start * SAMPLE_RATE) : int(span.end * SAMPLE_RATE)]


def recognise(
    waveform: Float[np.ndarray, " time"] | None,
    rate: int,
    settings: RecognitionSettings | None = None,
    expected: str = "en",
) -> Recognised:
    """What is said in a sound: mono samples in [-1, 1] at `rate` per second; no file is opened.

    expected  language that is taken unless the model is sure of another
    Raises MissingExtraError without faster-whisper, WeightsError or EncoderError without the model, EncoderError for a
    language of the settings that it does not know; an expected one that it does not know is detected.
    """
    if waveform is not None and rate != SAMPLE_RATE and len(waveform):
        import soxr

        waveform = soxr.resample(np.asarray(waveform, np.float32), rate, SAMPLE_RATE)
    return recognise_all([waveform], settings or RecognitionSettings(), [expected])[0]


def recognise_all(
    waveforms: Sequence[Float[np.ndarray, " _time"] | None],
    settings: RecognitionSettings,
    expected: Sequence[str],
    spans: Sequence[Sequence[Span]] | None = None,
    workers: int = 1,
) -> list[Recognised]:
    """The same for many sounds at 16 kHz, whose stretches of speech share passes.

    spans    of each sound, where somebody speaks: in order, apart, none longer than PIECE; None: they are found
    workers  passes at the same time, for much sound; see `load_recogniser`

    EncoderError where the model does not know the language of the settings.
    """
    voice = VoiceSettings(longest=PIECE, pause=0.5, padding=0.2)
    sure = None if settings.language is None else primary(settings.language)
    heard = []
    for number, (waveform, language) in enumerate(zip(waveforms, expected, strict=True)):
        samples = np.zeros(0, np.float32) if waveform is None else np.asarray(waveform, dtype=np.float32)
        own = list(spans[number]) if spans is not None else joined(voice_spans(samples, SAMPLE_RATE, voice), PIECE)
        heard.append(_Hearing(samples, own, sure or primary(language), float(sure is not None)))
    if any(one.spans for one in heard):
        recogniser = load_recogniser(settings.model) if workers == 1 else load_recogniser(settings.model, workers)
        if sure is not None and not recogniser.knows(sure):
            raise EncoderError(f"recogniser '{settings.model}' does not know the language '{settings.language}'")
        _hear(heard, recogniser, settings)
    return [_result(one) for one in heard]


def _hear(heard: list[_Hearing], recogniser: Recogniser, settings: RecognitionSettings) -> None:
    """Words of all stretches, those of like length together; where the language is not known, first what each recording
    begins with, whose language is that of the rest."""
    for opening in (True, False):
        groups: dict[float, list[tuple[_Hearing, int]]] = {}
        for one in heard:
            for number in range(len(one.spans)):
                if (number == 0 and settings.language is None) == opening:
                    groups.setdefault(reach(len(one.piece(number))), []).append((one, number))
        passes = [part for places in groups.values() for part in _passes(places, settings.together, recogniser.workers)]
        if recogniser.workers == 1 or len(passes) < 2:
            for part in passes:
                _hear_group(part, recogniser, settings)
            continue
        with ThreadPoolExecutor(recogniser.workers) as threads:
            for done in [threads.submit(_hear_group, part, recogniser, settings) for part in passes]:
                done.result()


def _passes(
    places: Sequence[tuple[_Hearing, int]], together: int, workers: int
) -> list[Sequence[tuple[_Hearing, int]]]:
    """At most `together` each; for several workers of like size, and so many that none of them is left without."""
    if workers == 1:
        return [places[start : start + together] for start in range(0, len(places), together)]
    rounds = -(-len(places) // (together * workers))
    count = min(rounds * workers, len(places))
    edges = [len(places) * number // count for number in range(count + 1)]
    return [places[start:end] for start, end in pairwise(edges)]


def _hear_group(group: Sequence[tuple[_Hearing, int]], recogniser: Recogniser, settings: RecognitionSettings) -> None:
    def choose(place: int, probabilities: Callable[[], Mapping[str, float]]) -> str:
        one, number = group[place]
        if number == 0 and settings.language is None:
            found = probabilities()
            best = max(found, key=lambda name: found[name])
            foreign = found[best] >= settings.sure or not recogniser.knows(one.language)
            one.language = best if foreign else one.language
            one.probability = found.get(one.language, 0.0)
        return one.language

    answers = recogniser.hear([one.piece(number) for one, number in group], choose)
    for (one, number), words in zip(group, answers, strict=True):
        begin, limit = one.spans[number].start, one.spans[number].end
        one.words.extend(
            Word(word.text, min(begin + word.start, limit), min(begin + word.end, limit), word.confidence)
            for word in words
        )


def _result(one: _Hearing) -> Recognised:
    one.words.sort(key=lambda word: word.start)
    if not one.words:
        return Recognised(None, (), one.language if one.spans else "", one.probability if one.spans else 0.0)
    text = " ".join(word.text for word in one.words)
    return Recognised(text, tuple(one.words), one.language, one.probability)


def maker_of(model: str, workers: int = 1) -> str:
    """How column `transcript` names a recogniser: "recognised by <model> <first digits of its hash>"."""
    recogniser = load_recogniser(model) if workers == 1 else load_recogniser(model, workers)
    return f"recognised by {model} {recogniser.sha256[:12]}"


def transcribe(clips: Sequence[Clip], settings: RecognitionSettings) -> list[Recognised]:
    """What is said in each clip. MediaError where a recording cannot be read."""
    found: list[Recognised] = []
    for start in range(0, len(clips), HELD):
        group = clips[start : start + HELD]
        sounds = [clip.without_cache().audible for clip in group]
        found += recognise_all(sounds, settings, [clip.language for clip in group])
    return found


def fill_transcripts(
    utterances: pd.DataFrame, clips: Sequence[Clip], settings: RecognitionSettings
) -> tuple[pd.DataFrame, dict[str, tuple[Word, ...]]]:
    """The table with `text` recognised where it was missing, and the recognised words with their times by utterance.

    `language` of such a row is the one that was heard; column `transcript` says "corpus", "recognised by <model>
    <hash>", or is missing where there is no text at all. `clips` are those of the table, in its order.
    """
    table = utterances.copy()
    empty = [clip.spoken is None for clip in clips]
    answers = iter(transcribe([clip for clip, missing in zip(clips, empty, strict=True) if missing], settings))
    maker = maker_of(settings.model) if any(empty) else ""
    texts, makers, languages = [], [], []
    words: dict[str, tuple[Word, ...]] = {}
    for clip, missing in zip(clips, empty, strict=True):
        answer = next(answers) if missing else Recognised(clip.text)
        if answer.words:
            words[clip.utterance_id] = answer.words
        texts.append(answer.text)
        makers.append(None if answer.text is None else maker if missing else "corpus")
        languages.append(answer.language if missing and answer.text is not None else clip.language)
    table["text"] = pd.array(texts, dtype="str")
    table["transcript"] = pd.array(makers, dtype="str")
    table["language"] = pd.array(languages, dtype="str")
    return table, words


def word_times(identities: Sequence[str], words: Mapping[str, Sequence[Word]], settings: RecognitionSettings) -> Stream:
    """Stream `text.word_times`: start and end in seconds of each recognised word, [W, 2] float32; absent where the text
    was given or nothing was understood. Its provenance names the model, and its alignment says "recognised"."""
    from importlib.metadata import version

    nothing = np.zeros((0, 2), dtype=np.float32)
    times = {
        name: np.array([[word.start, word.end] for word in words[name]], dtype=np.float32) if name in words else nothing
        for name in identities
    }
    provenance = Provenance(
        extractor="recognition", version=version("faster-whisper"), parameters=settings.as_dict(), unit="word",
        weights_sha256=load_recogniser(settings.model).sha256, licence="that of the model", recomputable=False,
        alignment="recognised", notes="heard in ingestion together with the words themselves",
    )  # fmt: skip
    return Stream(WORD_TIMES, Ragged.from_sequences(times, 2, np.float32), provenance)
