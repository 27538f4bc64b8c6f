"""Where requests wait: a bounded queue whose work is dropped before it starts once nobody waits for it any more."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from demeanor.server.refusals import Refusal

if TYPE_CHECKING:
    from demeanor.server.models import Served
    from demeanor.server.orders import Order


@dataclass(eq=False)
class Ticket:
    """One request on its way. `deadline` by time.monotonic(); `answer` is set once, with a result or a Refusal."""

    model: Served
    without: tuple[str, ...]
    order: Order
    deadline: float
    answer: asyncio.Future[Any]
    explained: bool = False
    since: float = field(default_factory=time.monotonic)

    @property
    def what(self) -> tuple[int, frozenset[str], bool]:
        """Tickets of which this is the same may be answered in one forward pass."""
        return id(self.model), frozenset(self.without), self.explained

    @property
    def left(self) -> float:
        """Seconds until nobody waits any more."""
        return self.deadline - time.monotonic()

    def wanted(self) -> bool:
        """Does somebody still wait? Whoever comes too late is told so here, before any work is done."""
        if self.answer.done():
            return False
        if self.left > 0:
            return True
        self.refuse(Refusal("deadline_exceeded", "the deadline passed before the work could begin"))
        return False

    def refuse(self, refusal: BaseException) -> None:
        """Answer with an error, unless there is an answer already."""
        if not self.answer.done():
            self.answer.set_exception(refusal)

    def resolve(self, result: Any) -> None:
        """Answers, unless there is an answer already."""
        if not self.answer.done():
            self.answer.set_result(result)


class Desk:
    """First come, first served; `room` tickets wait at most."""

    def __init__(self, room: int, servers: int):
        self.room, self.servers = room, servers
        self._tickets: deque[Ticket] = deque()
        self._arrived = asyncio.Event()
        #: Seconds that one ticket keeps a server busy, smoothed: what Retry-After is worked out from.
        self.pace = 0.5

    def __len__(self) -> int:
        return len(self._tickets)

    def put(self, ticket: Ticket) -> None:
        """Refusal queue_full with the seconds after which about half of those who wait now will be through."""
        if len(self._tickets) >= self.room:
            self._tickets = deque(waiting for waiting in self._tickets if waiting.wanted())
        if len(self._tickets) >= self.room:
            seconds = math.ceil(self.pace * len(self._tickets) / self.servers / 2)
            raise Refusal("queue_full", f"{self.room} requests wait already; try again later", max(1, seconds))
        self._tickets.append(ticket)
        self._arrived.set()

    async def take(self, interrupted: asyncio.Event) -> Ticket | None:
        """The next ticket that somebody waits for; None as soon as `interrupted` is set."""
        while not interrupted.is_set():
            while self._tickets:
                ticket = self._tickets.popleft()
                if ticket.wanted():
                    return ticket
            self._arrived.clear()
            waits = [asyncio.ensure_future(event.wait()) for event in (self._arrived, interrupted)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        return None

    def served(self, seconds: float) -> None:
        """Learn how long one ticket takes."""
        self.pace += 0.1 * (seconds - self.pace)
