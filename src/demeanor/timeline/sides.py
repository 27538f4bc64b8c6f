"""Answers that a run which is killed leaves behind, for the run that goes on: a folder beside its output."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from demeanor.data.errors import InputError
from demeanor.data.files import read_json, write_json

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
        self.done[number] = answers
        if self.folder is not None:
            write_json(self.folder / f"batch_{number:06d}.json", answers)

    def remove(self) -> None:
        """The output is written: nothing of this is needed any more."""
        if self.folder is not None and self.folder.is_dir():
            shutil.rmtree(self.folder)
