"""Raw rows to the streams that a bundle reads, by the extractors of its training."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.bundle import BundleCard
from demeanor.data.cells import EVERYWHERE, CellError, Reach, missing
from demeanor.data.errors import DemeanorError, ProvenanceError
from demeanor.data.examples import Examples
from demeanor.data.media import remarked
from demeanor.data.ragged import Ragged
from demeanor.data.raw_rows import Conversation, RawRow, Rows, conversations, media_of, read_rows, utterances_of
from demeanor.data.stream import Stream
from demeanor.features import extractor_from
from demeanor.features.base import Extractor
from demeanor.features.clip import SAMPLE_RATE, Clip
from demeanor.features.clip_streams import made_of
from demeanor.features.media import MediaError
from demeanor.features.sound import Heard, listen
from demeanor.inference.transcripts import Transcriber, Transcript, with_text, with_transcript

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extracted:
    """What could be read of some rows.

    ids       of all rows, in their order
    examples  the rows of which there is something that the model reads
    used      utterance -> modalities of which there is at least one step
    problems  utterance -> why there is no answer
    broken    utterance -> what of it could not be decoded, though there is an answer from the rest
    heard     utterance -> its transcript, where that was recognised
    given     utterances whose text came with their rows
    notes     utterance -> how its recording was read, where that is not plain: tracks that were not, pictures turned
    """

    ids: list[str]
    examples: Examples
    used: Mapping[str, tuple[str, ...]]
    problems: Mapping[str, str]
    broken: Mapping[str, str] = field(default_factory=dict)
    heard: Mapping[str, Transcript] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def only(self, modalities: Collection[str]) -> Extracted:
        """The same for a model that is given these modalities alone; what has none of them gets a problem."""
        used = {name: tuple(one for one in given if one in modalities) for name, given in self.used.items()}
        problem = f"nothing in it that this model reads ({', '.join(sorted(modalities))})"
        problems = {name: problem for name, given in used.items() if not given} | dict(self.problems)
        selected = self.examples.select([name for name in self.examples.ids if used[name]])
        return replace(self, examples=selected, used=used, problems=problems)


@dataclass(frozen=True)
class Read:
    """Rows as clips, their words recognised where that was needed and nothing extracted yet: `problems`, `broken` and
    `heard` as of Extracted, `rows` by utterance."""

    utterances: pd.DataFrame
    rows: Mapping[str, RawRow]
    clips: dict[str, Clip]
    problems: dict[str, str]
    broken: dict[str, dict[str, str]]
    heard: Mapping[str, Transcript]
    given: frozenset[str]


class Extraction:
    """The extractors of one bundle. `reach` says which files a row may name."""

    def __init__(self, card: BundleCard, reach: Reach = EVERYWHERE):
        self.inputs = card.raw_inputs
        self.transcriber = Transcriber(card)
        self.reach = reach
        self._lock = Lock()
        self._extractors: dict[str, Extractor] | None = None

    @property
    def extractors(self) -> dict[str, Extractor]:
        """Stream -> the extractor that training used, built when first asked for, once for all threads;
        ProvenanceError lists every stream that cannot be made here."""
        with self._lock:
            if self._extractors is None:
                self._extractors = self._build()
            return self._extractors

    def makes_what(self, other: Extraction) -> bool:
        """Would the other read the same of every row: the same streams of the same making, words by the same
        recogniser, files within the same reach?"""
        own = {name: value.provenance.fingerprint for name, value in self.inputs.items()}
        same = own == {name: value.provenance.fingerprint for name, value in other.inputs.items()}
        return same and self.transcriber == other.transcriber and self.reach == other.reach

    def _build(self) -> dict[str, Extractor]:
        built, problems = {}, []
        for stream, specification in self.inputs.items():
            try:
                built[stream] = extractor_from(specification.provenance, stream)
            except ProvenanceError as error:
                problems.append(str(error))
        if problems:
            raise ProvenanceError("\n".join(problems))
        return built

    def __call__(self, rows: Rows, words: bool = True, beside: bool = False) -> Extracted:
        """See demeanor.data.raw_rows.COLUMNS for the rows; `words`: recognise those that a row lacks; `beside`: see
        `extract`. What is wrong with a row is its own problem; a sound or picture that cannot be decoded leaves the
        rest of its row."""
        return self.extract(self.read(rows, words), beside)

    def read(self, rows: Rows, words: bool = True) -> Read:
        """The clips of rows: the first half of a call. What cannot be read of a row is among its problems."""
        raw = read_rows(rows, self.reach)
        utterances = utterances_of(raw)
        clips: dict[str, Clip] = {}
        problems: dict[str, str] = {}
        broken: dict[str, dict[str, str]] = {}
        dialogues = conversations(utterances)
        for utterance, row in zip(utterances.itertuples(), raw, strict=True):
            name = str(utterance.utterance_id)
            try:
                if row.problem:
                    raise CellError(row.problem)
                try:
                    clips[name] = clip_of(utterance, row, dialogues[name])
                except MediaError as error:
                    broken.setdefault(name, {})["audio"] = self._why(error, row, "its sound")
                    clips[name] = clip_of(utterance, row, dialogues[name], deaf=True)
            except Exception as error:
                problems[name] = self._why(error, row, "its recording")
        given = frozenset(name for name, clip in clips.items() if clip.spoken is not None)
        languages = {
            name: row.cells["language"]
            for name, row in zip(utterances["utterance_id"], raw, strict=True)
            if row.cells.get("language")
        }
        heard = self.transcriber(clips, languages) if words and len(given) < len(clips) else {}
        if any(one.text is not None for one in heard.values()):
            utterances = with_text(utterances, heard)
            dialogues = conversations(utterances)
            clips = {name: with_transcript(clip, heard.get(name), dialogues[name]) for name, clip in clips.items()}
        by_name = dict(zip(utterances["utterance_id"], raw, strict=True))
        return Read(utterances, by_name, clips, problems, broken, heard, given)

    def extract(self, read: Read, beside: bool = False) -> Extracted:
        """Streams of clips: the second half of a call. `beside`: pictures have a thread of their own, which shortens
        the wait where a core is free; the values are the same."""
        utterances, problems, broken = (
            read.utterances,
            dict(read.problems),
            {k: dict(v) for k, v in read.broken.items()},
        )
        streams = self._streams(read.clips, problems, broken, read.rows, beside)
        usable = utterances[~utterances["utterance_id"].isin(list(problems))]
        used = self.modalities(Examples.of(usable, streams))
        needed = ", ".join(sorted({value.modality for value in self.inputs.values()}))
        for name, modalities in used.items():
            if not modalities:
                reasons = "; ".join(dict.fromkeys(broken.get(name, {}).values()))
                problems[name] = reasons or f"nothing in it that this model reads ({needed})"
        examples = Examples.of(usable[~usable["utterance_id"].isin(list(problems))], streams)
        reasons_given = {name: _without(reasons) for name, reasons in broken.items()}
        for name, one in read.heard.items():
            if one.note:
                reasons_given[name] = "; ".join(filter(None, (reasons_given.get(name), one.note)))
        notes = {name: tuple(clip.notes) for name, clip in read.clips.items() if clip.notes}
        ids = list(utterances["utterance_id"])
        return Extracted(ids, examples, used, problems, reasons_given, read.heard, read.given, notes)

    def modalities(self, examples: Examples) -> dict[str, tuple[str, ...]]:
        """Utterance -> modalities of which the model is given at least one step."""
        available: dict[str, set[str]] = {name: set() for name in examples.ids}
        for stream, specification in self.inputs.items():
            for name, length in zip(examples.ids, examples.stream(stream).ragged.lengths, strict=True):
                if length:
                    available[name].add(specification.modality)
        return {name: tuple(sorted(modalities)) for name, modalities in available.items()}

    def _why(self, error: Exception, row: RawRow, what: str) -> str:
        """Why a row has no answer, in one line. An error that nobody foresaw is logged, without the row's content."""
        if isinstance(error, DemeanorError):
            text = str(error)
            for column in ("video", "audio"):
                text = self.reach.told(text, media_of(row, column), column)
            return text
        place = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("%s of a row: %s in %s, line %s", what, type(error).__name__, place.filename, place.lineno)
        return f"{what} cannot be read ({type(error).__name__})"

    def _streams(
        self,
        clips: Mapping[str, Clip],
        problems: dict[str, str],
        broken: dict[str, dict[str, str]],
        rows: Mapping[str, RawRow],
        beside: bool,
    ) -> dict[str, Stream]:
        """Every stream that the model reads; a clip that an extractor cannot read gets a problem instead, one whose
        recording cannot be decoded for this stream is absent in it and stands in `broken`."""
        made: dict[str, dict[str, np.ndarray]] = {name: {} for name in self.extractors}
        usable = {identity: clip for identity, clip in clips.items() if identity not in problems}
        for identity, outcome in made_of(usable, self.extractors, beside):
            for name, value in outcome.items():
                if isinstance(value, MediaError):
                    made[name][identity] = self.extractors[name].absent
                    modality = "vision" if "video" in self.extractors[name].reads else "audio"
                    broken.setdefault(identity, {})[modality] = self._why(value, rows[identity], modality)
                elif isinstance(value, Exception):
                    problems.setdefault(identity, self._why(value, rows[identity], f"the stream {name}"))
                else:
                    made[name][identity] = value
        streams = {}
        for name, extractor in self.extractors.items():
            ragged = Ragged.from_sequences(made[name], extractor.dimension, extractor.dtype)
            streams[name] = Stream(name, ragged, extractor.provenance())
        return {
            name: stream.select([key for key in stream.ragged.ids if key not in problems])
            for name, stream in streams.items()
        }


