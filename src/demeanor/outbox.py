"""What a run reports, on its way to the tracking server: training never waits for the server and never fails with it.

A thread of its own hands events over in their order. When the server does not answer, they are kept in a folder
instead, and are handed over at the end of the run if it answers again, or later by `demeanor send-tracking FOLDER`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

from demeanor.data.files import disk_error
from demeanor.reachability import reason_of

logger = logging.getLogger(__name__)

Event = dict[str, Any]
"""kind, run (its own name for it), and what the kind needs; nothing that JSON cannot hold."""
EVENTS, FILES, HEADER = "events.jsonl", "files", "store.json"
#: Events that may wait in memory; a reporter that is faster than the server by more than this goes on in the folder.
LIMIT = 10_000
#: Seconds for one event before the end of a run stops waiting for the server.
PATIENCE = 180.0


class Refused(Exception):
    """The server answered, and does not want this event: to send it again is of no use."""


class Sender(Protocol):
    """Hands events over. `send` raises Refused, or anything else where the server does not answer."""

    def send(self, event: Event) -> None:
        """Hand one event on, or raise: `Refused` if trying again is useless."""

    def answers(self) -> bool:
        """Whether the other side can be reached now."""

    def header(self) -> dict[str, Any]:
        """What `read_back` needs to make the sender anew."""


class Outbox:
    """Events between the threads that report and the one that sends. `folder` appears only if the server fails."""

    def __init__(self, sender: Sender, folder: Path, name: str, limit: int = LIMIT):
        self.sender, self.folder, self.name, self.limit = sender, folder, name, limit
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._keeping, self._closing, self._lost = False, False, False
        self._sent = 0
        self._spool = Path(tempfile.mkdtemp(prefix="demeanor-tracking-"))
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Take an event without waiting for anything but memory, or the local disk once the server has failed."""
        with self._changed:
            if not self._keeping and len(self._events) >= self.limit:
                self._keep_everything("is too slow for what this run reports")
            if self._keeping:
                self._keep(event)
            else:
                self._events.append(event)
                self._changed.notify_all()

    def hold(self, source: Path) -> str:
        """A private copy of a file or folder whose owner may remove it before it is sent; links where they can be."""
        target = self._spool / f"{time.monotonic_ns()}" / source.name
        target.parent.mkdir(parents=True)
        _copy(source, target)
        return str(target)

    def flush(self, patience: float = PATIENCE) -> bool:
        """Wait until all has been sent; False where it was kept instead, or took longer than `patience` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._events or self._keeping, patience)
            return not self._events and not self._keeping

    def close(self, patience: float = PATIENCE) -> bool:
        """Hand over what is left. False if something had to be kept in the folder; what and where is said."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            before, since = self._sent, time.monotonic()
            while self._thread.is_alive() and not self._keeping:
                self._changed.wait(0.2)
                if self._sent != before:
                    before, since = self._sent, time.monotonic()
                if time.monotonic() - since > patience:
                    self._keep_everything(f"took more than {patience:.0f} s for one report")
        complete = not self._keeping or self._hand_over()
        shutil.rmtree(self._spool, ignore_errors=True)
        return complete

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._events and not self._closing and not self._keeping:
                    self._changed.wait()
                if self._keeping or not self._events:
                    return
                event = self._events[0]  # stays there until it has arrived, so that it is kept if it does not
            problem = self._try(event)
            with self._changed:
                if self._keeping:
                    return  # whoever decided so has kept this event as well
                if problem:
                    self._keep_everything(problem)
                    return
                self._events.popleft()
                self._sent += 1
                self._changed.notify_all()

    def _try(self, event: Event) -> str:
        """Send; why it could not be, or nothing."""
        problem = ""
        for pause in (1.0, 0.0):
            try:
                self.sender.send(event)
            except Refused as error:
                logger.warning("MLflow does not take %s of this run: %s", event["kind"], error)
                return ""
            except Exception as error:
                problem = f"does not answer ({reason_of(error)})"
                time.sleep(pause)
            else:
                return ""
        return problem

    def _keep_everything(self, problem: str) -> None:
        """From now on into the folder; called with the lock held."""
        self._keeping = True
        logger.warning("MLflow at %s %s. The run goes on; what it reports is kept in %s.", self.name, problem,
                       self.folder)  # fmt: skip
        while self._events:
            self._keep(self._events.popleft())
        self._changed.notify_all()

    def _keep(self, event: Event) -> None:
        if self._lost:
            return
        try:
            keep(self.folder, event, self.sender.header())
        except OSError as error:
            self._lost = True
            reason = disk_error(error, self.folder) or error
            logger.warning("What this run reports to MLflow is lost from here on, its results are not: %s", reason)

    def _hand_over(self) -> bool:
        if not self._lost and self.sender.answers():
            try:
                hand_over(self.folder, self.sender)
            except Exception as error:
                logger.warning("MLflow at %s does not answer (%s).", self.name, reason_of(error))
            else:
                logger.warning("MLflow at %s answers again and has all that was kept for it.", self.name)
                return True
        if not self._lost:
            logger.warning("Reports for MLflow at %s lie in %s. When it answers again, hand them over: "
                           "demeanor send-tracking %s", self.name, self.folder, self.folder)  # fmt: skip
        return False


def keep(folder: Path, event: Event, header: dict[str, Any]) -> None:
    """Add an event to a folder of kept ones, with a copy of the files that it names."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        (folder / HEADER).write_text(json.dumps(header), encoding="utf-8")
    if "path" in event:
        source = Path(event["path"])
        target = folder / FILES / f"{len(list((folder / FILES).glob('*')))}" / source.name
        target.parent.mkdir(parents=True)
        _copy(source, target)
        event = {**event, "path": str(target.relative_to(folder))}
    with open(folder / EVENTS, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(event) + "\n")


def kept_header(folder: Path) -> dict[str, Any]:
    """What the sender noted about its store when it first failed."""
    return json.loads((folder / HEADER).read_text(encoding="utf-8"))


def hand_over(folder: Path, sender: Sender) -> int:
    """Send what a folder holds, then remove the folder; the number of events. Raises where the server does not answer.

    What has been sent before an interruption is not sent again.
    """
    lines = (folder / EVENTS).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        event = json.loads(line)
        if "path" in event:
            event["path"] = str(folder / event["path"])
        try:
            sender.send(event)
        except Refused as error:
            logger.warning("MLflow does not take %s of this run: %s", event["kind"], error)
        except Exception:
            rest = folder / f".{EVENTS}"
            rest.write_text("\n".join(lines[number:]) + "\n", encoding="utf-8")
            os.replace(rest, folder / EVENTS)
            (folder / HEADER).write_text(json.dumps(sender.header()), encoding="utf-8")
            raise
    shutil.rmtree(folder)
    return len(lines)


def _copy(source: Path, target: Path) -> None:
    """The files of `source` at `target`; links, which cost nothing, where both lie on one disk."""

    def one(here: str, there: str) -> str:
        try:
            os.link(here, there)
        except OSError:
            shutil.copy2(here, there)
        return there

    if source.is_dir():
        shutil.copytree(source, target, copy_function=one)
    else:
        one(str(source), str(target))
