"""Your own recordings: a manifest (csv or parquet), or nothing but a folder of clips.

A manifest needs `id` and one of `text`, `audio`, `video` (or `media`). Everything else has a default: one dialogue per
row, an unknown speaker, no labels. Numeric columns and short text columns that are none of the known ones are labels.
Of a row with `video` and `audio` the pictures of the one and the sound of the other are read, as in serving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

import pandas as pd

from demeanor.corpora.base import Card, Corpus, Finding, Reader, ReaderSettings, require_path
from demeanor.corpora.folder_media import find_recordings, scan
from demeanor.corpora.label_csv import SPLIT_NAMES
from demeanor.corpora.packed_tables import check_parquet
from demeanor.corpora.paths import as_identifier, why_unsafe, why_unsafe_name, within
from demeanor.corpora.recordings import require_inside
from demeanor.corpora.splits import random_split
from demeanor.corpora.tables import listed, numbers, read_table
from demeanor.data.errors import InputError, nearest
from demeanor.data.names import MEDIA_SUFFIXES, Index
from demeanor.data.table_on_disk import assembled, blocks
from demeanor.data.texts import NO_NUMBER, has_content, spoken
from demeanor.data.utterances import make_table

MANIFESTS = ("manifest.csv", "manifest.tsv", "manifest.parquet")
SOURCES = ("video", "audio", "media", "text")
KNOWN = ("id", *SOURCES, "split", "dialogue", "turn", "speaker", "start", "end", "language")


class FolderSettings(ReaderSettings):
    """
    manifest  relative to `path`; None looks for manifest.csv, .tsv or .parquet and does without one if there is none
    labels    columns that are labels; None takes every column that is not known by name
    low, high range of the labels that are numbers; None accepts any
    shares    train, valid, test where the manifest has labels and no `split` column: by speaker if there are three,
              else by dialogue
    seed      of that split
    """

    name: str = "folder"
    manifest: str | None = None
    labels: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    seed: int = 1


class FolderReader(Reader):
    """Gives the label columns under their own names. Without labels all rows are `test`: there is only prediction."""

    settings_type: ClassVar[type[ReaderSettings]] = FolderSettings
    takes_what_is_left = True

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        """A folder with a manifest or any recording below it, a manifest of any name, or a single recording."""
        from demeanor.corpora.guessing import columns_of

        if path.is_dir():
            found = any((path / name).is_file() for name in MANIFESTS) or any(map(_is_recording, path.rglob("*")))
            return {"path": path} if found else None
        columns = set(columns_of(path, KNOWN))
        if "id" in columns and columns & set(SOURCES):
            return {"path": path.parent, "manifest": path.name}
        return {"path": path} if _is_recording(path) else None

    def read(self, settings: FolderSettings, output: Path) -> Corpus:
        alone = settings.path if require_path(settings.path, "any").is_file() and _is_recording(settings.path) else None
        root = alone.parent if alone else require_path(settings.path, "folder")
        given = within(settings.manifest, root) if settings.manifest else None
        names = () if alone else (given,) if given else MANIFESTS
        there = Index(sorted(path.name for path in root.iterdir() if path.is_file()))
        manifest = next((root / found[0] for name in names if (found := there.matching(name))), None)
        if manifest is None and not alone and given and (root / given).is_file():
            manifest = root / given
        if manifest is None and settings.manifest:
            raise InputError(str(root), [f"there is no manifest '{settings.manifest}'"])
        findings: list[Finding] = []
        if manifest:
            place = require_inside(manifest, root, settings.follow_links)
            table, line, separator = _manifest(place, settings.language, findings)
        else:
            table, line, separator = scan(root, settings.language, settings.follow_links, findings, alone), None, ","
            if table.empty:
                raise InputError(str(root), [f"holds neither a manifest ({', '.join(MANIFESTS)}) nor a recording"])
        where = str(manifest or root)
        problems: list[str] = []
        rows, labels = rows_of_table(table, line, separator, settings, problems)
        if problems:
            raise InputError(where, problems, "docs/corpora.md shows a manifest.")
        splits = splits_of(table, rows, labels, settings, findings, problems)
        if problems:
            raise InputError(where, problems)
        plain = rows.assign(split=splits).astype(object)
        told: list[dict[str, Any]] = [*plain.where(plain.notna(), None).to_dict("records")]  # type: ignore[list-item]
        found_rows, set_aside = find_recordings(told, root, where, findings, manifest is not None)
        checked = make_table(found_rows, where)
        card = Card(settings.name, "that of your own recordings")
        return Corpus(settings.name, checked, root, card, findings=tuple(findings), set_aside=set_aside)


def _manifest(path: Path, language: str, findings: list[Finding]) -> tuple[pd.DataFrame, pd.Series, str]:
    if path.suffix.lower() == ".parquet":
        check_parquet(path)
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(str(path), [f"not a readable parquet file ({error})"]) from None
        table.columns = [str(name).strip() for name in table.columns]
        strings = table.astype(object).where(table.notna(), "").map(str)
        return strings.astype(object), pd.Series(range(1, len(table) + 1), index=table.index), ","
    parsed = read_table(path, KNOWN, language)
    findings += parsed.findings
    return parsed.rows, parsed.numbers, parsed.separator


def _is_recording(path: Path) -> bool:
    return path.suffix.lower() in MEDIA_SUFFIXES and not path.name.startswith(".")


def rows_of_table(
    table: pd.DataFrame, line: pd.Series | None, separator: str, settings: FolderSettings, problems: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the utterances table, their splits apart, and names of the label columns; what is wrong goes to
    `problems`."""
    if "id" not in table:
        problems.append(f"there is no column 'id'.{nearest('id', table.columns)}")
    if not any(name in table for name in SOURCES):
        problems.append("there is none of the columns text, audio, video, media")
    labels = _label_columns(table, settings, problems)
    if problems:
        return pd.DataFrame(), []
    clean = assembled(_clean(block, separator, Path(settings.path)) for block in blocks(table)).set_axis(table.index)
    values = {name: _label(table[name].astype(str).str.strip(), separator) for name in labels}
    places = line if line is not None else pd.Series(range(1, len(table) + 1), index=table.index)
    for wrong, what in _checks(clean, values, settings):
        if wrong.any():
            problems.append(f"{what} in {listed(places[wrong])}")
    rows = assembled(_rows(block, settings) for block in blocks(clean)).set_axis(table.index)
    if rows["audio"].isna().all():
        rows = rows.drop(columns="audio")
    return rows.assign(turn=_turns(clean), **values), labels


