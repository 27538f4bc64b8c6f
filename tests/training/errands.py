"""What tests ask a worker process to do: nothing that takes long to import."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable

from demeanor.data.errors import InputError

Report = Callable[..., None]


def count_to(number: int, report: Report) -> tuple[int, int]:
    for n in range(1, number + 1):
        report(n)
    logging.getLogger("demeanor.errands").warning("counted to %d", number)
    return number, os.getpid()


def refuse(report: Report) -> None:
    raise InputError("a corpus", ["no label"], "Give it one.")


def break_down(report: Report) -> None:
    raise KeyError("nobody expected this")


def die(report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(seconds: float, report: Report) -> int:
    report(os.getpid())
    time.sleep(seconds)
    return os.getpid()


def variable(name: str, report: Report) -> str | None:
    return os.environ.get(name)
