"""From admitted rows to answers: the desk, the worker processes, the model thread, and the look for new champions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from demeanor.data.cells import Reach
from demeanor.data.errors import DemeanorError
from demeanor.server.batching import Batcher, Waiting
from demeanor.server.desk import Desk, Ticket
from demeanor.server.live_pace import Recognitions
from demeanor.server.metrics import Metrics
from demeanor.server.models import Found, Served, Shelf, find, found, readable_source
from demeanor.server.orders import Order
from demeanor.server.refusals import Refusal
from demeanor.server.settings import ServerSettings
from demeanor.server.workers import Worker

logger = logging.getLogger(__name__)

#: Seconds between two complaints that the registry does not answer.
COMPLAINT = 600.0


class Engine:
    """Everything behind the routes. `start` returns at once; `ready` is set when a whole request has been answered."""

    def __init__(self, uris: Sequence[str], settings: ServerSettings, reach: Reach | None = None):
        self.uris, self.settings = list(uris), settings
        self.reach = Reach.of_server() if reach is None else reach
        self.metrics = Metrics()
        self.shelf = Shelf()
        self.ready = asyncio.Event()
        self.draining = False
        #: Set when the server is about to stop, for whoever is answered over and over.
        self.closing = asyncio.Event()
        #: Live sessions that are open, and the recognition of what is said in them.
        self.live = 0
        self.recognitions = Recognitions(max(1, settings.workers - 1))
        self.failure: BaseException | None = None
        self.desk = Desk(settings.queue, settings.workers)
        #: Tickets that workers have in hand.
        self.in_hand = 0
        self.batcher = Batcher(
            settings.batch_rows, settings.batch_wait, self.metrics, lambda: self.in_hand > 0 or len(self.desk) > 0
        )
        self.workers = [Worker(self.reach, settings.extraction_bytes) for _ in range(settings.workers)]
        self._threads = ThreadPoolExecutor(settings.workers + 1, thread_name_prefix="door")
        self._tasks: list[asyncio.Task[Any]] = []
        #: Set for a worker that has something to do beside tickets.
        self._errands = [asyncio.Event() for _ in self.workers]
        self._warmed = [asyncio.Event() for _ in self.workers]
        self._orders: list[Order] = []
        self._problems: dict[int, BaseException] = {}

    async def start(self) -> None:
        """Load the models in the background; `failure` and `stopped` tell where that has failed."""
        self._tasks = [asyncio.create_task(self._prepare())]

    async def stop(self) -> None:
        """End everything; whoever still waits is told that the server stops."""
        self.draining = True
        self.closing.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._in_thread(worker.stop) for worker in self.workers))
        self.batcher.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def require_ready(self) -> None:
        """Refusal where the models are not there yet. While the server drains, what still comes is answered."""
        if not self.ready.is_set():
            raise Refusal("not_ready", "the models are still being loaded", 2)

    def require_open(self) -> None:
        """Refusal where the server is about to stop."""
        if self.draining:
            raise Refusal("draining", "the server is about to stop", 5)

    async def _prepare(self) -> None:
        try:
            read = await self._in_thread(lambda: [find(uri) for uri in self.uris])
            for number, worker in enumerate(self.workers):
                self._tasks.append(asyncio.create_task(self._attend(number, worker)))
            # The workers make ready while this process imports PyTorch and builds the networks.
            models, _ = await asyncio.gather(self._in_thread(_built, read, self.settings.threads), self._warm(read))
            self.shelf.put(models)
            self._tasks.append(asyncio.create_task(self.batcher.run()))
            await self._whole_request(models)
        except Exception as error:
            self.failure = error
            return
        for each in models:
            self._announce(each, 1)
        self._tasks.append(asyncio.create_task(self._look_for_champions()))
        self.ready.set()
        logger.info("ready: %s", ", ".join(readable_source(uri) for uri in self.uris))

    async def _warm(self, models: Sequence[Found | Served]) -> None:
        """Every worker has the extractors of all models; what goes wrong in one is raised here."""
        served = frozenset(each.digest for each in (*models, *self.shelf.all))
        self._orders = [replace(self._order(each, None), beside=True, warm=True, others=served) for each in models]
        self._problems = dict[int, BaseException]()
        for errand, warmed in zip(self._errands, self._warmed, strict=True):
            warmed.clear()
            errand.set()
        for warmed in self._warmed:
            await warmed.wait()
        for problem in self._problems.values():
            raise problem

    async def _whole_request(self, models: Sequence[Served]) -> None:
        for each in models:
            await self.answer(each, None, deadline=120.0)

    def _order(self, model: Found | Served, rows: Sequence[Mapping[str, Any]] | None, words: bool = True) -> Order:
        return Order(model.digest, model.card, rows, self.settings.recording_seconds, words)

    async def answer(
        self,
        model: Served,
        rows: Sequence[Mapping[str, Any]] | None,
        without: Sequence[str] = (),
        deadline: float | None = None,
        explained: bool = False,
        words: bool = True,
    ) -> Any:
        """The table of answers for raw rows, as `TrainedModel.score` has it. Refusal where there is none.

        rows       None: those of demeanor.serving.warming
        deadline   seconds from now; work that has not begun by then is never begun
        explained  with what each modality contributed, and whether they contradict
        words      recognise those that a row lacks
        """
        model.view(without)
        if explained:
            model.require_explainable()
        patience = self.settings.deadline if deadline is None else deadline
        loop = asyncio.get_running_loop()
        ticket = Ticket(
            model,
            tuple(without),
            self._order(model, rows, words),
            time.monotonic() + patience,
            loop.create_future(),
            explained,
        )
        self.desk.put(ticket)
        try:
            return await asyncio.wait_for(ticket.answer, patience)
        except TimeoutError:
            raise Refusal("deadline_exceeded", "the deadline passed before the answer was there") from None

    async def _attend(self, number: int, worker: Worker) -> None:
        """One worker's day: errands first, then tickets."""
        while True:
            if self._errands[number].is_set():
                self._errands[number].clear()
                try:
                    await self._in_thread(worker.warm, self._orders)
                except Exception as error:
                    self._problems[number] = error
                self._warmed[number].set()
            ticket = await self.desk.take(self._errands[number])
            if ticket is not None:
                self.in_hand += 1
                try:
                    await self._extract(worker, ticket)
                finally:
                    self.in_hand -= 1

    async def _extract(self, worker: Worker, ticket: Ticket) -> None:
        begun = time.monotonic()
        self.metrics.stage_seconds.labels("wait").observe(begun - ticket.since)
        allowed = min(self.settings.extraction_seconds, max(ticket.left, 0.05))
        try:
            order = replace(ticket.order, beside=self._alone())
            reply = await self._in_thread(worker.call, order, allowed)
        except Refusal as refusal:
            late = refusal.code == "extraction_timeout" and allowed < self.settings.extraction_seconds
            ticket.refuse(Refusal("deadline_exceeded", "the deadline passed during the work") if late else refusal)
            await self._renew(worker)
            return
        except Exception as error:
            self.metrics.log_unforeseen(error, "a worker process")
            ticket.refuse(Refusal("internal", "the recording could not be handed to a worker"))
            await self._renew(worker)
            return
        self.desk.served(time.monotonic() - begun)
        for stage, seconds in reply.stages.items():
            self.metrics.stage_seconds.labels(stage).observe(seconds)
        self.metrics.audio_seconds.inc(reply.heard)
        if reply.refusal is not None:
            ticket.refuse(reply.refusal)
        elif reply.extracted is not None:
            self.batcher.put(Waiting(reply.extracted, ticket))

    def _alone(self) -> bool:
        """Is the ticket at hand the only one, so that a core is free for half of it?"""
        return self.in_hand == 1 and len(self.desk) == 0 and len(self.workers) > 1

    async def _renew(self, worker: Worker) -> None:
        try:
            if await self._in_thread(worker.ready_again):
                self.metrics.worker_restarts.inc()
        except Exception as error:  # the next ticket tries again
            self.metrics.log_unforeseen(error, "starting a worker process")

    async def _look_for_champions(self) -> None:
        """Exchange a model whose alias has moved; the former one answers until the new one is warm."""
        complained = -COMPLAINT
        while True:
            await asyncio.sleep(self.settings.poll)
            for former in self.shelf.all:
                if former.address.alias is None:
                    continue
                try:
                    version = await self._in_thread(former.address.current)
                    if version != former.version:
                        await self._exchange(former, version)
                except Exception as error:
                    if time.monotonic() - complained > COMPLAINT:
                        complained = time.monotonic()
                        why = str(error) if isinstance(error, DemeanorError) else type(error).__name__
                        logger.warning("%s stays at version %s: %s", former.name, former.version, why)

    async def _exchange(self, former: Served, version: str | None) -> None:
        new = await self._in_thread(lambda: Served(found(former.address, version)))
        await self._warm([new if each is former else each for each in self.shelf.all])
        await self._whole_request([new])
        self.shelf.exchange(former, new)
        self._announce(former, 0)
        self._announce(new, 1)
        logger.warning("%s: version %s takes the place of %s", new.name, new.version, former.version)

    def _announce(self, model: Served, value: int) -> None:
        facts = (model.name, model.address.alias or "", model.version or "", model.digest[:16])
        if value:
            self.metrics.model.labels(*facts).set(1)
        else:
            self.metrics.model.remove(*facts)

    def measure(self) -> bytes:
        """The text of /metrics, with the lengths of the queues as they are now."""
        self.metrics.queue_length.set(len(self.desk))
        self.metrics.model_queue_length.set(len(self.batcher))
        return self.metrics.text()

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _built(read: Sequence[Found], threads: int) -> list[Served]:
    import torch

    torch.set_num_threads(threads)
    return [Served(each) for each in read]