def _rows(clean: pd.DataFrame, settings: FolderSettings) -> pd.DataFrame:
    """What the utterances table has of them, but for their turns, splits and labels."""
    filled = {name: clean[name].where(clean[name] != "", None) for name in ("speaker", "media", "audio")}
    language = clean["language"].where(clean["language"] != "", settings.language)
    return pd.DataFrame(
        {"utterance_id": clean["id"], "corpus": settings.name, "dialogue": clean["dialogue"],
         "speaker": filled["speaker"], "start": clean["start"].fillna(0.0), "end": clean["end"],
         "text": clean["text"].map(spoken), "language": language, "media": filled["media"], "audio": filled["audio"]}
    )  # fmt: skip


def _clean(table: pd.DataFrame, separator: str, root: Path) -> pd.DataFrame:
    """All known columns, as strings or numbers; empty where the manifest has none. Paths are those below `root`."""
    nothing = pd.Series("", index=table.index, dtype="str")
    stripped = {name: table[name].astype(str).str.strip() if name in table else nothing for name in KNOWN}
    clean = pd.DataFrame({name: stripped[name] for name in ("text", "speaker", "language")})
    clean["id"] = stripped["id"].map(as_identifier)
    dialogue = stripped["dialogue"].map(as_identifier)
    clean["dialogue"] = dialogue.where(dialogue != "", clean["id"])
    media, sound, video = (stripped[name].map(lambda cell: within(cell, root)) for name in ("media", "audio", "video"))
    picture = media.where(video == "", video)
    # Sound beside a picture takes the place of the picture's own; sound alone is the recording.
    clean["media"] = picture.where(picture != "", sound)
    clean["audio"] = sound.where((picture != "") & (sound != picture), "")
    for name in ("start", "end", "turn"):
        clean[name] = numbers(stripped[name], separator)
        clean[f"{name} as written"] = stripped[name]
    return clean


