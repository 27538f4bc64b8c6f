"""Raw rows: what a caller sends, text, audio and video as a path or as bytes, any of them missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from demeanor.data import cells
from demeanor.data.cells import EVERYWHERE, CellError, Reach, Unreadable
from demeanor.data.errors import InputError, nearest
from demeanor.data.places import anchored
from demeanor.data.remote import located
from demeanor.data.texts import says_no_number
from demeanor.data.utterances import table_of_checked

#: Columns of a raw row, all optional; `audio_bytes` and `video_bytes` carry content where a path would be of no use.
COLUMNS: dict[str, str] = {
    "utterance_id": "name of the row in the result; one that is used again gets a number",
    "text": "transcript",
    "audio": "path of a recording whose sound is used",
    "video": "path of a recording whose frames, and sound unless `audio` is given, are used",
    "audio_bytes": "content of such a file instead of its path; in JSON and CSV in base64",
    "video_bytes": "content of such a file instead of its path; in JSON and CSV in base64",
    "start": "seconds from the start of the recording",
    "end": "seconds; missing means its end",
    "language": "ISO 639-1 code, en by default",
    "dialogue": "rows of one conversation share it",
    "turn": "position within the dialogue; order of the rows by default",
    "speaker": "who speaks",
}
#: Columns that name a recording; its content, where that is given as well, wins.
RECORDINGS = ("audio", "video")
#: Columns in which NA, nan or null say that there is none; in all others they are words.
NUMBERS = ("start", "end", "turn")
Rows = pd.DataFrame | Sequence[Mapping[str, Any]]
#: Clips of an example that is stored with a model are not larger than this.
LARGEST_EXAMPLE = 1 << 18
READERS: dict[str, Callable[[Any, str], Any]] = {
    "text": cells.as_text,
    "audio_bytes": cells.as_content,
    "video_bytes": cells.as_content,
    "start": cells.as_seconds,
    "end": cells.as_seconds,
    "language": cells.as_language,
    "turn": cells.as_turn,
}


@dataclass(frozen=True)
class RawRow:
    """`cells`: what can be used of a row, by column. `problem`: what is wrong with the rest, else empty."""

    cells: Mapping[str, Any]
    problem: str = ""


def table_of(rows: Rows) -> pd.DataFrame:
    """Raw rows as a table with every column of COLUMNS; an unknown column is an InputError with the nearest
    name."""
    given = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), dtype=object)
    names = [str(name)[:40] for name in given.columns]
    unknown = [f"there is no column '{name}'.{nearest(name, COLUMNS)}" for name in names if name not in COLUMNS]
    unknown += [f"column '{name}' stands there twice" for name in COLUMNS if names.count(name) > 1]
    if unknown:
        raise InputError("rows to score", unknown)
    return given.reindex(columns=list(COLUMNS)).astype(object).reset_index(drop=True)


def read_rows(rows: Rows, reach: Reach = EVERYWHERE) -> list[RawRow]:
    """Every row with its cells made right; what cannot be is the row's own problem, and all of them are named."""
    table = table_of(rows)
    return [_read_row(dict(zip(table.columns, values, strict=True)), reach) for values in table.to_numpy(dtype=object)]


def _read_row(values: Mapping[str, Any], reach: Reach) -> RawRow:
    row_values: dict[str, Any] = {}
    problems: list[str] = []
    for column, value in values.items():
        if cells.missing(value) or (column in RECORDINGS and not cells.missing(values[f"{column}_bytes"])):
            continue
        if column in NUMBERS and says_no_number(value):
            continue
        try:
            if isinstance(value, Unreadable):
                raise CellError(value.why)
            if column in RECORDINGS:
                row_values[column] = _recording(value, column, reach)
            elif column in READERS:
                row_values[column] = READERS[column](value, column)
            else:
                row_values[column] = cells.as_text(value, column, cells.LONGEST_NAME)
        except CellError as error:
            problems.append(str(error))
    if row_values.get("end") is not None and row_values["end"] <= row_values.get("start", 0.0):
        problems.append("`end` is not after `start`")
        del row_values["end"]
    return RawRow(row_values, "; ".join(problems))


