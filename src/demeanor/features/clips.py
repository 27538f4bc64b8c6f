"""From the utterances table to clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from demeanor.data.places import anchored
from demeanor.data.remote import located
from demeanor.data.stream import Stream
from demeanor.data.table_on_disk import let_go
from demeanor.data.utterances import names_in
from demeanor.features.base import Clip, Word

WAVEFORM, WORD_TIMES = "audio.waveform", "text.word_times"
#: Rows that become clips at once where all are gone through.
BLOCK = 1024
#: What a clip is made of.
COLUMNS = (
    "utterance_id", "dialogue", "turn", "speaker", "text", "language", "media", "audio", "start", "end",
)  # fmt: skip


def clips_of(utterances: pd.DataFrame, root: Path | str, streams: Mapping[str, Stream] | None = None) -> Clips:
    """One clip per row of the table; `media` is relative to the corpus folder `root`, or an address.

    Of `streams`, `audio.waveform` (int16 [T, 1] at 16 kHz) is read instead of decoding the media again, and
    `text.word_times` ([W, 2] seconds) gives the words of `text.split()` their times; where the number of words
    differs, the utterance counts as unaligned. The dialogue of a clip is made of all rows of the table.
    """
    streams = streams or {}
    times = (streams[WORD_TIMES],) if WORD_TIMES in streams else ()
    return Clips(utterances, anchored(root), streams.get(WAVEFORM), times)


class Clips(Sequence[Clip]):
    """The rows of a table as clips, which are made when they are asked for: of a million of them a block is there at
    a time. A clip that is asked for twice is made twice."""

    def __init__(
        self, utterances: pd.DataFrame, root: Path, waveform: Stream | None = None, times: Sequence[Stream] = ()
    ):
        self._table = utterances.reindex(columns=list(COLUMNS))
        self._root, self._waveform, self._times = root, waveform, times
        #: Row -> number of its dialogue; rows by dialogue and turn; where each dialogue begins among those.
        self._dialogue_of = pd.factorize(self._table["dialogue"], use_na_sentinel=False)[0].astype(np.int32)
        self._order = np.lexsort((self._table["turn"].to_numpy(), self._dialogue_of))
        self._begins = np.concatenate([[0], np.cumsum(np.bincount(self._dialogue_of))])
        self._dialogues: dict[int, _Dialogue] = {}

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        rows = range(len(self))[index]
        return self.take(rows) if isinstance(rows, range) else self.take([rows])[0]

    def __iter__(self) -> Iterator[Clip]:
        for start in range(0, len(self), BLOCK):
            yield from self.take(range(len(self))[start : start + BLOCK])

    def take(self, places: Sequence[int]) -> list[Clip]:
        """The clips of these rows."""
        rows = np.asarray(places, dtype=np.int64)
        let_go()  # what was read of the table for the rows before
        columns = self._cells(rows, COLUMNS)
        self._dialogues = dialogues = self._dialogues_of(rows)
        cells = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return [
            _clip(row, self._root, self._waveform, self._times, dialogues[number])
            for row, number in zip(cells, self._dialogue_of[rows].tolist(), strict=True)
        ]

    def names(self) -> Iterator[str]:
        """The ids of the clips, in order."""
        return names_in(self._table)

    def with_words(self, times: Stream) -> Clips:
        """The same clips; what they say of the times of words is told by that stream, where it says anything."""
        return Clips(self._table, self._root, self._waveform, (times, *self._times))

    def _cells(self, rows: np.ndarray, names: Sequence[str]) -> dict[str, list[Any]]:
        """Column -> its values in these rows, None where there is none."""
        part = self._table.iloc[rows][list(names)].astype(object)
        return {str(name): cells.tolist() for name, cells in part.where(part.notna(), None).items()}

    def _dialogues_of(self, rows: np.ndarray) -> dict[int, _Dialogue]:
        """Number -> dialogue of those that these rows belong to; those of the rows before may be among them."""
        wanted = np.unique(self._dialogue_of[rows]).tolist()
        new = [number for number in wanted if number not in self._dialogues]
        found = {number: self._dialogues[number] for number in wanted if number in self._dialogues}
        if new:
            members = [self._order[self._begins[number] : self._begins[number + 1]] for number in new]
            columns = self._cells(np.concatenate(members), ("turn", "text", "speaker"))
            said = iter(zip(*columns.values(), strict=True))
            for number, own in zip(new, members, strict=True):
                found[number] = _Dialogue.of(list(islice(said, len(own))))
        return found


@dataclass(frozen=True)
class _Dialogue:
    """Transcripts and speakers in the order of turns, one tuple for all its clips, and the place of each turn."""

    transcripts: tuple[str | None, ...]
    speakers: tuple[str | None, ...]
    places: dict[int, int]

    @classmethod
    def of(cls, said: Sequence[tuple[int, str | None, str | None]]) -> _Dialogue:
        """Of turn, transcript and speaker, in the order of turns; of two rows with one turn the later one counts."""
        turns = {turn: (text, speaker) for turn, text, speaker in said}
        transcripts, speakers = zip(*turns.values(), strict=True)
        return cls(transcripts, speakers, {turn: place for place, turn in enumerate(turns)})


def _clip(
    row: dict[Any, Any], root: Path, waveform: Stream | None, times: Sequence[Stream], dialogue: _Dialogue
) -> Clip:
    identity = row["utterance_id"]
    text, media, sound = row["text"], row["media"], row["audio"]
    held = waveform is not None and identity in waveform.ragged
    in_file = held and waveform is not None and waveform.path is not None
    told = ((stream, _words(text, stream, identity)) for stream in times)
    aligned, words = next(((stream, found) for stream, found in told if found is not None), (None, None))
    return Clip(
        utterance_id=identity,
        text=text,
        language=row["language"],
        words=words,
        media=None if media is None else located(root, media),
        sound=None if sound is None else located(root, sound),
        start=float(row["start"]),
        end=row["end"],
        recorded=waveform.ragged[identity] if waveform is not None and held and not in_file else None,
        stored=waveform.path if waveform is not None and in_file else None,
        alignment=aligned.provenance.alignment or "corpus" if aligned is not None else "",
        dialogue=dialogue.transcripts,
        turn=dialogue.places[row["turn"]],
        speakers=dialogue.speakers,
    )


def _words(text: str | None, times: Stream, identity: str) -> tuple[Word, ...] | None:
    if text is None or identity not in times.ragged:
        return None
    spans, spoken = times.ragged[identity], text.split()
    if not spoken or len(spans) != len(spoken):
        return None
    return tuple(Word(word, float(start), float(stop)) for word, (start, stop) in zip(spoken, spans, strict=True))


def with_words(clips: Sequence[Clip], times: Stream) -> Sequence[Clip]:
    """The clips with the times of a stream `text.word_times`; those that it says nothing about stay as they are."""
    if isinstance(clips, Clips):
        return clips.with_words(times)
    found = [_words(clip.text, times, clip.utterance_id) for clip in clips]
    alignment = times.provenance.alignment or "corpus"
    return [
        clip if words is None else replace(clip, words=words, alignment=alignment)
        for clip, words in zip(clips, found, strict=True)
    ]


def taken(clips: Sequence[Clip], rows: Sequence[int]) -> list[Clip]:
    """Some of the clips, by their places."""
    return clips.take(rows) if isinstance(clips, Clips) else [clips[row] for row in rows]


def names_of(clips: Sequence[Clip]) -> Iterator[str]:
    """The ids of the clips, in order."""
    return clips.names() if isinstance(clips, Clips) else (clip.utterance_id for clip in clips)