def _checks(
    clean: pd.DataFrame, values: dict[str, pd.Series], settings: FolderSettings
) -> Iterator[tuple[pd.Series, str]]:
    """(rows, what is wrong with them)."""
    yield clean["id"].map(why_unsafe_name).notna(), "no usable id"
    yield clean["id"].duplicated(), "an id that stands once more"
    for column in ("media", "audio"):
        drive = _where(clean[column], lambda path: bool(PureWindowsPath(path).drive))
        yield drive, "a path with a drive or a network share, which leads out of the folder (give the path within it)"
        outside = _where(clean[column], lambda path: bool(path) and why_unsafe(path) is not None)
        yield outside & ~drive, "a path that leads out of the folder"
    yield (clean["media"] == "") & ~_where(clean["text"], has_content), "neither text nor a recording"
    for name in ("start", "end", "turn"):
        written = clean[f"{name} as written"].str.lower()
        yield clean[name].isna() & ~written.isin(NO_NUMBER), f"no number for {name}"
    yield clean["start"].lt(0), "a start before 0"
    yield clean["end"].le(clean["start"].fillna(0)), "an end that is not after its start"
    for name, value in values.items():
        if value.dtype == float and settings.low is not None and settings.high is not None:
            outside = value.notna() & ~value.between(settings.low, settings.high)
            yield outside, f"{name} outside [{settings.low:g}, {settings.high:g}]"


def _where(column: pd.Series, holds: Callable[[str], bool]) -> pd.Series:
    """Where something holds of a cell; booleans even if there is no row."""
    return pd.Series([bool(holds(cell)) for cell in column], index=column.index, dtype=bool)


def _turns(clean: pd.DataFrame) -> pd.Series:
    """Position within the dialogue: by `turn` where it is given, else in the order of the manifest."""
    order = clean[["dialogue", "turn"]].assign(position=range(len(clean)))
    order = order.sort_values(["turn", "position"], kind="stable")
    return order.groupby("dialogue").cumcount().reindex(clean.index)


def _label_columns(table: pd.DataFrame, settings: FolderSettings, problems: list[str]) -> list[str]:
    if settings.labels is None:
        return [name for name in map(str, table.columns) if name not in KNOWN and name]
    problems += [
        f"there is no label column '{name}'.{nearest(name, table.columns)}"
        for name in settings.labels
        if name not in table
    ]
    return list(settings.labels)


def _label(column: pd.Series, separator: str) -> pd.Series:
    """Numbers if every cell that is not empty, and does not say that there is none, is one; else names."""
    values = numbers(column, separator)
    if values.notna().any() and (values.notna() | column.str.lower().isin(NO_NUMBER)).all():
        return values
    if (column == "").all():
        return values
    return column.where(column != "", None)


def splits_of(
    table: pd.DataFrame, rows: pd.DataFrame, labels: list[str], settings: FolderSettings,
    findings: list[Finding], problems: list[str],
) -> list[str]:  # fmt: skip
    """The manifest's own split, or one by speaker or dialogue, or all test where there is nothing to learn from."""
    if "split" in table and table["split"].astype(str).str.strip().ne("").any():
        given = table["split"].astype(str).str.strip().str.lower()
        unknown = sorted(set(given) - set(SPLIT_NAMES))
        problems += [f"split '{name}' is none.{nearest(name, SPLIT_NAMES)}" for name in unknown]
        return [SPLIT_NAMES.get(name, "test") for name in given]
    if not labels or not rows[labels].notna().any(axis=None):
        findings.append(
            Finding("no_labels", "warning", "there is no label: nothing can be learnt, only predicted", len(rows),
                    advice="Add a column with a number or a class, for example `sentiment`.")
        )  # fmt: skip
        return ["test"] * len(rows)
    draft = make_table(rows.assign(split="train"), "manifest")
    by = "speaker" if draft["speaker"].notna().all() and draft["speaker"].nunique() >= 3 else "dialogue"
    made = random_split(draft, by, settings.shares, settings.seed)
    findings.append(Finding("own_split", "note", f"split by {by}, seed {settings.seed}, sha256 {made.sha256[:16]}"))
    place = {name: part for part, ids in made.parts.items() for name in ids}
    return [place[name] for name in rows["utterance_id"]]