def clip_of(utterance: Any, row: RawRow, conversation: Conversation | None = None, deaf: bool = False) -> Clip:
    """The clip of one row; the sound of `audio`, where there is one, takes the place of the video's.

    MediaError where that cannot be decoded; `deaf` leaves it out.
    """
    conversation = conversation or Conversation()
    video, audio = media_of(row, "video"), media_of(row, "audio")
    end = float(utterance.end) if not missing(utterance.end) else None
    recorded, heard = None, Heard(None)
    if audio is not None:
        heard = heard if deaf else listen(audio, utterance.start, end, SAMPLE_RATE)
        recorded = np.zeros(0, dtype=np.float32) if heard.samples is None else heard.samples
    return Clip(
        utterance_id=utterance.utterance_id,
        text=utterance.text if isinstance(utterance.text, str) else None,
        language=utterance.language,
        media=video,
        start=utterance.start,
        end=end,
        recorded=recorded,
        dialogue=conversation.transcripts,
        turn=conversation.turn,
        speakers=conversation.speakers,
        notes=dict.fromkeys(remarked(heard.remarks, heard.tracks)),
    )


def _without(reasons: Mapping[str, str]) -> str:
    """Reasons by modality in one line, each reason once: a file that cannot be opened is missed by all of them."""
    missed: dict[str, list[str]] = {}
    for modality, reason in sorted(reasons.items()):
        missed.setdefault(reason, []).append(modality)
    return "; ".join(f"without {' and '.join(modalities)}: {reason}" for reason, modalities in missed.items())
