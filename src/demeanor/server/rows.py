"""Raw rows of a request: MLflow's JSON and CSV, or a form with recordings; and answers as JSON has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from demeanor.data.cells import missing
from demeanor.data.raw_rows import COLUMNS
from demeanor.server.intake import Form
from demeanor.server.refusals import Refusal

if TYPE_CHECKING:
    import pandas as pd

MODALITIES = ("text", "audio", "vision")
#: Parts of a form that hold a recording -> the column of its content. A `file` may be a film or sound.
UPLOADS = {"file": "video_bytes", "video": "video_bytes", "audio": "audio_bytes"}
#: Fields of a form that are cells of a row.
CELLS = tuple(name for name in COLUMNS if name not in ("audio", "video", "audio_bytes", "video_bytes"))


def of_body(body: bytes, content_type: str) -> list[dict[str, Any]]:
    """Rows of JSON or CSV as MLflow's door reads them; Refusal where there are none to be found."""
    from demeanor.serving.mlflow_server import RequestError, table_of_request

    try:
        table = table_of_request(body, content_type)
    except RequestError as error:
        codes = {413: "too_large", 415: "unsupported_media_type"}
        raise Refusal(codes.get(error.status, "bad_request"), str(error)) from None
    return [
        {name: value for name, value in zip(table.columns, values, strict=True) if not missing(value)}
        for values in table.to_numpy(dtype=object)
    ]


def of_form(form: Form) -> list[dict[str, Any]]:
    """One row per `file` (or `video`, or `audio`) in order; a field that comes once is for all rows. Refusal for parts
    that are not understood or do not fit together.

    `audio` beside as many `video` is the sound of those. Without any file, one row per `text`.
    """
    unknown = sorted(set(form.fields) - set(CELLS)) + sorted({name for name, _ in form.files} - set(UPLOADS))
    if unknown:
        raise Refusal(
            "bad_request",
            f"{len(unknown)} parts of the form are not understood; files: {', '.join(UPLOADS)}; "
            f"fields: {', '.join(CELLS)}",
        )
    columns: dict[str, list[Any]] = {name: list(values) for name, values in form.fields.items()}
    for name, path in form.files:
        columns.setdefault(UPLOADS[name], []).append(path.read_bytes())
    files = [len(columns[name]) for name in ("video_bytes", "audio_bytes") if name in columns]
    count = max(files or [len(columns.get("text", []))])
    odd = [name for name, values in columns.items() if len(values) not in (1, count)]
    if odd or count == 0 or any(number != count for number in files):
        raise Refusal(
            "bad_request",
            "the form must hold a recording (`file`) or a `text`, and of every other part one or as many as rows",
        )
    return [
        {name: values[row if len(values) > 1 else 0] for name, values in columns.items() if values[0] != ""}
        for row in range(count)
    ]


def left_out(given: Sequence[str]) -> tuple[str, ...]:
    """Modalities that `without=` names, once or several times, separated by commas. Refusal for any other word."""
    names = [name.strip() for part in given for name in part.split(",") if name.strip()]
    if set(names) - set(MODALITIES):
        raise Refusal("bad_request", f"`without` takes {', '.join(MODALITIES)}")
    return tuple(dict.fromkeys(names))


def truth(given: str | None, name: str) -> bool:
    """A switch of the query or of a form; Refusal for what is neither yes nor no."""
    told = (given or "false").strip().lower()
    if told not in ("true", "1", "false", "0"):
        raise Refusal("bad_request", f"`{name}` takes true or false")
    return told in ("true", "1")


def switched(form: Sequence[str], query: str | None, name: str) -> bool:
    """The same where both may say it: the form's last word counts, else the query's."""
    return truth(form[-1] if form else query, name)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One object per row, with null for what is missing."""
    from demeanor.inference.describe import records_of

    return records_of(table)
