"""When a live answer waits for words, and when it goes out without them: near answers are worth more than whole ones.

Words are recognised again in every window, which takes longer than all else, and a recognition that has begun cannot be
taken back. Where they would make an answer late it is made without them and says so. How long they really took is
learnt when they are there, and the next windows are not asked for words before that seems to fit again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

#: Weight of a measurement that is smaller than what was known; a larger one counts at once.
NEWEST = 0.3
#: What words are known to take fades by this factor with each window that did without: so they are tried again.
FADING = 0.9


class Pace:
    """Seconds that answers take `without` words and as a `whole`; what is not known yet is not feared."""

    def __init__(self, without: float = 0.4):
        self.without, self.whole = without, 0.0

    def patience(self, waited: float, limit: float) -> float:
        """Seconds that an answer with words may take, so that one without them would still come within `limit` seconds
        of its window's end, of which `waited` are over; 0: ask for it without them."""
        left = limit - waited - self.without
        if left > self.whole:
            return left
        self.whole *= FADING
        return 0.0

    def answered(self, seconds: float, words: bool) -> None:
        """An answer was there after so many seconds."""
        name = "whole" if words else "without"
        known = getattr(self, name)
        setattr(self, name, max(seconds, known + NEWEST * (seconds - known)))


class Recognitions:
    """Those of all live sessions, so many at once that a worker process is left for answers without words.

    Belongs to the loop that serves.
    """

    def __init__(self, at_once: int):
        self.pace = Pace()
        self._places = asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def within(self, patience: float, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What `ask` gives, or None where that takes longer than `patience` seconds: what has begun by then goes on,
        for its time to be known."""
        begun = asyncio.Event()

        async def asked() -> Any:
            since = time.monotonic()
            async with self._places:
                begun.set()
                answer = await ask()
            self.pace.answered(time.monotonic() - since, words=True)
            return answer

        task = asyncio.create_task(asked())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            done, _ = await asyncio.wait({task}, timeout=patience)
        finally:
            if not begun.is_set():
                task.cancel()
        return task.result() if done else None

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits for it is told by its result
