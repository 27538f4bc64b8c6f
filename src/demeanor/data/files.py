"""Files: hashes, writes that are either whole or absent, and what a disk that refuses has to say."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demeanor.data.budget import Budget
from demeanor.data.errors import DemeanorError, InputError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this user is used up",
    errno.EFBIG: "the file is larger than a limit of this system allows (ulimit -f)",
}
_REFUSED = {
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EROFS: "the disk can only be read",
    errno.EIO: "the disk reports a fault",
}
#: How libraries that keep no number of the system's error write it: safetensors (Rust), h5py, pyarrow.
_NUMBER = re.compile(r"\(os error (\d+)\)|\berrno = (\d+)|\[errno (\d+)\]", re.IGNORECASE)
_SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EACCES,
    "unable to open database file": errno.EACCES,
    "disk i/o error": errno.EIO,
}


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it there when the block ends well, remove it otherwise.

    Works for files and folders alike. A folder that is already at `path` is replaced as a whole. InputError, with the
    path and the space that is left, where the disk is full or does not let itself be written.
    """
    path = Path(path)
    with disk_errors_told(path):
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


@contextmanager
def disk_errors_told(path: Path | str) -> Iterator[None]:
    """Turn what the disk refuses inside the block into an InputError about `path`; other errors pass as they are."""
    try:
        yield
    except DemeanorError:
        raise
    except Exception as error:
        # Inside a folder that is on its way, the reader wants the name of the folder: whoever writes that one tells.
        refusal = None if _on_its_way(str(path)) else disk_error(error, path)
        if refusal is None:
            raise
        raise refusal from error


def is_full(error: BaseException) -> bool:
    """Is there no room left on a disk? Then what was being worked on is not to blame."""
    refusal = _refusal(error)
    return refusal is not None and refusal[0] in _FULL


def disk_error(error: BaseException, path: Path | str | None = None) -> InputError | None:
    """A readable form of what a full or forbidden disk made some library raise; None where it was something else.

    path  what was being written; None where the error itself has to tell
    """
    refusal = _refusal(error)
    if refusal is None:
        return None
    number, named = refusal
    where = str(named or path or "the disk")
    place = Path(named or path or os.environ.get("TMPDIR") or ".")
    if number in _FULL:
        advice = "Make room there, or name another folder, and run the same command again: it goes on where it stopped."
        return InputError(where, [f"could not be written: {_FULL[number]}{_space(place)}"], advice)
    problem = f"could not be opened or written: {_REFUSED[number]}{_space(place)}"
    return InputError(where, [problem], "Mend that, or name another folder, and run the same command again.")


def _refusal(error: BaseException | None) -> tuple[int, str | None] | None:
    """Number of the system's error and the file that it names, of `error` or of what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = error.errno if isinstance(error, OSError) else None
        if number is None:
            text = str(error)
            match = _NUMBER.search(text)
            known = (code for phrase, code in _SQLITE.items() if phrase in text.lower())
            number = int(next(filter(None, match.groups()))) if match else next(known, None)
        if number in _FULL or number in _REFUSED:
            named = error.filename if isinstance(error, OSError) else None
            useful = isinstance(named, str) and not _on_its_way(named)
            return number, named if useful else None
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _on_its_way(path: str) -> bool:
    """Is it the temporary name of something that is being written, or inside a folder that is?"""
    return any(part.startswith(".") and part.endswith(".part") for part in Path(path).parts)


def _space(path: Path) -> str:
    """What is free where `path` is or would be."""
    for place in (path, *path.absolute().parents):
        try:
            free = shutil.disk_usage(place).free
        except OSError:
            continue
        return f"; {free / 2**20:,.1f} MiB are free in {place if place.is_dir() else place.parent}"
    return ""


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
    """JSON that may come from anywhere: of as many values as its length warrants, and not nested without end.
    JsonError, an InputError, for anything else."""
    Budget(len(text), where).check_json(text)
    try:
        return json.loads(text)
    except RecursionError:
        raise JsonError(where, ["not readable as JSON (it is nested too deeply)"]) from None
    except ValueError as error:
        raise JsonError(where, [f"not readable as JSON ({error})"]) from None


def sha256_of_file(path: Path | str) -> str:
    """The hash of a file's content, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str)


def sha256_of(value: Any) -> str:
    """Hash of anything that JSON can hold; equal values give equal hashes whatever the order of keys."""
    return hashlib.sha256(_CANONICAL.encode(value).encode("utf-8")).hexdigest()
