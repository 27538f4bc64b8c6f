"""What a registry in a SQLite file has said, for as long as nobody has written to that file.

MLflow takes seconds to import, and then says three lines of a database: which models have a champion, which version
that is, where its files lie. A command that only reads asks for them here, and MLflow where the database is no longer
as it was when it was asked before. The answers lie beside the database; without them, nothing but time is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from demeanor.data.errors import InputError
from demeanor.data.files import read_json, write_json

logger = logging.getLogger(__name__)

#: Behind the database's own name.
ENDING = ".answers.json"
#: Of such a file; one that is larger is none of ours.
LARGEST = 1 << 20
#: SQLite counts in these bytes of its file how often that was changed (https://www.sqlite.org/fileformat.html, 1.3.7).
COUNTER = slice(24, 28)


def state_of(database: Path) -> list[list[int]] | None:
    """What no change of the database leaves as it is: of the file, and of the log beside it where it has one, which
    file it is, its size, its time, and SQLite's counter. None where it is being changed, or is not there."""
    if database.with_name(f"{database.name}-journal").exists():
        return None
    state = []
    for path in (database, database.with_name(f"{database.name}-wal")):
        try:
            about = path.stat()
            with open(path, "rb") as handle:
                counter = int.from_bytes(handle.read(COUNTER.stop)[COUNTER], "big")
        except FileNotFoundError:
            if path == database:
                return None
            continue
        except OSError:
            return None
        state.append([about.st_ino, about.st_size, about.st_mtime_ns, counter])
    return state


class Registry:
    """A registry's answers by question. `connect` is called once, before it is really asked for the first time."""

    def __init__(self, database: Path, connect: Callable[[], object]):
        self.database, self.path = database, database.with_name(database.name + ENDING)
        self._connect: Callable[[], object] | None = connect
        self._lock = Lock()

    def asked(self, question: str, ask: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
        """What `ask` says, which JSON can hold; or what it said of the database as that is now, if it still `holds`."""
        with self._lock:
            state = state_of(self.database)
            known = self._answers(state)
            if question in known and holds(known[question]):
                return known[question]
            if self._connect is not None:
                self._connect()
                self._connect = None
            answer = ask()
            after = state_of(self.database)
            if after != state:  # MLflow itself brings a database up to date when it is connected to it
                state, answer = after, ask()
            if state is not None and state == state_of(self.database):
                self._keep(state, {**self._answers(state), question: answer})
            return answer

    def _answers(self, state: list[list[int]] | None) -> dict[str, Any]:
        try:
            kept = read_json(self.path, LARGEST)
            return dict(kept["answers"]) if state is not None and kept["state"] == state else {}
        except (OSError, InputError, KeyError, TypeError, ValueError):
            return {}  # there are none, or somebody else has written there

    def _keep(self, state: list[list[int]], answers: dict[str, Any]) -> None:
        try:
            write_json(self.path, {"state": state, "answers": answers})
        except OSError as error:
            logger.debug("answers of the registry are not kept: %s", error)


class _Use:
    """Of this process."""

    registry: Registry | None = None


def use(registry: Registry | None) -> None:
    """From now on `asked` asks this one; None: nothing is remembered."""
    _Use.registry = registry


def asked(question: str, ask: Callable[[], Any], holds: Callable[[Any], bool] = lambda answer: True) -> Any:
    """The answer to a question about the registry in use; see Registry.asked."""
    return ask() if _Use.registry is None else _Use.registry.asked(question, ask, holds)
