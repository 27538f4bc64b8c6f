"""Worker processes: one pipe and one thread of the parent each; one that dies or takes too long is replaced.

They come from a fork server that has imported what extraction needs and has run no thread of it, so that a new one is
there at once and shares the libraries' memory with the others.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from demeanor.data.cells import Reach
from demeanor.server.orders import Order, Reply
from demeanor.server.refusals import Refusal

logger = logging.getLogger(__name__)

#: Imported by the fork server before it makes a worker.
PRELOADED = ("demeanor.server.preloaded",)
#: Seconds for a new worker's first order: extractors are built, tables and networks read.
STARTING = 120.0


class Worker:
    """One process that extracts. All methods but `stop` belong to one thread of the parent."""

    def __init__(self, reach: Reach, memory: int):
        self.reach, self.memory = reach, memory
        self.process: BaseProcess | None = None
        self.starts = 0
        self._warmed: list[Order] = []

    def warm(self, orders: Sequence[Order]) -> None:
        """Have these models' extractors ready, now and in every process that takes this one's place.

        Refusal or OSError where that fails.
        """
        self._warmed = [replace(order, warm=True) for order in orders]
        self._start()

    def _start(self) -> None:
        if self.process is None or not self.process.is_alive():
            context = multiprocessing.get_context("forkserver")
            self.connection, far = context.Pipe()
            self.process = context.Process(target=_work, args=(far, self.reach, self.memory), daemon=True)
            self.process.start()
            far.close()
            self.starts += 1
        for order in self._warmed:
            self.connection.send(order)
            if not self.connection.poll(STARTING):
                self.stop()
                raise Refusal("extraction_timeout", "a worker process was not ready in time")
            reply: Reply = self.connection.recv()
            if reply.refusal is not None:
                raise reply.refusal

    def call(self, order: Order, seconds: float) -> Reply:
        """The reply to one order. A process that dies or is not done after `seconds` costs this order, and no other:
        Refusal extraction_crashed or extraction_timeout; whoever calls next finds a new process."""
        if self.process is None or not self.process.is_alive():
            self._replace()  # it was ended from outside while it had nothing to do
        try:
            self.connection.send(order)
            if not self.connection.poll(seconds):
                self._end()
                raise Refusal("extraction_timeout", f"decoding and extraction took more than {seconds:.3g} s; given up")
            reply: Reply = self.connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._end()
            logger.error("a worker process has died during a request")
            raise Refusal(
                "extraction_crashed", "the process that decoded the recording has died; is the file damaged?"
            ) from None
        return reply

    def ready_again(self) -> bool:
        """Replace a process that has ended; was that needed?"""
        if self.process is not None and self.process.is_alive():
            return False
        self._replace()
        return True

    def _replace(self) -> None:
        self._end()
        begun = time.monotonic()
        self._start()
        logger.warning("a worker process was replaced in %.1f s", time.monotonic() - begun)

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._end()


def _work(connection: Connection, reach: Reach, memory: int) -> None:
    """The import is for the fork server's children: here it would cost PyTorch before the first order is sent."""
    from demeanor.server.extraction import work

    work(connection, reach, memory)
