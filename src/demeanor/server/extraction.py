"""What happens inside a worker process: rows in, streams out, within limits of time and memory that the parent sets."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from demeanor.data.bundle import BundleCard
from demeanor.data.cells import Reach
from demeanor.inference.extraction import Extracted, Extraction
from demeanor.server.refusals import Refusal


@dataclass(frozen=True)
class Order:
    """
    digest   hash of the model's weights: extractors are built once for each
    card     of the model
    rows     raw rows; see demeanor.data.raw_rows.COLUMNS
    seconds  of sound that the rows may hold together
    warm     an order of the server's own: after it the limit of memory holds
    """

    digest: str
    card: BundleCard
    rows: Sequence[Mapping[str, Any]]
    seconds: float = 300.0
    warm: bool = False


@dataclass(frozen=True)
class Reply:
    """Either what was read, or why nothing was. Seconds: of sound that was heard, of work by stage."""

    extracted: Extracted | None = None
    refusal: Refusal | None = None
    heard: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)


class Workbench:
    """Builds the extractors of each model once and follows orders."""

    def __init__(self, reach: Reach):
        self.reach = reach
        self._extractions: dict[str, Extraction] = {}

    def extraction(self, order: Order) -> Extraction:
        """A former champion's extractors go when a third model of one name has come: two are kept for the change."""
        if order.digest not in self._extractions:
            self._extractions[order.digest] = Extraction(order.card, self.reach)
        return self._extractions[order.digest]

    def __call__(self, order: Order) -> Reply:
        """Never raises for what a caller has sent."""
        from demeanor.server.lengths import seconds_of

        begun = time.perf_counter()
        try:
            heard = seconds_of(order.rows, self.reach, order.seconds)
            counted = time.perf_counter()
            extraction = self.extraction(order)
            if order.warm:
                extraction.transcriber.load()
            extracted = extraction(list(order.rows))
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
