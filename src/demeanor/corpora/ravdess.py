"""RAVDESS speech: acted sentences of two wordings, eight emotions, no dialogue; audio alone, or with the film.

A folder of `Actor_NN/<seven numbers>.wav` (or flac), with or without a `manifest.csv`. The numbers of a file name are
modality, channel, emotion, intensity, statement, repetition and actor. The release has each performance up to three
times, as sound and picture (01), picture (02) and sound (03): that is one utterance here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field

from demeanor.corpora.base import Corpus, Finding, Reader, ReaderSettings, require_path
from demeanor.corpora.cards import card_for
from demeanor.corpora.paths import MEDIA_SUFFIXES, why_unsafe, within
from demeanor.corpora.recordings import require_inside
from demeanor.corpora.tables import listed, missing_columns, read_table
from demeanor.data.errors import InputError
from demeanor.data.texts import spoken
from demeanor.data.utterances import make_table

EMOTIONS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
SPELLINGS = {
    "happy": "happiness", "sad": "sadness", "angry": "anger", "fearful": "fear", "surprised": "surprise",
    "disgusted": "disgust",
}  # fmt: skip
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
NAME = re.compile(r"(0[123])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")
#: EmoBox (Ma et al., 2024): the actors of the six published test folds.
EMOBOX = (
    (1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22),
)  # fmt: skip
COLUMNS = {"path": "the recording", "speaker": "the actor's number", "emotion": "one of eight"}


class RavdessSettings(ReaderSettings):
    """
    held_out  actors in each of valid and test, the last ones; None takes about a sixth, women and men alike (odd
              numbers are men, even ones women)
    emobox    number of a fold of EmoBox, 1 to 6: its four actors are the test split, those of the next fold valid.
              EmoBox itself has no validation actors and chooses epochs on clips of its training actors
    """

    name: str = "ravdess"
    held_out: int | None = Field(default=None, ge=1)
    emobox: int | None = Field(default=None, ge=1, le=len(EMOBOX))


class RavdessReader(Reader):
    """Gives `emotion` (eight names), `intensity` (normal, strong) and `gender`; no actor is in two splits."""

    settings_type = RavdessSettings

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        """Recordings named like RAVDESS's below `Actor_NN`, or its manifest, which is none of `folder`'s."""
        from demeanor.corpora.guessing import columns_of

        root = path if path.is_dir() else path.parent
        if path in (root, root / "manifest.csv"):
            columns = columns_of(root / "manifest.csv", tuple(COLUMNS))
            named = any(NAME.fullmatch(file.stem) for file in (*root.glob("Actor_*/*"), *root.glob("*/Actor_*/*")))
            if (set(COLUMNS) <= set(columns) and "id" not in columns) or (path == root and named):
                return {"path": root}
        return None

    def read(self, settings: RavdessSettings, output: Path) -> Corpus:
        root = require_path(settings.path, "folder")
        manifest = root / "manifest.csv"
        notes: tuple[Finding, ...] = ()
        if manifest.is_file():
            rows, notes = _from_manifest(require_inside(manifest, root, settings.follow_links), settings.language)
        else:
            rows = _from_names(root)
        rows, repeated = one_each(rows)
        speakers = sorted({row["speaker"] for row in rows})
        place = _splits(speakers, settings, str(root))
        common = {"corpus": settings.name, "turn": 0, "start": 0.0, "language": settings.language}
        table = make_table([row | common | {"split": place[row["speaker"]]} for row in rows], str(root))
        found = table["speaker"].value_counts()
        short = [f"{name}: {number}" for name, number in found.items() if number != 60]
        findings = [*notes, *repeated]
        if short:
            message = "actors with another number of recordings than 60"
            findings.append(Finding("expected_counts", "warning", message, len(short), tuple(short[:3])))
        return Corpus(settings.name, table, root, card_for("ravdess"), findings=tuple(findings))


def _splits(speakers: list[str], settings: RavdessSettings, where: str) -> dict[str, str]:
    """Actor -> split; InputError where there are too few, or not those of the published fold."""
    place = dict.fromkeys(speakers, "train")
    if settings.emobox is not None:
        for split, fold in (("valid", settings.emobox % len(EMOBOX)), ("test", settings.emobox - 1)):
            place |= dict.fromkeys((f"Actor_{actor:02d}" for actor in EMOBOX[fold]), split)
        missing = [actor for actor in place if actor not in speakers]
        if missing:
            advice = "Leave out `emobox`, or get all 24 actors."
            raise InputError(where, [f"fold {settings.emobox} of EmoBox wants {', '.join(missing)}"], advice)
        return place
    count = settings.held_out or 2 * max(1, round(len(speakers) / 12))
    if len(speakers) < 3 or 2 * count >= len(speakers):
        raise InputError(where, [f"{len(speakers)} actors cannot be split with {count} each held out"])
    return place | dict.fromkeys(speakers[-2 * count : -count], "valid") | dict.fromkeys(speakers[-count:], "test")


def one_each(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Finding]]:
    """One row per performance: sound and picture where a file has both, else the film with the sound apart."""
    performances: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        match = NAME.fullmatch(row["utterance_id"])
        performances.setdefault(row["utterance_id"][3:] if match else row["media"], []).append(row)
    kept: list[dict[str, Any]] = []
    for members in performances.values():
        # Of several files of one kind (wav and flac, or two folders) the first.
        kinds = {row["utterance_id"][:2]: row for row in reversed(members)}
        both, film, sound = (kinds.get(kind) for kind in ("01", "02", "03"))
        if both is None and film is not None and sound is not None:
            kept.append(film | {"audio": sound["media"]})
        else:
            kept.append(both or film or sound or members[0])
    if any("audio" in row for row in kept):
        kept = [{"audio": None} | row for row in kept]
    several = [
        row["utterance_id"] for row, members in zip(kept, performances.values(), strict=True) if len(members) > 1
    ]
    if not several:
        return kept, []
    finding = Finding(
        "several_files", "note", f"performances that lie there more than once ({len(rows)} files)", len(several),
        tuple(several[:3]),
        "Each is one utterance: the file with sound and picture, else the film with the sound apart.",
    )  # fmt: skip
    return kept, [finding]


def _from_manifest(path: Path, language: str) -> tuple[list[dict[str, Any]], tuple[Finding, ...]]:
    table = read_table(path, COLUMNS, language)
    rows = table.rows
    problems = missing_columns(rows.columns, COLUMNS)
    if problems:
        raise InputError(str(path), problems)
    emotion = rows["emotion"].str.strip().str.lower().replace(SPELLINGS)
    rows["path"] = [within(cell, path.parent) for cell in rows["path"]]
    unsafe = rows["path"].map(why_unsafe)
    for wrong, what in (
        (~emotion.isin(EMOTIONS), "an emotion that is none of the eight"),
        (unsafe.notna(), "a path that leads out of the corpus folder"),
        (rows["path"].duplicated(), "a recording that is listed again"),
        (rows["speaker"].str.strip() == "", "no actor"),
    ):
        if wrong.any():
            problems.append(f"{what} in {listed(table.numbers[wrong])}")
    if problems:
        raise InputError(str(path), problems)
    found = []
    for n, row in enumerate(rows.to_dict("records")):
        name = Path(row["path"]).stem
        found.append({
            "utterance_id": name, "dialogue": name, "speaker": f"Actor_{int(row['speaker']):02d}"
            if row["speaker"].strip().isdecimal() else row["speaker"].strip(),
            "text": spoken(row.get("text")), "media": row["path"], "emotion": emotion.iloc[n],
            **{key: row[key] for key in ("intensity", "gender") if row.get(key)},
        })  # fmt: skip
    return found, table.findings


def _from_names(root: Path) -> list[dict[str, Any]]:
    found = []
    # The release's archives unpack to Actor_NN, or to one folder per archive with Actor_NN inside; copies of it lie in
    # folders of any name, or in one. A file's own name says all.
    nearest_first = sorted(root.rglob("*"), key=lambda path: (len(path.parts), path))
    for path in dict.fromkeys([*sorted(root.glob("Actor_*/*")), *nearest_first]):
        match = NAME.fullmatch(path.stem)
        if match is None or path.suffix.lower() not in MEDIA_SUFFIXES:
            continue
        _, channel, emotion, intensity, statement, _, actor = match.groups()
        if channel != "01":  # sung, not spoken
            continue
        found.append({
            "utterance_id": path.stem, "dialogue": path.stem, "speaker": f"Actor_{actor}",
            "text": STATEMENTS[statement], "media": path.relative_to(root).as_posix(),
            "emotion": EMOTIONS[int(emotion) - 1],
            "intensity": "strong" if intensity == "02" else "normal", "gender": "male" if int(actor) % 2 else "female",
        })  # fmt: skip
    if not found:
        raise InputError(str(root), ["no recording is named like RAVDESS's, for example 03-01-06-01-02-01-12.wav"])
    return found
