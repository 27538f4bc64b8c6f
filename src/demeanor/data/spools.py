"""Files without a name for what is written now, read once, and need not be in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

#: Bytes of one that are held in memory, and that are read at once.
HELD = 1 << 16


def spool(folder: Path | str | None = None) -> IO[bytes]:
    """A file that begins in memory, goes to that folder when it grows, and ends with its block."""
    return tempfile.SpooledTemporaryFile(HELD, dir=None if folder is None else str(folder))


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """What was written, from the beginning."""
    file.seek(0)
    return iter(partial(file.read, HELD), b"")


def scratch() -> str | None:
    """A folder for such files that is no part of memory, as `/tmp` is on some systems; None: wherever Python puts
    them."""
    usual = (os.environ.get("TMPDIR", ""), "/var/tmp")
    return next((folder for folder in usual if os.access(folder, os.W_OK | os.X_OK)), None)
