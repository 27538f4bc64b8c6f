"""What happens inside a worker process: rows in, streams out, within limits of time and memory that the parent sets."""

from __future__ import annotations

import signal
import time
from multiprocessing.connection import Connection

from demeanor.data.cells import Reach
from demeanor.inference.extraction import Extraction
from demeanor.server.orders import Order, Reply
from demeanor.server.refusals import Refusal
from demeanor.serving.warming import first_rows


class Workbench:
    """Builds the extractors of each model once and follows orders."""

    def __init__(self, reach: Reach):
        self.reach = reach
        self._extractions: dict[str, Extraction] = {}

    def extraction(self, order: Order) -> Extraction:
        """A former champion's extractors stay until the next change: requests that began with it are on their way."""
        if order.warm:
            served = {order.digest, *order.others}
            self._extractions = {digest: made for digest, made in self._extractions.items() if digest in served}
        if order.digest not in self._extractions:
            self._extractions[order.digest] = Extraction(order.card, self.reach)
        return self._extractions[order.digest]

    def __call__(self, order: Order) -> Reply:
        """Never raises for what a caller has sent."""
        from demeanor.server.lengths import seconds_of

        begun = time.perf_counter()
        rows = first_rows() if order.rows is None else list(order.rows)
        try:
            heard = seconds_of(rows, self.reach, order.seconds)
            counted = time.perf_counter()
            extraction = self.extraction(order)
            if order.warm:
                extraction.transcriber.load()
            extracted = extraction(rows, order.words, order.beside)
        except Refusal as refusal:
            return Reply(refusal=refusal)
        except MemoryError:
            return Reply(
                refusal=Refusal("extraction_out_of_memory", "decoding takes more memory than one request may have")
            )
        return Reply(extracted, None, heard, {"decode": counted - begun, "extract": time.perf_counter() - counted})


def work(connection: Connection, reach: Reach, memory: int) -> None:
    """The life of a worker process: orders from the pipe until it is closed.

    memory  bytes of address space beyond those in use once it is warm; what asks for more gets a MemoryError
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent drains and then closes the pipe
    one_thread()
    bench = Workbench(reach)
    limited = False
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):
            return
        reply = bench(order)
        if order.warm and not limited:
            limited = limit_memory(memory)
        connection.send(reply)


def limit_memory(more: int) -> bool:
    """Let this process allot `more` bytes beyond what it has now; False where the system knows no such limit."""
    import psutil

    try:
        import resource
    except ImportError:  # Windows
        return False
    limit = psutil.Process().memory_info().vms + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return True


def one_thread() -> None:
    """Workers share the cores among themselves; libraries that start threads of their own would fight for them."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
