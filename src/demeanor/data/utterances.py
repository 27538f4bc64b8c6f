"""The utterances table: one row per utterance, checked by a schema when it is written and when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from demeanor.data.errors import InputError
from demeanor.data.table_on_disk import let_go
from demeanor.data.texts import has_content

if TYPE_CHECKING:
    import pandera.pandas as pa

SPLITS = ("train", "valid", "test")
BLOCK = 4096
MODALITIES = ("text", "audio", "vision")

#: Columns that every corpus has; a reader adds its label columns (sentiment, emotion, ...) after them.
COLUMNS: dict[str, str] = {
    "utterance_id": "unique within the corpus, safe as a file name",
    "corpus": "name of the corpus",
    "split": "train, valid or test",
    "dialogue": "the recording or conversation it belongs to",
    "turn": "position within the dialogue, from 0",
    "speaker": "who speaks; missing where unknown",
    "start": "seconds from the start of `media`; 0 where the file is the utterance",
    "end": "seconds; missing means the end of the file",
    "text": "transcript; missing where there is none",
    "language": "ISO 639-1 code",
    "media": "path of the recording relative to the corpus folder; missing where there is none",
    "audio": "path of a recording whose sound takes the place of that of `media`; the column may be missing",
}
#: Column -> type.
TYPES = {**dict.fromkeys(COLUMNS, "str"), "turn": "int64", "start": "float64", "end": "float64"}
#: Numeric label columns by modality of the annotation (MMSA's label, label_T, label_A, label_V).
SENTIMENT_COLUMNS = {
    "fusion": "sentiment",
    "text": "sentiment_text",
    "audio": "sentiment_audio",
    "vision": "sentiment_vision",
}


def schema() -> pa.DataFrameSchema:
    """The pandera schema of the table; label columns are free, numeric ones finite or missing."""
    import pandera.pandas as pa

    text = {"coerce": True}
    return pa.DataFrameSchema(
        {
            "utterance_id": pa.Column(str, pa.Check.str_matches(r"^[^/\\\s]+$"), unique=True, **text),
            "corpus": pa.Column(str, **text),
            "split": pa.Column(str, pa.Check.isin(SPLITS), **text),
            "dialogue": pa.Column(str, **text),
            "turn": pa.Column("int64", pa.Check.ge(0), coerce=True),
            "speaker": pa.Column(str, nullable=True, **text),
            "start": pa.Column(float, pa.Check.ge(0), coerce=True),
            "end": pa.Column(float, nullable=True, coerce=True),
            "text": pa.Column(str, nullable=True, **text),
            "language": pa.Column(str, **text),
            "media": pa.Column(str, nullable=True, **text),
            "audio": pa.Column(str, nullable=True, required=False, **text),
        },
        strict=False,
        unique=["dialogue", "turn"],
        name="utterances",
    )


def validate(table: pd.DataFrame, where: str = "utterances") -> pd.DataFrame:
    """The table with its column types made right, or an InputError that lists every problem."""
    import pandera.errors

    try:
        checked = schema().validate(table, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        raise InputError(where, _problems(errors.failure_cases)) from None
    problems = [
        f"column '{name}': {int(np.isinf(checked[name]).sum())} infinite values"
        for name in checked.columns
        if pd.api.types.is_float_dtype(checked[name]) and np.isinf(checked[name]).any()
    ]
    if problems:
        raise InputError(where, problems)
    return checked


def _problems(cases: pd.DataFrame) -> list[str]:
    """One line per column and rule, with how many rows and three examples; never a thousand rows."""
    lines = []
    for (column, check), group in cases.groupby(["column", "check"], dropna=False, sort=False):
        values = [str(value) for value in group["failure_case"].head(3)]
        place = "table" if not isinstance(column, str) else f"column '{column}'"
        rows = "" if group["index"].isna().all() else f" in {group['index'].nunique()} rows"
        lines.append(f"{place}: {check}{rows}, for example {', '.join(values)}")
    return lines


def make_table(rows: list[dict[str, Any]] | pd.DataFrame, where: str = "utterances") -> pd.DataFrame:
    """A checked table from one row or dict per utterance; columns in standard order, labels after them."""
    return validate(_arranged(rows), where)


def table_of_checked(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The same table for rows whose every cell has been made right before (those that a model is to score): the library
    of the schema takes half a second to import, which a command for one sentence has not."""
    table = _arranged(rows)
    return table.astype({name: kind for name, kind in TYPES.items() if name in table})


def _arranged(rows: list[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    for name in ("speaker", "text", "media", "end"):
        if name not in table:
            table[name] = None
    for name, default in (("start", 0.0), ("language", "en")):
        if name not in table:
            table[name] = default
    known = [name for name in COLUMNS if name in table]
    return table[known + [name for name in table if name not in COLUMNS]]


def names_in(table: pd.DataFrame) -> Iterator[str]:
    """The ids of the utterances, in order."""
    return cells(table["utterance_id"])


def cells(column: pd.Series) -> Iterator[Any]:
    """The cells of a column, in order; some thousand are strings of Python at a time."""
    for start in range(0, len(column), BLOCK):
        let_go()  # what was read of it for those before
        yield from column.iloc[start : start + BLOCK].tolist()


def has_text(table: pd.DataFrame) -> pd.Series:
    """True where there is a transcript with at least one visible character."""
    return pd.Series(list(map(has_content, cells(table["text"]))), index=table.index, dtype=bool)
