"""One cell of a raw row: what may stand there, which files it may name, and why not. No message repeats what does stand
there.

Whoever calls Demeanor on their own machine may name any file. Whoever sends rows to a server may name none, because
the answer would tell what lies there: unless the server was started with DEMEANOR_MEDIA_ROOT, and then the recordings
within that folder alone, wherever links and `..` lead.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.errors import DemeanorError
from demeanor.data.texts import has_content

#: Characters of a transcript: a hundred pages. What is longer is not one utterance.
LONGEST_TEXT = 100_000
#: Characters of a name: of a row, a speaker, a dialogue.
LONGEST_NAME = 200
#: Bytes that a path, and one name within it, may have on the systems that Demeanor runs on.
LONGEST_PATH, LONGEST_PART = 4095, 255
#: Seconds from the start of a recording: eleven days. Times beyond would leave the integers of decoders.
LATEST = 1e6
LATEST_TURN = 1e9
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
#: Three digits may as well be thousands.
DECIMAL_COMMA = re.compile(r"^([+-]?\d+),(\d{1,2}|\d{4,})$")
LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8}){0,3}")
DATA_ADDRESS = re.compile(r"data:[\w.+/;=-]{0,100},")
VARIABLE = "DEMEANOR_MEDIA_ROOT"


@dataclass(frozen=True)
class Unreadable:
    """Stands for a cell that cannot be told from what a caller sent; `why` becomes its row's problem."""

    why: str


class CellError(DemeanorError):
    """What stands in a cell is not what its column takes."""


def missing(value: Any) -> bool:
    """Is there nothing: no value, NaN, or text without a visible character?"""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, str):
        return not has_content(value)
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def kind_of(value: Any) -> str:
    """What a value is, in a reader's words and without its content."""
    if isinstance(value, bool | np.bool_):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float | np.number):
        return "a number"
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list | tuple | set | np.ndarray) else "something else"


def as_text(value: Any, column: str, longest: int = LONGEST_TEXT) -> str:
    """Text, or a number as it is written (a table of names that are numbers comes with numbers). CellError for anything
    else, or too much of it."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | float | np.integer | np.floating):
        raise CellError(f"`{column}` is {kind_of(value)} instead of text")
    if isinstance(value, float | np.floating):
        value = _finite(float(value), column)
        value = int(value) if value.is_integer() and abs(value) < 1e15 else value
    elif not isinstance(value, str) and abs(int(value)) >= 1 << 64:
        raise CellError(f"`{column}` is a number of more than 64 bits")
    text = str(value)
    if len(text) > longest:
        raise CellError(f"`{column}` has {len(text)} characters, more than {longest}")
    return whole(text)


def whole(text: str) -> str:
    """Text without half characters (of two UTF-16 units), which cut texts end in: no tokeniser has them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_language(value: Any, column: str) -> str:
    """An ISO 639-1 code, with a region or not. CellError for anything else."""
    text = as_text(value, column, LONGEST_NAME).strip()
    if not LANGUAGE.fullmatch(text):
        raise CellError(f"`{column}` is no ISO 639-1 code")
    return text


def as_seconds(value: Any, column: str) -> float:
    """Seconds from the recording's start. CellError for what is negative, later than eleven days, or no number."""
    number = as_number(value, column)
    if number < 0:
        raise CellError(f"`{column}` is negative")
    if number > LATEST:
        raise CellError(f"`{column}` is later than {LATEST:.0f} s")
    return number


def as_turn(value: Any, column: str) -> int:
    """A turn's number in its dialogue. CellError for what is no whole number from 0 on."""
    number = as_number(value, column)
    if not number.is_integer():
        raise CellError(f"`{column}` is no whole number")
    if number < 0:
        raise CellError(f"`{column}` is negative")
    if number > LATEST_TURN:
        raise CellError(f"`{column}` is greater than {LATEST_TURN:.0f}")
    return int(number)


