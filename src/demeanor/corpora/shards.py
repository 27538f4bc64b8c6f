"""Recordings in tar files, as WebDataset has them: `clips-{000000..000399}.tar`, on disk or at any address of fsspec.

The members of one utterance share a name up to its first dot: `0001.mp4`, `0001.txt` with the words, `0001.json` with
whatever a manifest may hold (docs/corpora.md#tar-files). Headers, words and JSON are read, once; the recordings stay
where they are, and whoever needs one later asks for its bytes alone.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import pandas as pd
from pydantic import Field, field_validator

from demeanor.corpora.archives import DAMAGE
from demeanor.corpora.base import Card, Corpus, Finding, ReaderSettings
from demeanor.corpora.folder import FolderReader, FolderSettings, rows_of_table, splits_of
from demeanor.corpora.paths import as_identifier
from demeanor.data.errors import InputError
from demeanor.data.names import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from demeanor.data.places import anchored
from demeanor.data.progress import with_progress
from demeanor.data.remote import ADDRESS, RemoteError, RemoteFile, labelled, opened, refusals_told
from demeanor.data.table_on_disk import assembled, on_disk
from demeanor.data.texts import decode
from demeanor.data.utterances import make_table

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
#: A recording's column -> that of where it lies.
AT = {"video": "video lies at", "audio": "audio lies at"}
#: Of files in a pattern, and bytes of the words or the JSON of an utterance.
MOST_SHARDS, LONGEST_TEXT = 100_000, 1 << 20
#: Bytes that are read at once while headers are looked for: over a network the recordings between them are skipped.
BLOCK = 1 << 16


class ShardSettings(FolderSettings):
    """`path`: a tar file or an address of one, with `{000000..000399}` for a row of them; the rest as of `folder`."""

    name: str = "shards"
    path: str = Field()  # type: ignore[assignment]
    remote: bool = True  # where the files lie is said by whoever asks, not by a table

    @field_validator("path", mode="before")
    @classmethod
    def _as_text(cls, path: object) -> object:
        return str(path) if isinstance(path, Path) else path


class ShardReader(FolderReader):
    """Gives what a manifest would give; `media` says in which file, and where within it, a recording lies."""

    settings_type: ClassVar[type[ReaderSettings]] = ShardSettings
    takes_what_is_left = False

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        """A tar file that begins with a recording, its words or its JSON."""
        if path.suffix.lower() != ".tar" or not path.is_file():
            return None
        try:
            with tarfile.open(path, mode="r:") as archive:
                first = archive.next()
        except DAMAGE:
            return None
        suffix = "" if first is None else PurePosixPath(first.name).suffix.lower()
        return {"path": str(path)} if suffix in (*VIDEO_SUFFIXES, *AUDIO_SUFFIXES, ".txt", ".json") else None

    def read(self, settings: Any, output: Path) -> Corpus:
        problems: list[str] = []
        addresses = with_progress(shards_of(settings.path), "looking through the tar files", "files")
        whole = _joined(assembled(_part(address, settings.language, problems) for address in addresses), problems)
        table = whole.drop(columns=list(AT.values()), errors="ignore")
        if table.empty and not problems:
            problems.append("there is no recording and no text in them")
        if problems:
            raise InputError(settings.path, problems, "docs/corpora.md#tar-files shows such files.")
        found: list[str] = []
        rows, labels = rows_of_table(table, None, ",", settings, found)
        findings: list[Finding] = []
        splits = [] if found else splits_of(table, rows, labels, settings, findings, found)
        if found:
            raise InputError(settings.path, found, "docs/corpora.md#tar-files shows such files.")
        picture, sound = (whole.get(place, pd.Series("", whole.index, "str")) for place in AT.values())
        for column, address in (("media", picture.where(picture != "", sound)), ("audio", sound)):
            if column in rows:
                rows[column] = address.where(rows[column].notna(), None)
        checked = make_table(on_disk(rows.assign(split=splits)), settings.path)
        return Corpus(settings.name, checked, output, Card(settings.name, "that of your own recordings"),
                      findings=tuple(findings))  # fmt: skip


def _part(address: str, language: str, problems: list[str]) -> pd.DataFrame:
    """What one file holds: of a million rows those of one file are dictionaries, the others columns of text."""
    utterances: dict[str, dict[str, Any]] = {}
    try:
        _look_through(address, language, utterances, problems)
    except RemoteError as error:
        problems.append(str(error))
    except DAMAGE as error:
        problems.append(f"{labelled(address)}: not a readable tar file ({str(error) or type(error).__name__})")
    return pd.DataFrame(list(utterances.values()), dtype="str")


def _joined(table: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    """The table of what the files hold; of an utterance whose members lie in several, one row."""
    if not table.empty and table["id"].duplicated().any():
        by_id = table.groupby("id", sort=False)
        for column in (name for name in ("video", "audio") if name in table):
            counts = by_id[column].count()
            problems += [f"utterance {key} has a second {column} in another file" for key in counts.index[counts > 1]]
        table = by_id.last().reset_index()
    return on_disk(table.fillna(""))


def shards_of(pattern: str) -> list[str]:
    """The addresses that a pattern stands for; a path becomes one. InputError for a range that runs backwards, or
    for too many."""
    bounds = [(int(low), int(high), len(low)) for low, high in RANGE.findall(pattern)]
    count = 1
    for low, high, _ in bounds:
        count *= high - low + 1
        if high < low:
            raise InputError(pattern, [f"the range {low}..{high} runs backwards"])
    if count > MOST_SHARDS:
        raise InputError(pattern, [f"stands for {count:,} files; at most {MOST_SHARDS:,} are read"])
    parts = RANGE.sub("\0", pattern).split("\0")
    made = []
    for numbers in product(*(range(low, high + 1) for low, high, _ in bounds)):
        text = parts[0]
        for number, (_, _, digits), rest in zip(numbers, bounds, parts[1:], strict=True):
            text += f"{number:0{digits}d}{rest}"
        made.append(text if ADDRESS.match(text) else anchored(text).absolute().as_uri())
    return made


def _look_through(address: str, language: str, utterances: dict[str, dict[str, Any]], problems: list[str]) -> None:
    """Adds what a tar file holds: a row of a manifest by key, with where each of its recordings lies."""
    for place, member, content in _members(address):
        name = PurePosixPath(place.name)
        stem, _, extension = name.name.partition(".")
        key = as_identifier(str(name.parent / stem)).replace("/", "_")
        suffix = f".{extension.rpartition('.')[2].lower()}"
        if suffix not in (*VIDEO_SUFFIXES, *AUDIO_SUFFIXES, ".txt", ".json"):
            continue
        row = utterances.setdefault(key, {"id": key})
        where = f"{member}, in {labelled(place.address)}"
        if suffix in (*VIDEO_SUFFIXES, *AUDIO_SUFFIXES):
            column = "video" if suffix in VIDEO_SUFFIXES else "audio"
            if column in row:
                problems.append(f"{where}: utterance {key} has a second {column}")
            row[column], row[AT[column]] = f"{key}{suffix}", str(place)
        elif suffix == ".txt":
            row["text"] = decode(content, where, language).content.strip()
        elif suffix == ".json":
            row.update(_described(content, where, problems))


def _described(content: bytes, where: str, problems: list[str]) -> dict[str, str]:
    """What the JSON of an utterance says, as a manifest has it; objects and lists in it are nobody's."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        problems.append(f"{where}: no JSON")
        return {}
    if not isinstance(told, dict):
        problems.append(f"{where}: not an object")
        return {}
    plain = {key: value for key, value in told.items() if isinstance(value, str | int | float)}
    taken = ("id", "video", "audio", "media", *AT.values())
    return {key: str(value) for key, value in plain.items() if key not in taken}


def _members(address: str) -> Iterator[tuple[RemoteFile, str, bytes]]:
    """(where it lies, its name as it stands there, its content where that is words or JSON) of every plain file."""
    system, path = opened(address)
    with (
        refusals_told(labelled(address), passing=(tarfile.TarError, EOFError)),
        system.open(path, "rb", block_size=BLOCK) as file, tarfile.open(fileobj=file, mode="r:") as archive,
    ):  # fmt: skip
        for member in iter(archive.next, None):
            archive.members.clear()  # type: ignore[attr-defined]  # else it would hold all that it has passed
            if not member.isreg() or PurePosixPath(member.name).name.startswith("."):
                continue
            name = "".join("_" if mark in "#;" else mark for mark in member.name)
            place = RemoteFile(address, name, member.offset_data, member.size)
            content = b""
            if name.lower().endswith((".txt", ".json")):
                if member.size > LONGEST_TEXT:
                    raise RemoteError(f"{place.label}: {member.size:,} bytes are no words of an utterance")
                held = archive.extractfile(member)
                content = held.read() if held is not None else b""
            yield place, member.name, content
