"""Raw rows in, clips out: text, audio and video as a path or as bytes, any of them missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.errors import DemeanorError, InputError, nearest
from demeanor.data.places import anchored, expanded
from demeanor.data.texts import has_content
from demeanor.data.utterances import make_table
from demeanor.features.base import SAMPLE_RATE, Clip
from demeanor.features.sound import decode_audio

#: Columns of a raw row, all optional; `audio_bytes` and `video_bytes` carry content where a path would be of no use.
COLUMNS: dict[str, str] = {
    "utterance_id": "name of the row in the result",
    "text": "transcript",
    "audio": "path of a recording whose sound is used",
    "video": "path of a recording whose frames, and sound unless `audio` is given, are used",
    "audio_bytes": "content of such a file instead of its path",
    "video_bytes": "content of such a file instead of its path",
    "start": "seconds from the start of the recording",
    "end": "seconds; missing means its end",
    "language": "ISO 639-1 code, en by default",
    "dialogue": "rows of one conversation share it",
    "turn": "position within the dialogue; order of the rows by default",
    "speaker": "who speaks",
}
Rows = pd.DataFrame | Sequence[Mapping[str, Any]]


def table_of(rows: Rows) -> pd.DataFrame:
    """Raw rows as a table with every column of COLUMNS; an unknown column is an error with the nearest name."""
    given = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    unknown = [f"there is no column '{name}'.{nearest(str(name), COLUMNS)}" for name in given if name not in COLUMNS]
    if unknown:
        raise InputError("rows to score", unknown)
    return given.reindex(columns=list(COLUMNS)).astype(object).reset_index(drop=True)


def utterances_of(table: pd.DataFrame) -> pd.DataFrame:
    """The utterances table of raw rows; rows without a dialogue are dialogues of their own."""
    counted: dict[str, int] = {}
    rows = []
    for number, row in table.iterrows():
        name = str(row["utterance_id"]) if given(row["utterance_id"]) else f"row_{number}"
        dialogue = str(row["dialogue"]) if given(row["dialogue"]) else f"alone_{number}"
        position = counted.get(dialogue, 0)
        counted[dialogue] = position + 1
        rows.append(
            {
                "utterance_id": "".join("_" if mark.isspace() or mark in "/\\" else mark for mark in name),
                "corpus": "recordings",
                "split": "test",
                "dialogue": dialogue,
                "turn": int(row["turn"]) if given(row["turn"]) else position,
                "speaker": str(row["speaker"]) if given(row["speaker"]) else None,
                "start": float(row["start"]) if given(row["start"]) else 0.0,
                "end": float(row["end"]) if given(row["end"]) else None,
                "text": str(row["text"]) if given(row["text"]) and has_content(str(row["text"])) else None,
                "language": str(row["language"]) if given(row["language"]) else "en",
            }
        )
    return make_table(rows, "rows to score")


def conversations(utterances: pd.DataFrame) -> dict[str, tuple[tuple[str | None, ...], int]]:
    """Utterance -> transcripts of all turns of its dialogue in order, and which of them is its own."""
    found: dict[str, tuple[tuple[str | None, ...], int]] = {}
    for _, turns in utterances.sort_values("turn", kind="stable").groupby("dialogue", sort=False):
        texts = tuple(text if isinstance(text, str) else None for text in turns["text"])
        found |= {name: (texts, position) for position, name in enumerate(turns["utterance_id"])}
    return found


def clip_of(
    utterance: Any, row: Any, transcripts: tuple[str | None, ...] = (), position: int = 0, deaf: bool = False
) -> Clip:
    """The clip of one row; the sound of `audio`, where there is one, takes the place of the video's.

    MediaError where that cannot be decoded; `deaf` leaves it out.
    """
    video, audio = media_of(row, "video"), media_of(row, "audio")
    end = float(utterance.end) if given(utterance.end) else None
    recorded = None
    if audio is not None:
        samples = None if deaf else decode_audio(audio, utterance.start, end, SAMPLE_RATE)
        recorded = np.zeros(0, dtype=np.float32) if samples is None else samples
    return Clip(
        utterance_id=utterance.utterance_id,
        text=utterance.text if isinstance(utterance.text, str) else None,
        language=utterance.language,
        media=video,
        start=utterance.start,
        end=end,
        recorded=recorded,
        dialogue=transcripts,
        turn=position,
    )


def media_of(row: Any, name: str) -> Path | bytes | None:
    """Bytes win over a path; a path that is not there is an error."""
    for column in (f"{name}_bytes", name):
        value = row[column]
        if isinstance(value, bytes | bytearray):
            return bytes(value)
        if given(value):
            path = expanded(str(value))
            if not path.is_file():
                raise DemeanorError(f"there is no file {path}")
            return path
    return None


def given(value: Any) -> bool:
    """Is there a value, rather than nothing, NaN or an empty string?"""
    if value is None or (isinstance(value, str) and not value.strip()):
        return False
    return bool(isinstance(value, bytes | bytearray) or not pd.isna(value))


def example_row(utterances: pd.DataFrame, root: str) -> dict[str, Any]:
    """A raw row that the registered model is shown with: words and, where there is media, a clip."""
    first = utterances[utterances["split"] != "test"].iloc[0]
    row: dict[str, Any] = {"text": first["text"] if isinstance(first["text"], str) else "I really like it."}
    if isinstance(first["media"], str):
        row["video"] = str((anchored(root) / first["media"]).resolve())
    if isinstance(first.get("audio"), str):
        row["audio"] = str((anchored(root) / first["audio"]).resolve())
    return row
