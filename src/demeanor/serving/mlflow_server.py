"""What MLflow's scoring server does with a request before the model sees it, where that would lose rows or words.

MLflow turns the body into a table by itself: one odd record refuses the whole request, `text/csv` loses the words
None, NA and null (pandas takes them for missing), and its messages repeat the body. `mend_requests` puts a function of
the same form in the place of `mlflow.pyfunc.scoring_server.invocations`; protocol and answers stay MLflow's
(https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#inference-server-specification).
"""

from __future__ import annotations

import json
import logging
import traceback
from dataclasses import replace
from typing import Any

import pandas as pd

from demeanor.data.budget import values_in
from demeanor.data.cells import Unreadable, whole
from demeanor.data.delimited import delimited
from demeanor.data.errors import DemeanorError, InputError
from demeanor.data.raw_rows import COLUMNS
from demeanor.data.texts import LEGACY, Text, decode
from demeanor.inference.describe import records_of
from demeanor.serving.tables import rows_of

logger = logging.getLogger(__name__)

#: Bytes of a request: some minutes of film in base64. Rows: more are not answered within MLflow's time limit.
LARGEST_BODY, MOST_ROWS = 256 << 20, 10_000
#: Values in a request, and columns of a table: several times what so many rows have.
MOST_VALUES, MOST_COLUMNS = 1_000_000, 1_000
#: Charset of a table as a header names it -> Python's name of it. Latin-1 is what the web means by it.
ENCODINGS = {
    **{name.replace("_", "-"): name for encodings, _ in LEGACY.values() for name in encodings},
    **{name: name for name in ("utf-8", "utf-16", "utf-16le", "utf-16be", "utf-32", "cp1252", "shift-jis", "gbk")},
    **{f"windows-{page}": f"cp{page}" for page in range(1250, 1259)},
    **dict.fromkeys(("iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii"), "cp1252"),
    "utf8": "utf-8", "iso-8859-15": "iso-8859-15",
}  # fmt: skip
FORMATS = ("dataframe_records", "dataframe_split", "instances", "inputs")


class RequestError(DemeanorError):
    """A request that holds no rows; `status` is that of HTTP."""

    def __init__(self, message: str, status: int = 400):
        self.status = status
        super().__init__(message)


def mend_requests() -> None:
    """Let MLflow's scoring server, where it runs in this process, read requests by `invocations`."""
    from mlflow.pyfunc import scoring_server

    scoring_server.invocations = invocations


def invocations(data: bytes | str, content_type: str | None, model: Any, input_schema: Any) -> Any:
    """The answer to one request, in the form that MLflow's server hands on: response, status, mimetype."""
    from mlflow.pyfunc.scoring_server import InvocationsResponse

    try:
        answers = records_of(model.predict(table_of_request(data, content_type or "")))
        text, status = json.dumps({"predictions": answers}, allow_nan=False), 200
    except RequestError as error:
        text, status = _failure(str(error)), error.status
    except InputError as error:
        text, status = _failure(str(error)), 400
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("a request: %s in %s, line %s", type(error).__name__, place.filename, place.lineno)
        text, status = _failure(f"the model could not answer ({type(error).__name__})"), 500
    return InvocationsResponse(response=text, status=status, mimetype="application/json")


def _failure(message: str) -> str:
    return json.dumps({"error_code": "BAD_REQUEST", "message": message})


def table_of_request(data: bytes | str, content_type: str) -> pd.DataFrame:
    """Rows of a request with every column of COLUMNS, in order; RequestError where there are none to be found.

    Other columns are left out, as MLflow does by a model's signature.
    """
    body = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(body) > LARGEST_BODY:
        raise RequestError(f"the request has {len(body)} bytes, more than {LARGEST_BODY}", 413)
    kind, _, parameters = content_type.partition(";")
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(" \"'").lower()
    kind = kind.strip().lower()
    if kind not in ("application/json", "text/csv"):
        # Parquet, which MLflow reads as well, can unpack to any size.
        raise RequestError("the content type must be application/json or text/csv", 415)
    table = _from_csv(body, charset) if kind == "text/csv" else _from_json(_json_text(body, charset))
    if len(table) > MOST_ROWS:
        raise RequestError(f"the request has more than {MOST_ROWS} rows", 413)
    return known_columns(table)


