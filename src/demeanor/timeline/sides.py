"""Answers that a run which is killed leaves behind, for the run that goes on: a folder beside its output."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from demeanor.data.errors import InputError
from demeanor.data.files import read_json, sha256_of, write_json

PLAN = "plan.json"


class SideFiles:
    """Finished batches of one piece of work, each in a file that is there whole or not at all.

    folder  `.NAME.parts` beside the output; None keeps nothing
    key     of all that decides the answers; what was left by other work is thrown away
    """

    def __init__(self, output: Path | None, key: str):
        self.folder = None if output is None else output.with_name(f".{output.name}.parts")
        self.done: dict[int, Any] = {}
        if self.folder is None:
            return
        if self.folder.is_dir() and self._key() != key:
            shutil.rmtree(self.folder)
        write_json(self.folder / PLAN, {"key": key})
        for path in sorted(self.folder.glob("batch_*.json")):
            self.done[int(path.stem.removeprefix("batch_"))] = read_json(path)

    def _key(self) -> str | None:
        assert self.folder is not None
        try:
            content = read_json(self.folder / PLAN)
        except (OSError, InputError):
            return None
        return content.get("key") if isinstance(content, dict) else None

    def keep(self, number: int, answers: Any) -> None:
        """Remember the answers to batch `number`, on disk where there is a folder."""
        self.done[number] = answers
        if self.folder is not None:
            write_json(self.folder / f"batch_{number:06d}.json", answers)

    def remove(self) -> None:
        """The output is written: nothing of this is needed any more."""
        if self.folder is not None and self.folder.is_dir():
            shutil.rmtree(self.folder)


class KnownWords:
    """What was heard of a recording, part by part, for the run that goes on after a kill; the parts of answers cannot
    hold it, for what there is to answer depends on the words.

    folder     `.NAME.words` beside the output; None keeps nothing
    recording  hash of the recording
    """

    def __init__(self, output: Path | None, recording: str):
        self.folder = None if output is None else output.with_name(f".{output.name}.words")
        self.recording = recording

    def get(self, key: Any) -> Any:
        """What was kept under `key` (anything that becomes JSON); None where nothing was, or only half of it."""
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            return read_json(path)
        except (OSError, InputError):
            return None

    def keep(self, key: Any, heard: Any) -> None:
        """Remember what was heard, on disk where there is a folder."""
        path = self._path(key)
        if path is not None:
            write_json(path, heard)

    def _path(self, key: Any) -> Path | None:
        return None if self.folder is None else self.folder / f"{sha256_of([self.recording, key])}.json"

    def remove(self) -> None:
        """Remove the folder."""
        if self.folder is not None and self.folder.is_dir():
            shutil.rmtree(self.folder)
