"""The one thread of the model: rows of several requests in one forward pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from demeanor.server.desk import Ticket
from demeanor.server.refusals import Refusal

if TYPE_CHECKING:
    import pandas as pd

    from demeanor.data.examples import Examples
    from demeanor.inference.extraction import Extracted
    from demeanor.server.metrics import Metrics
    from demeanor.server.models import Served


@dataclass(frozen=True, eq=False)
class Waiting:
    """One request's rows on their way through the model; the ticket is settled with its table of answers."""

    served: Served
    extracted: Extracted
    ticket: Ticket

    @property
    def rows(self) -> int:
        return len(self.extracted.examples)


class Batcher:
    """Gathers what arrives within `wait` seconds, up to `rows` rows of one model, and answers it at once.

    A request is never split: its dialogue belongs together.
    """

    def __init__(self, rows: int, wait: float, metrics: Metrics):
        self.rows, self.wait, self.metrics = rows, wait, metrics
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._held: Waiting | None = None

    def put(self, waiting: Waiting) -> None:
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
            try:
                after = await asyncio.wait_for(self._queue.get(), left)
            except TimeoutError:
                break
            if after.served is not first.served or rows + after.rows > self.rows:
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
                self._thread, batch[0].served.answers, [each.extracted for each in batch]
            )
        except Exception as error:
            self.metrics.log_unforeseen(error, "the model")
            for each in batch:
                each.ticket.refuse(Refusal("internal", "the model could not answer"))
            return
        self.metrics.stage_seconds.labels("forward").observe(time.perf_counter() - begun)
        self.metrics.batch_rows.observe(sum(each.rows for each in batch))
        for each, table in zip(batch, tables, strict=True):
            each.ticket.settle(table)

    async def in_model_thread(self, function: object, *arguments: object) -> object:
        """Run something that uses a model where nothing else does at the same time."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)  # type: ignore[arg-type]

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def merged(several: Sequence[Examples]) -> Examples:
    """Examples of several requests as one; their names and dialogues stay apart, whatever callers called them."""
    import pandas as pd

    from demeanor.data.examples import Examples
    from demeanor.data.ragged import Ragged

    tables, streams = [], {}
    for number, examples in enumerate(several):
        table = examples.utterances
        tables.append(
            table.assign(
                utterance_id=[f"{number}/{name}" for name in table["utterance_id"]],
                dialogue=[f"{number}/{name}" for name in table["dialogue"]],
            )
        )
    for name, stream in several[0].streams.items():
        parts = [examples.streams[name].ragged for examples in several]
        sequences: dict[str, np.ndarray] = {
            f"{number}/{identity}": part[identity] for number, part in enumerate(parts) for identity in part.ids
        }
        ragged = Ragged.from_sequences(sequences, stream.dimension, stream.ragged.dtype)
        streams[name] = type(stream)(stream.name, ragged, stream.provenance)
    return Examples.of(pd.concat(tables, ignore_index=True), streams)


def split(answers: pd.DataFrame, several: Sequence[Extracted]) -> list[pd.DataFrame]:
    """Each request's own answers, complete with the rows that have none."""
    found, place = [], 0
    for extracted in several:
        count = len(extracted.examples)
        found.append(extracted.complete(answers.iloc[place : place + count].reset_index(drop=True)))
        place += count
    return found
