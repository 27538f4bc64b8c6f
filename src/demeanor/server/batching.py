"""The one thread of the model: the rows of several requests become answers together, each by a pass of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from demeanor.server.desk import Ticket
from demeanor.server.refusals import Refusal

if TYPE_CHECKING:
    import pandas as pd

    from demeanor.inference.extraction import Extracted
    from demeanor.server.metrics import Metrics
    from demeanor.server.models import Served


@dataclass(frozen=True, eq=False)
class Waiting:
    """One request's rows on their way through the model; the ticket is resolved with its table of answers."""

    extracted: Extracted
    ticket: Ticket

    @property
    def rows(self) -> int:
        """Rows of the request."""
        return len(self.extracted.examples)


class Batcher:
    """Gathers what arrives within `wait` seconds, up to `rows` rows of one model, and answers it at once.

    A request is never split: its dialogue belongs together. Where nobody else is `expected`, nobody is waited for.
    """

    def __init__(self, rows: int, wait: float, metrics: Metrics, expected: Callable[[], bool] = lambda: True):
        self.rows, self.wait, self.metrics, self.expected = rows, wait, metrics, expected
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._held: Waiting | None = None

    def put(self, waiting: Waiting) -> None:
        """Queue a request for the model's thread; never waits."""
        self._queue.put_nowait(waiting)

    def __len__(self) -> int:
        return self._queue.qsize() + (self._held is not None)

    async def run(self) -> None:
        """For as long as the server lives."""
        while True:
            batch = [each for each in await self._gather() if each.ticket.wanted()]
            if batch:
                await self._answer(batch)

    async def _gather(self) -> list[Waiting]:
        first, self._held = self._held or await self._queue.get(), None
        batch, rows = [first], first.rows
        end = time.monotonic() + self.wait
        while rows < self.rows and (left := end - time.monotonic()) > 0:
            if self._queue.empty() and not self.expected():
                break
            try:
                after = await asyncio.wait_for(self._queue.get(), left)
            except TimeoutError:
                break
            if after.ticket.what != first.ticket.what or rows + after.rows > self.rows:
                self._held = after
                break
            batch.append(after)
            rows += after.rows
        return batch

    async def _answer(self, batch: Sequence[Waiting]) -> None:
        begun = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            tables = await loop.run_in_executor(
                self._thread,
                answers,
                batch[0].ticket.model,
                batch[0].ticket.without,
                [each.extracted for each in batch],
                batch[0].ticket.explained,
            )
        except Exception as error:
            self.metrics.log_unforeseen(error, "the model")
            for each in batch:
                each.ticket.refuse(Refusal("internal", "the model could not answer"))
            return
        self.metrics.stage_seconds.labels("forward").observe(time.perf_counter() - begun)
        self.metrics.batch_rows.observe(sum(each.rows for each in batch))
        for each, table in zip(batch, tables, strict=True):
            each.ticket.resolve(table)

    async def in_model_thread(self, function: object, *arguments: object) -> object:
        """Run something that uses a model where nothing else does at the same time."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)  # type: ignore[arg-type]

    def close(self) -> None:
        """End the thread after the pass that it is in; what waits is not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def answers(
    model: Served, without: Sequence[str], several: Sequence[Extracted], explained: bool = False
) -> list[pd.DataFrame]:
    """One table per request, as `TrainedModel.score` has it, bit for bit: who else asks changes nothing.

    Tables are made for all requests at once, which is three quarters of the work; through the network each goes by
    itself, for the sums of a shared pass are added up in another order. So are those behind reasons: they are not
    shared at all.
    """
    view = model.view(without)
    if explained or len(several) == 1:
        return [view.answer(each, explained) for each in several]
    table, found, place = view.answer(merged(several), parts=several), [], 0
    for extracted in several:
        own = table.iloc[place : place + len(extracted.ids)].reset_index(drop=True)
        found.append(own.assign(utterance_id=extracted.ids))
        place += len(extracted.ids)
    return found


def merged(several: Sequence[Extracted]) -> Extracted:
    """What was read for several requests as one; their names and dialogues stay apart, whatever callers called them."""
    import pandas as pd

    from demeanor.data.examples import Examples
    from demeanor.data.ragged import Ragged
    from demeanor.inference.extraction import Extracted

    tables, streams = [], {}
    for number, extracted in enumerate(several):
        table = extracted.examples.utterances
        names = {name: [f"{number}/{value}" for value in table[name]] for name in ("utterance_id", "dialogue")}
        tables.append(table.assign(**names))
    for name, stream in several[0].examples.streams.items():
        parts = [extracted.examples.streams[name].ragged for extracted in several]
        sequences: dict[str, np.ndarray] = {
            f"{number}/{identity}": part[identity] for number, part in enumerate(parts) for identity in part.ids
        }
        ragged = Ragged.from_sequences(sequences, stream.dimension, stream.ragged.dtype)
        streams[name] = type(stream)(stream.name, ragged, stream.provenance)

    def together(which: str) -> dict[str, Any]:
        return {
            f"{number}/{name}": value
            for number, extracted in enumerate(several)
            for name, value in getattr(extracted, which).items()
        }

    return Extracted(
        [f"{number}/{name}" for number, extracted in enumerate(several) for name in extracted.ids],
        Examples.of(pd.concat(tables, ignore_index=True), streams),
        together("used"),
        together("problems"),
        together("broken"),
        together("heard"),
        frozenset(f"{number}/{name}" for number, extracted in enumerate(several) for name in extracted.given),
        together("notes"),
    )
