"""A request to stop becomes an exception, so that whoever is at work can put things in order on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from demeanor.data.errors import Stopped

#: `kill`, batch systems at the end of their time, and a terminal that is closed.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def orderly_stop() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise Stopped, once: a second one ends the process as it always would.

    Signals that somebody else has an opinion about (nohup, a host program) are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_DFL]

    def stop(number: int, frame: Any) -> None:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
