"""One worker process of a workshop: what starts it, and what it does. It ends with the process that started it.

It is a fresh interpreter, not a fork (torch's and MLflow's threads do not survive one), and knows nothing but what it
is sent: a function by its name, and arguments.
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from demeanor.data.errors import DemeanorError

#: Libraries of arithmetic read these when they are loaded; torch's threads are set by each training.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerDied(DemeanorError):
    """A worker process ended in the middle of a training."""


class Closed(BaseException):
    """The worker was closed on purpose. Not an Exception: it must not be taken for a failure of the training."""


class Worker:
    """The starting side. One thread at a time may `call`; `close` may come from any."""

    def __init__(self, sent: Callable[[Any], Any] = lambda value: value, preload: Sequence[str] = ()):
        self._sent, self._preload = sent, tuple(preload)
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *self._preload],
                stdin=subprocess.PIPE,  # held open and never written: its end tells the worker that nobody is left
                pass_fds=[theirs.fileno()],
                env={**os.environ, **dict.fromkeys(THREADS, "1")},
            )

    def call(self, function: Callable[..., Any], *arguments: Any, report: Callable[..., None]) -> Any:
        """`function(*arguments, report=report)`, computed there and reported here; what it raises is raised here.

        WorkerDied if the process ended meanwhile; the next call has a new one. Closed after `close`.
        """
        if self.process.poll() is not None and not self._closed:
            self._start()
        name = f"{function.__module__}:{function.__qualname__}"
        try:
            self._pipe.send((name, tuple(self._sent(value) for value in arguments)))
            while True:
                kind, *message = self._pipe.recv()
                if kind == "report":
                    report(*message)
                elif kind == "log":
                    logging.getLogger(message[0].name).handle(message[0])
                elif kind == "result":
                    return message[0]
                else:
                    raise message[0]
        except (EOFError, OSError) as error:
            if self._closed:
                raise Closed from None
            code = self.process.wait()
            raise WorkerDied(
                f"The process that trained ended with {code} ({_meaning(code)}). Run again: it goes on from its last "
                "epoch. Where memory is short, set the parameter `workers` to 1."
            ) from error

    def close(self) -> None:
        """End the process, whatever it does."""
        self._closed = True
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


def _meaning(code: int) -> str:
    return f"killed by signal {-code}: out of memory?" if code < 0 else "see above"


class _Told(logging.Handler):
    """Log records go to the starting side, which knows where they belong."""

    def __init__(self, send: Callable[..., None]):
        super().__init__()
        self.send = send

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), (), None
        self.send("log", record)


def main(descriptor: int, preload: Sequence[str]) -> None:
    """Do what comes through the pipe until nobody is there any more."""
    # Ctrl-C is meant for the process that reports; this one ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pipe: Connection[Any, Any] = Connection(descriptor)
    lock = threading.Lock()

    def send(*message: Any) -> None:
        with lock:
            pipe.send(message)

    logging.getLogger().addHandler(_Told(send))
    logging.getLogger("demeanor").setLevel(logging.INFO)
    for name in preload:
        importlib.import_module(name)
    while True:
        name, arguments = pipe.recv()
        try:
            module, _, attribute = name.partition(":")
            function = getattr(importlib.import_module(module), attribute)
            loaded = [value.restored() if hasattr(value, "restored") else value for value in arguments]
            send("result", function(*loaded, report=lambda *progress: send("report", *progress)))
        except Exception as error:
            send("error", _portable(error))


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with its traceback as a note unless it was raised on purpose."""
    traceback_text = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(str(error))
    if not isinstance(error, DemeanorError):
        error.add_note(f"In a worker process:\n{traceback_text}")
    return error


if __name__ == "__main__":
    # As `python -m` this module is `__main__`, a second copy: what it sends must be known by its real name.
    from demeanor.training.distributed.worker import main as work

    try:
        work(int(sys.argv[1]), sys.argv[2:])
    except (EOFError, OSError):
        sys.exit(0)
