"""What is being done and how far it is, for whoever waits: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

Item = TypeVar("Item")

#: Seconds of silence after which a reader is told where things stand.
SILENCE = 5.0


class Progress:
    """A piece of work, as a context manager; `advance` tells that some of it is done.

    name    what it is, in a few words
    total   how many steps it has; None: nobody knows
    unit    what a step is, in the plural
    shown   false: nothing is written

    On a terminal it is a bar that is gone afterwards. Elsewhere a line is written whenever nothing has been said for
    five seconds, whether or not a step has ended since. Of several at once the last one that began is the one that
    tells, so that a part of a larger piece of work speaks for the whole.
    """

    _open: ClassVar[list[Progress]] = []
    _lock: ClassVar[threading.RLock] = threading.RLock()
    _told: ClassVar[float] = 0.0

    def __init__(self, name: str, total: int | None = None, unit: str = "steps", shown: bool = True):
        self.name, self.total, self.unit, self.shown = name, total, unit, shown
        self.done, self.note = 0, ""
        self.began = time.monotonic()
        self._bar: Any = None
        self._ended = threading.Event()

    def __enter__(self) -> Progress:
        if not self.shown:
            return self
        self.began = time.monotonic()
        with self._lock:
            if not self._open:
                Progress._told = self.began
            self._open.append(self)
            if sys.stderr.isatty():
                from tqdm import tqdm

                form = None if self.total else "{desc} {elapsed}{postfix}"
                self._bar = tqdm(
                    total=self.total, desc=self.name, unit=f" {self.unit}", leave=False, bar_format=form,
                    dynamic_ncols=True,
                )  # fmt: skip
        threading.Thread(target=self._tell_again, name=f"progress of {self.name}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.shown:
            return
        self._ended.set()
        with self._lock:
            self._open.remove(self)
            if self._bar is not None:
                self._bar.close()

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """`count` more steps are done; `note` is what is worth telling beside, for example the newest score."""
        with self._lock:
            self.done += count
            self.note = self.note if note is None else note
            if self._bar is not None:
                self._bar.set_postfix_str(self.note, refresh=False)
                self._bar.update(count)

    def __str__(self) -> str:
        far = f"{self.done} of {self.total} {self.unit}" if self.total else f"{self.done} {self.unit}" * bool(self.done)
        seconds = f"{time.monotonic() - self.began:.0f} s"
        return f"{self.name}: {', '.join(part for part in (far, self.note, seconds) if part)}"

    def _tell_again(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                if not self._open or self._open[-1] is not self:
                    continue
                if self._bar is not None:
                    self._bar.refresh()
                elif time.monotonic() - self._told >= SILENCE:
                    self._write(str(self))

    def _write(self, line: str) -> None:
        Progress._told = time.monotonic()
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def say(self, line: str) -> None:
        """A line that stays, for example what was made, beside the bar or among the lines."""
        if not self.shown:
            return
        with self._lock:
            if self._bar is not None:
                self._bar.clear()
            self._write(line)
            if self._bar is not None:
                self._bar.refresh()


def with_progress(items: Sequence[Item], name: str, unit: str) -> Iterator[Item]:
    """The items one after the other, telling how many have been dealt with."""
    with Progress(name, len(items), unit) as progress:
        for item in items:
            yield item
            progress.advance()


class LogLines(logging.Handler):
    """Log records as lines on standard error, one each however long, beside the bar of what is going on.

    Warnings and worse say so; what is told in the ordinary course of things stands for itself.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record above the open bar, or to standard error where there is none."""
        try:
            line = self.format(record)
            if record.levelno >= logging.WARNING:
                line = f"{record.levelname}  {line}"
            with Progress._lock:
                if Progress._open:
                    Progress._open[-1].say(line)
                else:
                    sys.stderr.write(f"{line}\n")
        except Exception:
            self.handleError(record)


def use_log_lines() -> None:
    """Put LogLines in the place of the root logger's plain handlers."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if type(handler) is logging.StreamHandler]:
        root.removeHandler(handler)
        root.addHandler(LogLines(handler.level))