def known_columns(given: Any) -> pd.DataFrame:
    """The table of whatever a model is handed, with every column of COLUMNS and without others."""
    if isinstance(given, dict):
        given = _from_columns(given)
    if not isinstance(given, pd.DataFrame):
        given = _from_records(list(given))
    table = given.loc[:, [name in COLUMNS for name in given.columns]]
    table = table.loc[:, ~table.columns.duplicated()]
    return table.astype(object).reindex(columns=list(COLUMNS))


def _json_text(body: bytes, charset: str) -> str:
    if charset not in ("", "utf-8", "utf8"):
        raise RequestError("the body must be UTF-8", 415)
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8, at byte {error.start}") from None


def _from_csv(body: bytes, charset: str) -> pd.DataFrame:
    """As the file of such a table is read, in whatever encoding it came: that of the header, else the one it has."""
    known = ENCODINGS.get(charset.replace("_", "-"))
    if charset and known is None:
        raise RequestError("the charset is unknown here: send the table in UTF-8", 415)
    try:
        text = decode(body, "the body") if known in (None, "utf-8") else Text(body.decode(known), known)
        text = replace(text, content=text.content.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff"))
        table = delimited(text, "the body", COLUMNS, COLUMNS, MOST_ROWS + 1, MOST_COLUMNS)
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not {known}, at byte {error.start}") from None
    except InputError as error:
        raise RequestError(str(error)) from None
    return _from_records(rows_of(table))


def _from_json(text: str) -> pd.DataFrame:
    try:
        if values_in(text) > MOST_VALUES:
            raise RequestError(f"the request holds more than {MOST_VALUES} values", 413)
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(f"the body is no JSON (line {error.lineno}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is no JSON that can be read ({type(error).__name__})") from None
    formats = [name for name in FORMATS if isinstance(content, dict) and name in content]
    if len(formats) != 1:
        raise RequestError(f"the body must be a JSON object with one of {', '.join(FORMATS)}")
    given = content[formats[0]]
    if formats[0] == "dataframe_split":
        return _from_split(given)
    if isinstance(given, dict) and formats[0] in ("inputs", "instances"):
        return _from_columns(given)
    if not isinstance(given, list):
        raise RequestError(f"`{formats[0]}` must be a list of objects")
    return _from_records(given)


def _from_split(given: Any) -> pd.DataFrame:
    columns, rows = (given.get("columns"), given.get("data")) if isinstance(given, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(rows, list) or not _are_names(columns):
        raise RequestError("`dataframe_split` must be an object with a list `columns` of names and a list `data`")
    # A row of another length cannot be told apart from one whose cells are shifted: nothing of it is used.
    return _from_records(
        [
            dict(zip(columns, row, strict=True))
            if isinstance(row, list) and len(row) == len(columns)
            else {"text": Unreadable("the row is no list with a cell for every column")}
            for row in rows
        ]
    )


def _are_names(columns: list[Any]) -> bool:
    return all(isinstance(name, str) for name in columns)


def _from_columns(given: dict[Any, Any]) -> pd.DataFrame:
    """Column -> list of cells, or one cell for a single row."""
    lists = {
        name: [_sendable(cell) for cell in (value if isinstance(value, list) else _listed(value))]
        for name, value in given.items()
    }
    if len({len(value) for value in lists.values()}) > 1:
        raise RequestError("the columns have different numbers of rows")
    return pd.DataFrame({name: pd.Series(value, dtype=object) for name, value in lists.items()})


def _listed(value: Any) -> list[Any]:
    return list(value) if getattr(value, "ndim", 0) == 1 else [value]


def _sendable(cell: Any) -> Any:
    """Text as a table of pandas can hold it."""
    return whole(cell) if isinstance(cell, str) else cell


def _from_records(given: list[Any]) -> pd.DataFrame:
    """What is no object is a row that says so."""
    return pd.DataFrame(
        [
            {name: _sendable(record[name]) for name in COLUMNS if name in record}
            if isinstance(record, dict)
            else {"text": Unreadable("the row is no object with columns as its keys")}
            for record in given
        ],
        columns=list(COLUMNS),
        dtype=object,
    )
