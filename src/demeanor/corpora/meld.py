"""MELD: three csv files, and the clips of the scenes where they are present.

`train_sent_emo.csv`, `dev_sent_emo.csv`, `test_sent_emo.csv` as released by declare-lab; clips `dia<D>_utt<U>.mp4` in
the folders of MELD.Raw. Seven emotions, three sentiments; the same six actors speak in all splits.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from demeanor.corpora.base import Corpus, Finding, Reader, ReaderSettings, require_path
from demeanor.corpora.cards import card_for
from demeanor.corpora.paths import MediaFolder, Recording
from demeanor.corpora.recordings import recording_findings, require_inside, unsettled
from demeanor.corpora.tables import listed, missing_columns, numbers, read_table
from demeanor.data.errors import InputError
from demeanor.data.texts import spoken
from demeanor.data.utterances import make_table

COLUMNS = {
    "Utterance": "the transcript", "Speaker": "who speaks", "Emotion": "one of seven",
    "Sentiment": "positive, neutral or negative", "Dialogue_ID": "number of the dialogue",
    "Utterance_ID": "number of the turn",
}  # fmt: skip
FILES = {"train": "train_sent_emo.csv", "valid": "dev_sent_emo.csv", "test": "test_sent_emo.csv"}
MEDIA = {
    "train": ("train_splits", "train/train_splits", "train"),
    "valid": ("dev_splits_complete", "dev/dev_splits_complete", "dev"),
    "test": ("output_repeated_splits_test", "test/output_repeated_splits_test", "test"),
}
EMOTIONS = ("neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust")
SENTIMENTS = ("negative", "neutral", "positive")


class MeldSettings(ReaderSettings):
    """`media`: look for the clips; without them MELD is text alone."""

    name: str = "meld"
    media: bool = True


class MeldReader(Reader):
    """Gives `emotion` (seven names) and `polarity` (negative, neutral, positive)."""

    settings_type = MeldSettings

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        root = path if path.is_dir() else path.parent
        names = FILES.values() if path == root else [path.name] if path.name in FILES.values() else []
        return {"path": root} if any((root / name).is_file() for name in names) else None

    def read(self, settings: MeldSettings, output: Path) -> Corpus:
        root = require_path(settings.path, "folder")
        problems: list[str] = []
        rows: list[dict[str, Any]] = []
        repaired = 0
        notes: list[Finding] = []
        for split, name in FILES.items():
            try:
                place = require_inside(root / name, root, settings.follow_links)
                table = read_table(place, COLUMNS, settings.language)
            except InputError as error:
                problems += [f"{name}: {problem}" for problem in error.problems]
                continue
            notes += table.findings
            missing = missing_columns(table.rows.columns, COLUMNS)
            if missing:
                problems += [f"{name}: {problem}" for problem in missing]
                continue
            found, changed = _rows(table.rows, table.numbers, split, root, settings, problems)
            rows += found
            repaired += changed
        if problems:
            raise InputError(str(root), problems, "The three csv files of MELD's release belong into this folder.")
        rows, findings, unclear = _settled(rows, notes)
        if repaired:
            findings.append(
                Finding("repaired_text", "note", "transcripts with remains of Windows-1252 were repaired", repaired)
            )
        if not any(row["media"] for row in rows):
            findings.append(Finding("no_media", "note", "there are no clips: text alone can be used", len(rows)))
        utterances = make_table(rows, str(root))
        return Corpus(settings.name, utterances, root, card_for("meld"), findings=tuple(findings), set_aside=unclear)


def _settled(
    rows: list[dict[str, Any]], notes: list[Finding]
) -> tuple[list[dict[str, Any]], list[Finding], dict[str, str]]:
    """The rows with their recordings as paths, findings, and utterance -> why its recording cannot be told."""
    recordings: dict[str, Recording] = {row["utterance_id"]: row["media"] for row in rows}
    unclear = unsettled(recordings)
    apart = any(one.sound for one in recordings.values())
    clear = [
        row | {"media": row["media"].media} | ({"audio": row["media"].sound} if apart else {})
        for row in rows
        if row["utterance_id"] not in unclear
    ]
    return clear, [*notes, *recording_findings(recordings, unclear)], unclear


def _rows(
    rows: pd.DataFrame, line: pd.Series, split: str, root: Path, settings: MeldSettings, problems: list[str]
) -> tuple[list[dict[str, Any]], int]:
    """Utterances of one file, `media` still a Recording, and how many transcripts were repaired."""
    name = FILES[split]
    dialogue, turn = numbers(rows["Dialogue_ID"]), numbers(rows["Utterance_ID"])
    emotion, sentiment = rows["Emotion"].str.strip().str.lower(), rows["Sentiment"].str.strip().str.lower()
    for wrong, what in (
        (
            dialogue.isna() | turn.isna() | (dialogue % 1 != 0) | (turn % 1 != 0) | (turn < 0),
            "no whole number for an id",
        ),
        (~emotion.isin(EMOTIONS), "an emotion that is none of the seven"),
        (~sentiment.isin(SENTIMENTS), "a sentiment that is none of the three"),
        (
            pd.DataFrame({"dialogue": dialogue, "turn": turn}).duplicated(),
            "a dialogue and utterance that stand once more",
        ),
    ):
        if wrong.any():
            problems.append(f"{name}: {what} in {listed(line[wrong])}")
    if problems:
        return [], 0
    text = rows["Utterance"].map(repair_text)
    changed = int((text != rows["Utterance"]).sum())
    order = turn.groupby(dialogue).rank(method="first").astype(int) - 1
    finder = MediaFolder(root)
    folder = next((place for place in MEDIA[split] if settings.media and (root / place).is_dir()), None)
    table_rows = []
    for n in rows.index:
        key = f"dia{int(dialogue[n])}_utt{int(turn[n])}"
        recording = Recording()
        if folder is not None:
            recording = finder.find(folder, [key])
            if not recording.media and not recording.ambiguous:
                recording = Recording(media=f"{folder}/{key}.mp4")
        table_rows.append({
            "utterance_id": f"{split}_{key}", "corpus": settings.name, "split": split,
            "dialogue": f"{split}_dia{int(dialogue[n])}", "turn": int(order[n]),
            "speaker": repair_text(rows["Speaker"][n].strip()) or None, "start": 0.0, "text": spoken(text[n]),
            "language": settings.language, "media": recording, "emotion": emotion[n], "polarity": sentiment[n],
        })  # fmt: skip
    return table_rows, changed


def repair_text(text: str) -> str:
    """Undo what reading Windows-1252 as something else left behind.

    Control characters U+0080 to U+009F are bytes of Windows-1252 that were read as latin-1; a sequence such as "â€™"
    is UTF-8 that was read as Windows-1252.
    """
    if "â€" in text:
        with suppress(UnicodeError):  # a line that mixes both still has its control characters repaired below
            text = b"".join(_windows_byte(letter) for letter in text).decode("utf-8")
    return re.sub("[\x80-\x9f]", lambda found: found.group().encode("latin-1").decode("cp1252", "ignore"), text)


def _windows_byte(letter: str) -> bytes:
    """Windows-1252 leaves five bytes undefined; readers pass them on as control characters."""
    return letter.encode("latin-1") if "\x80" <= letter <= "\x9f" else letter.encode("cp1252")