def as_number(value: Any, column: str) -> float:
    """A finite number, which may be written as text. CellError for anything else."""
    if isinstance(value, str):
        text = DECIMAL_COMMA.sub(r"\1.\2", value.strip())
        if len(text) > 40 or not NUMBER.fullmatch(text):
            raise CellError(f"`{column}` is text instead of a number")
        return _finite(float(text), column)
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise CellError(f"`{column}` is {kind_of(value)} instead of a number")
    try:
        return _finite(float(value), column)
    except OverflowError:
        raise CellError(f"`{column}` is not finite") from None


def _finite(number: float, column: str) -> float:
    if not np.isfinite(number):
        raise CellError(f"`{column}` is not finite")
    return number


def as_content(value: Any, column: str) -> bytes:
    """The content of a recording: bytes, or base64 (plain or for addresses, `data:` before it or not). CellError for
    anything else."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise CellError(f"`{column}` is {kind_of(value)} instead of the content of a recording in base64")
    head = DATA_ADDRESS.match(value)
    try:
        packed = b"".join(value[head.end() if head else 0 :].encode("ascii").split()).rstrip(b"=")
        return base64.b64decode(
            packed.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(packed) % 4), validate=True
        )
    except (ValueError, binascii.Error):
        raise CellError(f"`{column}` is not base64") from None


def as_path(value: Any, column: str) -> str:
    """A path that the system could have; whether something is there is not looked at. CellError for one that it could
    not have."""
    if not isinstance(value, str | os.PathLike):
        raise CellError(f"`{column}` is {kind_of(value)} instead of a path")
    text = os.fspath(value)
    text = text if isinstance(text, str) else os.fsdecode(text)
    if "\0" in text:
        raise CellError(f"`{column}` is no path: there is a null byte in it")
    try:
        stored = os.fsencode(text)
    except UnicodeError:
        raise CellError(f"`{column}` is no path: there are characters in it that no file name has") from None
    if len(stored) > LONGEST_PATH or any(len(part) > LONGEST_PART for part in stored.split(os.sep.encode())):
        raise CellError(
            f"`{column}` is no path: {len(stored)} bytes are longer than a path or a name within it may be; "
            f"the content of a recording goes into `{column}_bytes`, in base64"
        )
    return text


@dataclass(frozen=True)
class Reach:
    """`root`: the folder whose files may be named; without one, every file (`anywhere`) or none."""

    anywhere: bool = False
    root: Path | None = None

    @classmethod
    def of_server(cls) -> Reach:
        """What the rows of strangers may name: nothing outside the folder DEMEANOR_MEDIA_ROOT."""
        value = os.environ.get(VARIABLE, "").strip()
        return cls(root=Path(value).expanduser().resolve()) if value else cls()

    def file(self, text: str, column: str) -> Path:
        """The file that a row names; CellError where there is none or where it is out of reach."""
        if self.anywhere:
            return _local(text, column)
        if self.root is None:
            raise CellError(
                f"`{column}` names a file, and a row may name none here: send the content of the recording as "
                f"`{column}_bytes`, in base64, or start the server with {VARIABLE}=FOLDER to let rows name files in it"
            )
        try:
            path = (self.root / text).resolve()
            inside = path.is_relative_to(self.root)
            exists = inside and path.is_file()
        except (OSError, RuntimeError, ValueError):
            inside, exists = True, False
        if not inside:
            raise CellError(f"`{column}` names a file outside the folder of recordings")
        if not exists:
            raise CellError(f"`{column}` names no file in the folder of recordings")
        return path

    def told(self, message: str, path: Path | bytes | None, column: str) -> str:
        """A message about a recording in one line; strangers are not told where it lies."""
        text = " ".join(message.split())
        return text if self.anywhere or not isinstance(path, Path) else text.replace(str(path), f"`{column}`")


EVERYWHERE = Reach(anywhere=True)


def _local(text: str, column: str) -> Path:
    path = Path(text)
    try:
        if not path.exists() and text.startswith("~"):
            path = path.expanduser()
        if path.is_file():
            return path
        folder = path.is_dir()
    except (OSError, RuntimeError, ValueError):
        folder = False
    named = text if text.isprintable() and len(text) <= 255 else f"that `{column}` names"
    raise CellError(f"{named} is a folder, not a recording" if folder else f"there is no file {named}")
