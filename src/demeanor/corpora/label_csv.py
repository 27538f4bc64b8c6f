"""The layout in which the field keeps raw recordings: `label.csv` beside `Raw/<video_id>/<clip_id>.mp4`.

MMSA-FET and MMML read it (docs/systems/mmml.md#layout), MOSI, MOSEI, CH-SIMS and the demo corpus
are handed around in it. Variants that are accepted: `raw/` and `wav/`, clip ids padded with zeros or made floats, one
`id` column in place of two, labels of single modalities or none, `dev` for `valid`, any separator, a byte order mark.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from demeanor.corpora.base import Card, Corpus, Finding, Reader, ReaderSettings, require_path
from demeanor.corpora.cards import card_for
from demeanor.corpora.label_media import with_media
from demeanor.corpora.paths import as_identifier, why_unsafe_name, within
from demeanor.corpora.recordings import require_inside
from demeanor.corpora.sidecar import Sidecar, read_sidecar, word_times
from demeanor.corpora.tables import Table, listed, missing_columns, numbers, read_table
from demeanor.data.errors import InputError, nearest
from demeanor.data.names import normal_form
from demeanor.data.stream import Stream
from demeanor.data.texts import NO_NUMBER, spoken
from demeanor.data.utterances import make_table

LABELS = {
    "label": "sentiment",
    "label_T": "sentiment_text",
    "label_A": "sentiment_audio",
    "label_V": "sentiment_vision",
}
REQUIRED = {
    "video_id": "the recording a clip was cut from",
    "clip_id": "the clip's number or name within it",
    "text": "the transcript",
    "mode": "train, valid or test",
}
SPLIT_NAMES = {
    "train": "train", "training": "train", "valid": "valid", "val": "valid", "dev": "valid", "validation": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
#: Columns that are taken over as they are, where a table has them.
EXTRA = ("annotation", "speaker", "emotion")
#: MMML drops these six clips of MOSEI (docs/systems/mmml.md#dropped-clips).
MMML_DROPS = frozenset({
    ("3aIQUQgawaI", "12"), ("94ULum9MYX0", "2"), ("mRnEJOLkhp8", "24"),
    ("aE-X_QdDaqQ", "3"), ("94ULum9MYX0", "11"), ("mRnEJOLkhp8", "26"),
})  # fmt: skip

#: Row number -> (clip with its row, why it cannot be used).
BadRows = dict[int, tuple[str, str]]


class LabelCsvSettings(ReaderSettings):
    """
    table        the table, relative to `path`
    media        folder of the recordings; None looks for Raw, raw, wav, media
    sidecar      JSON with speaker, turn, emotion and word times by utterance; used if it is there
    low, high    range of the labels
    labels       "required": a clip without a label is an error; "optional": it can be predicted, not learnt from
    bad_rows     "error" stops at a row that cannot be used; "set_aside" leaves it out and reports it
    drop_mmml    leave out the six MOSEI clips that MMML leaves out
    letters      "sentence": the first letter stays, the rest becomes small, as MMML does with MOSI's capitals
    corpus       key of the licence and citation in demeanor.corpora.cards; None takes `name`
    """

    table: str = "label.csv"
    media: str | None = None
    sidecar: str = "sidecar.json"
    low: float = -3.0
    high: float = 3.0
    labels: Literal["required", "optional"] = "required"
    bad_rows: Literal["error", "set_aside"] = "error"
    drop_mmml: bool = False
    letters: Literal["as_written", "sentence"] = "as_written"
    corpus: str | None = Field(default=None)


class LabelCsvReader(Reader):
    """Reads the layout above. Every problem of the table is reported at once, by the row a spreadsheet shows."""

    settings_type = LabelCsvSettings

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        """`label.csv` in a folder, or a table with these columns under any name."""
        from demeanor.corpora.guessing import columns_of

        if path.is_dir():
            return {"path": path} if (path / "label.csv").is_file() else None
        columns = set(columns_of(path, tuple(REQUIRED)))
        named = {"video_id", "clip_id"} <= columns or "id" in columns
        return {"path": path.parent, "table": path.name} if named and {"text", "mode"} <= columns else None

    def read(self, settings: LabelCsvSettings, output: Path) -> Corpus:
        root = require_path(settings.path, "folder")
        known = [*REQUIRED, *LABELS, "id", "annotation"]
        place = require_inside(root / within(settings.table, root), root, settings.follow_links)
        table, where = read_table(place, known, settings.language), str(place)
        clips = _clips(table, where, settings)
        problems, bad = _row_problems(clips, settings)
        if problems and settings.bad_rows == "error":
            raise InputError(where, problems, "Correct these rows, or set `bad_rows: set_aside` to go on without them.")
        findings = list(table.findings)
        if bad:
            names = tuple(name for name, _ in list(bad.values())[:3])
            advice = "Correct the rows; until then they are left out."
            message = f"rows of {settings.table} that cannot be used"
            findings.append(Finding("bad_rows", "error", message, len(bad), names, advice))
        clips = clips[~clips["number"].isin(bad)]
        if settings.drop_mmml:
            numbered = clips["clip_id"].map(normal_form)
            dropped = [key in MMML_DROPS for key in zip(clips["video_id"], numbered, strict=True)]
            clips = clips[~np.array(dropped, dtype=bool)]
        if clips.empty:
            raise InputError(where, ["no row is left that could be used"])
        card = card_for(settings.corpus or settings.name)
        return _corpus(clips, settings, root, findings, dict(bad.values()), card)


def _clips(table: Table, where: str, settings: LabelCsvSettings) -> pd.DataFrame:
    """The columns that are read, as strings and numbers, with `number` (row in a spreadsheet)."""
    rows = table.rows
    required = dict(REQUIRED)
    if "id" in rows and not {"video_id", "clip_id"} & set(rows):
        rows = rows.assign(**_split_ids(rows["id"]))
    if settings.labels == "required":
        required["label"] = "the sentiment label"
    problems = missing_columns(rows.columns, required)
    if problems:
        raise InputError(where, problems, "Rename or add the columns; docs/corpora.md shows the layout.")
    clips = pd.DataFrame({name: rows[name].astype(str).str.strip() for name in REQUIRED}, index=rows.index)
    if settings.letters == "sentence":
        clips["text"] = clips["text"].str[:1] + clips["text"].str[1:].str.lower()
    for name in LABELS:
        if name in rows:
            clips[name] = numbers(rows[name], table.separator)
            clips[f"{name} as written"] = rows[name].astype(str).str.strip()
    for name in EXTRA:
        if name in rows:
            clips[name] = rows[name].astype(str).str.strip()
    return clips.assign(number=table.numbers)


def _split_ids(ids: pd.Series) -> dict[str, list[str]]:
    """`video$_$clip`, or `video_clip` cut at the last underscore."""
    pairs = [name.split("$_$", 1) if "$_$" in name else name.rsplit("_", 1) for name in ids.astype(str).str.strip()]
    return {"video_id": [pair[0] for pair in pairs], "clip_id": [pair[-1] for pair in pairs]}


def _row_problems(clips: pd.DataFrame, settings: LabelCsvSettings) -> tuple[list[str], BadRows]:
    """Lines that say what is wrong, and each row concerned with its reason."""
    problems: list[str] = []
    bad: BadRows = {}

    def report(rows: pd.DataFrame, reason: str, advice: str = "") -> None:
        if len(rows):
            problems.append(f"{reason} in {listed(rows['number'])}.{' ' + advice if advice else ''}")
            for video, clip, number in zip(rows["video_id"], rows["clip_id"], rows["number"], strict=True):
                bad.setdefault(int(number), (f"{video}_{clip} (row {number})", reason))

    for column in ("video_id", "clip_id"):
        reasons = clips[column].map(why_unsafe_name)
        for reason in sorted(set(reasons.dropna())):
            value = clips.loc[reasons == reason, column].iloc[0]
            report(clips[reasons == reason], f"{column} '{value[:60]}' {reason}")
    keys = clips["video_id"] + "_" + clips["clip_id"]
    repeated = keys.duplicated(keep="first")
    report(clips[repeated], f"clip {keys[repeated].iloc[0] if repeated.any() else ''} is listed a second time",
           "Every pair of video_id and clip_id may stand once.")  # fmt: skip
    known = clips["mode"].str.lower().isin(SPLIT_NAMES)
    for mode in sorted(set(clips.loc[~known, "mode"])):
        hint = nearest(mode.lower(), SPLIT_NAMES) if mode else ""
        report(clips[clips["mode"] == mode], f"mode '{mode}' is no split", f"Use train, valid or test.{hint}")
    for column in (name for name in LABELS if name in clips):
        values, written = clips[column], clips[f"{column} as written"]
        empty = written.str.lower().isin(NO_NUMBER)
        if column == "label" and settings.labels == "required":
            report(clips[empty], "the label is missing (empty or NaN)", "Or set `labels: optional` to predict only.")
        report(clips[values.isna() & ~empty], f"{column} '{_first(written[values.isna() & ~empty])}' is not a number")
        outside = values.notna() & ~values.between(settings.low - 1e-6, settings.high + 1e-6)
        report(clips[outside], f"{column} {_first(values[outside])} is outside [{settings.low:g}, {settings.high:g}]",
               "Correct it, or set `low` and `high` to the range of this corpus.")  # fmt: skip
    return problems, bad


def _first(values: pd.Series) -> str:
    return str(values.iloc[0]) if len(values) else ""


def _corpus(
    clips: pd.DataFrame,
    settings: LabelCsvSettings,
    root: Path,
    findings: list[Finding],
    set_aside: dict[str, str],
    card: Card,
) -> Corpus:
    clips = clips.assign(
        utterance_id=[as_identifier(f"{v}_{c}") for v, c in zip(clips["video_id"], clips["clip_id"], strict=True)],
        dialogue=clips["video_id"].map(as_identifier),
    )
    where = str(root / within(settings.table, root))
    folder = None if settings.media is None else within(settings.media, root)
    clips, recordings, media_findings, unclear = with_media(clips, root, folder, where)
    findings += media_findings
    set_aside = set_aside | unclear
    beside = require_inside(root / within(settings.sidecar, root), root, settings.follow_links)
    sidecar = read_sidecar(beside, clips, settings.name)
    clips["order"] = clips["clip_id"].map(clip_order)
    clips = clips.sort_values(["dialogue", "order"], kind="stable")
    turn = clips.groupby("dialogue").cumcount()
    apart = any(one.sound for one in recordings.values())
    rows = []
    for n, clip in enumerate(clips.to_dict("records")):
        row = {
            "utterance_id": clip["utterance_id"], "corpus": settings.name,
            "split": SPLIT_NAMES[clip["mode"].lower()], "dialogue": clip["dialogue"], "turn": int(turn.iloc[n]),
            "speaker": None, "start": 0.0, "end": np.nan, "text": spoken(clip["text"]),
            "language": settings.language, "media": recordings[clip["utterance_id"]].media,
        }  # fmt: skip
        row |= {"audio": recordings[clip["utterance_id"]].sound} if apart else {}
        row |= {LABELS[name]: clip[name] for name in LABELS if name in clip}
        row |= {name: clip[name] for name in EXTRA if clip.get(name)}
        rows.append(row | sidecar.columns(clip["utterance_id"]))
    table = make_table(rows, where)
    # A label column that is empty throughout says nothing, and a task on it could only fail later.
    empty = [name for name in LABELS.values() if name in table and table[name].isna().all()]
    return Corpus(
        name=settings.name,
        utterances=table.drop(columns=empty),
        root=root,
        card=card,
        streams=_streams(table, sidecar),
        findings=tuple(findings),
        set_aside=set_aside,
    )


def _streams(table: pd.DataFrame, sidecar: Sidecar) -> dict[str, Stream]:
    if not sidecar.words:
        return {}
    stream = word_times(table["utterance_id"], sidecar.words)
    return {stream.name: stream}


def clip_order(clip: str) -> tuple[int, float, str]:
    """Key that sorts clips of a recording as they were spoken.

    Numbers sort as numbers. In MOSEI's table a clip is named after its start time with the point replaced, so that
    `82_7645` is 82.7645 s (and not 827645, which is what Python's own `float` would read).
    """
    if re.fullmatch(r"\d+([._,]\d+)?", clip):
        return 0, float(re.sub("[_,]", ".", clip)), clip
    match = re.search(r"(\d+)\D*$", clip)
    return 1, float(match.group(1)) if match else 0.0, clip
