"""A request to stop becomes an exception, so that whoever is at work can put things in order on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from demeanor.data.errors import Stopped

#: `kill`, batch systems at the end of their time, and a terminal that is closed.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
#: Those of the blocks that are open; signals are the process' own, and so are these.
_open: list[Request] = []


@dataclass
class Request:
    """The signal that asked to stop within a block of `orderly_stop`, None where none did."""

    number: int | None = None


@contextmanager
def orderly_stop() -> Iterator[Request]:
    """Within the block SIGTERM and SIGHUP raise Stopped, and SIGINT KeyboardInterrupt as ever, once: a second one ends
    the process as it always would.

    Signals that somebody else has an opinion about (nohup, a host program) are left alone.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[int, Any] = dict.fromkeys(SIGNALS, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {number: usual for number, usual in before.items() if signal.getsignal(number) == usual}

    def stop(number: int, frame: Any) -> None:
        for each, usual in before.items():
            signal.signal(each, usual)
        request.number = number
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    _open.append(request)
    for number in before:
        signal.signal(number, stop)
    try:
        yield request
    finally:
        _open.remove(request)
        for number, usual in before.items():
            signal.signal(number, usual)


def asked_to_stop() -> int | None:
    """The signal that asked to stop within the block of `orderly_stop` that this is called in, None where none did.

    An error that follows may be the request in disguise: a native library that is being loaded makes an ImportError of
    the exception that meets it.
    """
    return _open[-1].number if _open else None
