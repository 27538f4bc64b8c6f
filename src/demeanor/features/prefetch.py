"""Decoding while the encoder computes: an iterator that runs in a thread of its own, some items ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
_END = object()
#: Seconds after which a producer whose consumer has gone looks whether it has.
PATIENCE = 0.1


def prefetch(source: Iterable[Item], count: int) -> Iterator[Item]:
    """The items of `source` in their order, at most `count` of them held at once.

    What `source` raises is raised here in its place. A consumer that stops early stops the thread, too. Worth it
    where `source` releases the interpreter's lock, as decoders do.
    """
    queue: Queue[tuple[object, BaseException | None]] = Queue(maxsize=count)
    abandoned = Event()

    def put(item: object, error: BaseException | None = None) -> bool:
        while not abandoned.is_set():
            try:
                queue.put((item, error), timeout=PATIENCE)
            except Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in source:
                if not put(item):
                    return
        except BaseException as error:  # handed on: the consumer raises it
            put(_END, error)
        else:
            put(_END)

    thread = Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item  # type: ignore[misc]
    finally:
        abandoned.set()
        thread.join()
