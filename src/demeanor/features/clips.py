"""From the utterances table to clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from demeanor.data.places import anchored
from demeanor.data.remote import located
from demeanor.data.stream import Stream
from demeanor.features.base import Clip, Word

WAVEFORM, WORD_TIMES = "audio.waveform", "text.word_times"
#: What a clip is made of.
COLUMNS = (
    "utterance_id", "dialogue", "turn", "speaker", "text", "language", "media", "audio", "start", "end",
)  # fmt: skip


def clips_of(utterances: pd.DataFrame, root: Path | str, streams: Mapping[str, Stream] | None = None) -> list[Clip]:
    """One clip per row of the table; `media` is relative to the corpus folder `root`, or an address.

    Of `streams`, `audio.waveform` (int16 [T, 1] at 16 kHz) is read instead of decoding the media again, and
    `text.word_times` ([W, 2] seconds) gives the words of `text.split()` their times; where the number of words
    differs, the utterance counts as unaligned. The dialogue of a clip is made of all rows of the table.
    """
    streams = streams or {}
    waveform, times = streams.get(WAVEFORM), streams.get(WORD_TIMES)
    given = utterances.reindex(columns=list(COLUMNS)).astype(object)
    columns = {str(name): cells.tolist() for name, cells in given.where(given.notna(), None).items()}
    dialogues = {name: _Dialogue.of(turns) for name, turns in _turns(columns).items()}
    folder = anchored(root)
    rows = (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
    return [_clip(row, folder, waveform, times, dialogues[row["dialogue"]]) for row in rows]


@dataclass(frozen=True)
class _Dialogue:
    """Transcripts and speakers in the order of turns, one tuple for all its clips, and the place of each turn."""

    transcripts: tuple[str | None, ...]
    speakers: tuple[str | None, ...]
    places: dict[int, int]

    @classmethod
    def of(cls, turns: dict[int, tuple[str | None, str | None]]) -> _Dialogue:
        transcripts, speakers = zip(*turns.values(), strict=True)
        return cls(transcripts, speakers, {turn: place for place, turn in enumerate(turns)})


def _turns(columns: Mapping[str, list[Any]]) -> dict[str, dict[int, tuple[str | None, str | None]]]:
    """dialogue -> turn -> transcript and speaker, in the order of turns."""
    turns: dict[str, dict[int, tuple[str | None, str | None]]] = {}
    dialogue, turn, text, speaker = (columns[name] for name in ("dialogue", "turn", "text", "speaker"))
    for n in sorted(range(len(turn)), key=turn.__getitem__):
        turns.setdefault(dialogue[n], {})[turn[n]] = (text[n], speaker[n])
    return turns


def _clip(row: dict[Any, Any], root: Path, waveform: Stream | None, times: Stream | None, dialogue: _Dialogue) -> Clip:
    identity = row["utterance_id"]
    text, media, sound = row["text"], row["media"], row["audio"]
    held = waveform is not None and identity in waveform.ragged
    in_file = held and waveform is not None and waveform.path is not None
    words = _words(text, times, identity)
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
        alignment=times.provenance.alignment or "corpus" if words is not None and times is not None else "",
        dialogue=dialogue.transcripts,
        turn=dialogue.places[row["turn"]],
        speakers=dialogue.speakers,
    )


def _words(text: str | None, times: Stream | None, identity: str) -> tuple[Word, ...] | None:
    if text is None or times is None or identity not in times.ragged:
        return None
    spans, spoken = times.ragged[identity], text.split()
    if not spoken or len(spans) != len(spoken):
        return None
    return tuple(Word(word, float(start), float(stop)) for word, (start, stop) in zip(spoken, spans, strict=True))


def with_words(clips: Sequence[Clip], times: Stream) -> list[Clip]:
    """The clips with the times of a stream `text.word_times`; those that it says nothing about stay as they are."""
    found = [_words(clip.text, times, clip.utterance_id) for clip in clips]
    alignment = times.provenance.alignment or "corpus"
    return [
        clip if words is None else replace(clip, words=words, alignment=alignment)
        for clip, words in zip(clips, found, strict=True)
    ]
