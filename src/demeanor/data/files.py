"""Files: hashes, and writes that are either whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demeanor.data.budget import Budget
from demeanor.data.errors import InputError


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it there when the block ends well, remove it otherwise.

    Works for files and folders alike. A folder that is already at `path` is replaced as a whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        if temporary.is_dir():
            replace_folder(temporary, path)
        else:
            flush_to_disk(temporary)
            os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        elif temporary.exists():
            temporary.unlink()


def replace_folder(new: Path, path: Path) -> None:
    """Put folder `new` in the place of `path`; the former one is gone only once the new one is there."""
    former = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
    if path.exists():
        os.replace(path, former)
    os.replace(new, path)
    if former.exists():
        shutil.rmtree(former)


def flush_to_disk(path: Path) -> None:
    """Ask the system to write the file's content out, so that a rename never uncovers an empty file."""
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as readable JSON with sorted keys, atomically."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=True)
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


class JsonError(InputError, ValueError):
    """A file is no JSON, or far more of it than it should be."""


def read_json(path: Path | str, largest: int | None = None) -> Any:
    """The content of a JSON file of at most `largest` bytes; JsonError says why it cannot be read."""
    size = Path(path).stat().st_size
    if largest is not None and size > largest:
        raise JsonError(str(path), [f"has {size} bytes; what it should be has {largest} at most"])
    try:
        return parse_json(Path(path).read_text(encoding="utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise JsonError(str(path), [f"not readable as JSON (byte {error.start} is not UTF-8)"]) from None


def parse_json(text: str, where: str) -> Any:
    """JSON that may come from anywhere: of as many values as its length warrants, and not nested without end."""
    Budget(len(text), where).check_json(text)
    try:
        return json.loads(text)
    except RecursionError:
        raise JsonError(where, ["not readable as JSON (it is nested too deeply)"]) from None
    except ValueError as error:
        raise JsonError(where, [f"not readable as JSON ({error})"]) from None


def sha256_of_file(path: Path | str) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of(value: Any) -> str:
    """Hash of anything that JSON can hold; equal values give equal hashes whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