def _recording(value: Any, column: str, reach: Reach) -> Path | bytes:
    """Content is taken where a path is expected; a path has to be there."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return reach.file(cells.as_path(value, column), column)


def utterances_of(rows: Sequence[RawRow]) -> pd.DataFrame:
    """The utterances table of raw rows; rows without a dialogue are dialogues of their own."""
    names = _names([row.cells.get("utterance_id") for row in rows])
    dialogues = [
        f"given {row.cells['dialogue']}" if "dialogue" in row.cells else f"alone {number}"
        for number, row in enumerate(rows)
    ]
    turns = _turns(dialogues, [row.cells.get("turn") for row in rows])
    made = [
        {
            "utterance_id": name,
            "corpus": "recordings",
            "split": "test",
            "dialogue": dialogue,
            "turn": turn,
            "speaker": row.cells.get("speaker"),
            "start": row.cells.get("start", 0.0),
            "end": row.cells.get("end"),
            "text": row.cells.get("text"),
            "language": row.cells.get("language", "en"),
        }
        for name, dialogue, turn, row in zip(names, dialogues, turns, rows, strict=True)
    ]
    return table_of_checked(made) if made else empty_table()


def empty_table() -> pd.DataFrame:
    """The utterances of a request without a row."""
    one = {"utterance_id": "none", "corpus": "recordings", "split": "test", "dialogue": "none", "turn": 0}
    return table_of_checked([one]).iloc[:0]


def _names(given: Sequence[str | None]) -> list[str]:
    """One name per row, safe as a file name; one that was there before gets the first number that is free."""
    wanted = [
        f"row_{number}" if name is None else "".join(mark if _plain(mark) else "_" for mark in name)
        for number, name in enumerate(given)
    ]
    taken, used = set(wanted), set()
    numbers: dict[str, int] = {}
    for place, name in enumerate(wanted):
        unique = name
        while unique in used or (unique != name and unique in taken):
            numbers[name] = numbers.get(name, 1) + 1
            unique = f"{name}_{numbers[name]}"
        used.add(unique)
        wanted[place] = unique
    return wanted


def _plain(mark: str) -> bool:
    return not mark.isspace() and mark not in "/\\" and ord(mark) >= 32


def _turns(dialogues: Sequence[str], given: Sequence[int | None]) -> list[int]:
    """The position of every row within its dialogue, from 0, in the order of turns.

    Rows without a turn stand where they came; of rows with the same turn, the one that came first is first.
    """
    members: dict[str, list[int]] = {}
    wanted = list(given)
    for row, dialogue in enumerate(dialogues):
        rows = members.setdefault(dialogue, [])
        wanted[row] = len(rows) if given[row] is None else given[row]
        rows.append(row)
    turns = [0] * len(dialogues)
    for rows in members.values():
        for position, row in enumerate(sorted(rows, key=lambda row: wanted[row] or 0)):
            turns[row] = position
    return turns


class Conversation(NamedTuple):
    """Transcripts and speakers of all turns of a dialogue in order, and which of them an utterance is."""

    transcripts: tuple[str | None, ...] = ()
    turn: int = 0
    speakers: tuple[str | None, ...] = ()


def conversations(utterances: pd.DataFrame) -> dict[str, Conversation]:
    """Utterance -> the conversation that it is a turn of."""
    dialogues: dict[str, Conversation] = {}
    for _, turns in utterances.sort_values("turn", kind="stable").groupby("dialogue", sort=False):
        texts = tuple(text if isinstance(text, str) else None for text in turns["text"])
        speakers = tuple(speaker if isinstance(speaker, str) else None for speaker in turns["speaker"])
        dialogues |= {name: Conversation(texts, place, speakers) for place, name in enumerate(turns["utterance_id"])}
    return dialogues


def media_of(row: RawRow, name: str) -> Path | bytes | None:
    """Content wins over a path."""
    return row.cells.get(f"{name}_bytes", row.cells.get(name))


def example_row(utterances: pd.DataFrame, root: str) -> dict[str, Any]:
    """A raw row that the registered model is shown with: words and, where there is a small recording, its content.

    Content, because a path would lead nowhere on the machine that serves the model.
    """
    first = utterances[utterances["split"] != "test"].iloc[0]
    row: dict[str, Any] = {"text": first["text"] if isinstance(first["text"], str) else "I really like it."}
    if isinstance(first["media"], str):
        path = located(anchored(root), first["media"])
        if isinstance(path, Path) and path.is_file() and path.stat().st_size <= LARGEST_EXAMPLE:
            row["video_bytes"] = path.read_bytes()
    return row
