"""Which files of this machine a row may name.

Whoever calls Demeanor on their own machine may name any file. Whoever sends rows to a server may name none, because
the answer would tell what lies there: unless the server was started with DEMEANOR_MEDIA_ROOT, and then the recordings
within that folder alone, wherever links and `..` lead.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from demeanor.inference.cells import CellError

VARIABLE = "DEMEANOR_MEDIA_ROOT"


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
