"""Timelines that are being made: one at a time in a process of its own, the others wait; results stay for a while."""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demeanor.server.metrics import Metrics
from demeanor.server.refusals import Refusal
from demeanor.server.results import ENDINGS
from demeanor.server.settings import ServerSettings

if TYPE_CHECKING:
    from demeanor.server.timelines import Message, TimelineOrder

RESULT = "result.json"
#: Seconds between two looks at a process: whether it has said something, whether its caller has cancelled.
LOOK = 0.1


@dataclass(eq=False)
class Job:
    """One timeline. `state`: receiving, queued, running, then done, failed or cancelled. Times by time.monotonic()."""

    folder: Path
    model: dict[str, str | None]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: str = "receiving"
    stage: str = ""
    progress: float = 0.0
    error: Refusal | None = None
    order: TimelineOrder | None = None
    ended: float = 0.0

    @property
    def open(self) -> bool:
        """Whether something is still to happen to it."""
        return self.state in ("receiving", "queued", "running")

    @property
    def result(self) -> Path:
        """Where its timeline is, or will be, written."""
        return self.folder / RESULT


class Jobs:
    """All timelines of a server, by number. Everything but `_follow` belongs to the loop that serves."""

    def __init__(self, settings: ServerSettings, metrics: Metrics):
        self.settings, self.metrics = settings, metrics
        self._jobs: dict[str, Job] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="timeline")
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: The one that makes a timeline now.
        self.process: BaseProcess | None = None

    def start(self) -> None:
        """Begin to work on what waits."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End what runs; files are removed."""
        for job in self._jobs.values():
            if job.open:
                job.state = "cancelled"
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
        for job in list(self._jobs.values()):
            self.remove(job)

    def open(self, model: dict[str, str | None], uploads: Path) -> Job:
        """A place for one more, before its recording is read. Refusal queue_full where there is none."""
        self._sweep()
        if sum(job.open for job in self._jobs.values()) >= self.settings.jobs:
            raise Refusal("queue_full", f"{self.settings.jobs} timelines wait or run; try again later", 30)
        job = Job(Path(tempfile.mkdtemp(dir=uploads)), model)
        self._jobs[job.id] = job
        return job

    def submit(self, job: Job, order: TimelineOrder) -> None:
        """Put a job whose recording has arrived in the queue."""
        job.order, job.state = order, "queued"
        self._arrived.set()

    def remove(self, job: Job) -> None:
        """Forget it and its files."""
        self._jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def get(self, identity: str) -> Job:
        """Refusal unknown_job for a number that was never given, or whose result is no longer kept."""
        self._sweep()
        job = self._jobs.get(identity)
        if job is None or job.state == "receiving":
            raise Refusal("unknown_job", "there is no such timeline, or it is no longer kept")
        return job

    def cancel(self, job: Job) -> None:
        """Nothing more is done for it, and nothing of it stays. One that runs is ended within a moment."""
        if job.state == "running":
            job.state = "cancelled"  # its files go when its process has ended
            return
        if job.state == "queued":
            job.state = "cancelled"
            self.metrics.jobs.labels("cancelled").inc()
        self.remove(job)

    def ahead(self, job: Job) -> int:
        """How many come before this one."""
        waiting = [each for each in self._jobs.values() if each.state in ("queued", "running")]
        return waiting.index(job) if job in waiting else 0

    def described(self, job: Job) -> dict[str, Any]:
        """What its caller is told."""
        told: dict[str, Any] = {
            "id": job.id, "state": job.state, "stage": job.stage, "progress": round(job.progress, 3),
            "ahead": self.ahead(job), "model": job.model, "error": None, "downloads": None,
        }  # fmt: skip
        if job.error is not None:
            told["error"] = {"code": job.error.code, "message": job.error.message}
        if job.state == "done":
            told["downloads"] = {name: f"/v1/jobs/{job.id}/timeline?format={name}" for name in ENDINGS}
        return told

    async def _run(self) -> None:
        """For as long as the server lives: the next one that waits."""
        while True:
            self._arrived.clear()
            job = next((each for each in self._jobs.values() if each.state == "queued"), None)
            if job is None:
                await self._arrived.wait()
                continue
            await self._work(job)

    async def _work(self, job: Job) -> None:
        job.state = "running"
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._follow, job)
            if job.state == "running":
                job.state, job.progress, job.stage = "done", 1.0, ""
        except Refusal as refusal:
            job.error = refusal
        except Exception as error:
            self.metrics.log_unforeseen(error, "a timeline")
            job.error = Refusal("internal", "the timeline could not be made")
        if job.error is not None and job.state == "running":
            job.state = "failed"
        job.ended = time.monotonic()
        self.metrics.jobs.labels(job.state).inc()
        order, job.order = job.order, None
        if order is not None:
            await asyncio.to_thread(order.recording.unlink, missing_ok=True)
        if job.state == "cancelled":
            self.remove(job)

    def _follow(self, job: Job) -> None:
        """Start the process, listen to it, and end it, in a thread of its own. Refusal where it gives no result."""
        from demeanor.server.timelines import work

        context = multiprocessing.get_context("forkserver")
        near, far = context.Pipe()
        process = context.Process(target=work, args=(far, job.order), daemon=True)
        process.start()
        self.process = process
        far.close()
        end = time.monotonic() + self.settings.job_seconds
        try:
            while job.state == "running":
                if time.monotonic() > end:
                    raise Refusal("extraction_timeout", f"the timeline took more than {self.settings.job_seconds:g} s")
                if not near.poll(LOOK):
                    continue
                message: Message = near.recv()
                if message.refusal is not None:
                    raise message.refusal
                if message.done:
                    return
                job.stage, job.progress = message.stage, message.progress
        except (EOFError, ConnectionResetError):
            raise Refusal("extraction_crashed", "the process that made the timeline has died") from None
        finally:
            process.kill()
            process.join()
            self.process = None
            near.close()

    def _sweep(self) -> None:
        """Results that are too old or too many go, the oldest first."""
        ended = [job for job in self._jobs.values() if not job.open]
        for place, job in enumerate(ended):
            old = time.monotonic() - job.ended > self.settings.result_seconds
            if job.ended and (old or place < len(ended) - self.settings.results):
                self.remove(job)
