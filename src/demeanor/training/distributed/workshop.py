"""Several trainings at once, each in a worker process with threads of its own.

A small network gains nothing from a second thread; two of them side by side keep two cores busy. What a training gives
does not depend on where it is done: the same function runs in a worker as would run here, on as many threads. The
worker computes and writes checkpoints, whoever asked reports to the tracker.

Jobs that are known to be wanted may be planned: they begin as soon as the first of them is asked for.
"""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from demeanor.data.examples import Examples
from demeanor.data.progress import Progress
from demeanor.training.distributed.worker import Closed, Worker

#: A worker takes about a gigabyte: more of them than this want more memory than many machines have.
MOST = 8
#: Seconds that a thread has for telling the tracker that its training was stopped.
CLOSING = 5.0


class Place(Protocol):
    """Where a function is computed: here, or in a worker."""

    def call(self, function: Callable[..., Any], *arguments: Any, report: Callable[..., None]) -> Any:
        """Call a function there; it is given `report`, to tell of its progress."""


@dataclass(frozen=True)
class Job:
    """key: its name among all jobs of a run; run: does it at the place that it is given; apart: may a worker do it?"""

    key: tuple[str, ...]
    run: Callable[[Place, Callable[[str], None]], Any]
    apart: bool = True

    @property
    def name(self) -> str:
        """Its key in words."""
        return " ".join(self.key)


Plan = Callable[[Examples], Sequence[Job]]


class Here:
    """This process."""

    def call(self, function: Callable[..., Any], *arguments: Any, report: Callable[..., None]) -> Any:
        """Call it in this process."""
        return function(*arguments, report=report)


class Alone:
    """No workers: every job is done here, one after the other, when it is asked for."""

    def results(self, jobs: Sequence[Job], development: Examples) -> list[Any]:
        """What the jobs give, in their order."""
        results = []
        for job in jobs:
            with Progress(job.name) as progress:
                results.append(job.run(Here(), lambda note, shown=progress: shown.advance(0, note)))  # type: ignore[misc]
        return results

    def close(self) -> None:
        """Nothing is to be closed."""


class Workshop:
    """`count` workers. `plans` give the jobs that will be asked for, once the examples are there."""

    def __init__(self, count: int, plans: Sequence[Plan] = (), preload: Sequence[str] = ()):
        self.plans = list(plans)
        self._queue: queue.SimpleQueue[tuple[Job, Future] | None] = queue.SimpleQueue()
        self._futures: dict[tuple[str, ...], Future] = {}
        self._notes: dict[str, str] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="demeanor-", ignore_cleanup_errors=True)
        self._saved: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._given, self._done = 0, 0
        self.workers = [Worker(self._sent, preload) for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name="workshop", daemon=True)
            for worker in self.workers
        ]
        for thread in self._threads:
            thread.start()

    def results(self, jobs: Sequence[Job], development: Examples) -> list[Any]:
        """What the jobs give, in their order; an error of one of them, or Ctrl-C, ends all others."""
        try:
            return self._results(jobs, development)
        except BaseException:
            self.close()
            raise

    def _results(self, jobs: Sequence[Job], development: Examples) -> list[Any]:
        planned = [job for plan in self.plans for job in plan(development)]
        self.plans = []
        known = {job.key for job in planned}
        for job in [*planned, *(job for job in jobs if job.key not in known)]:
            self._submit(job)
        results = []
        for job in jobs:
            if not job.apart:
                results += Alone().results([job], development)
                continue
            future = self._futures[job.key]
            with Progress(job.key[0], self._given, "jobs") as progress:
                progress.advance(self._done)
                while not ended(future):
                    progress.advance(self._done - progress.done, "; ".join(list(self._notes.values())))
            # Asked for again, it is done again: a bundle that nobody waits for need not be held.
            del self._futures[job.key]
            results.append(future.result())
        return results

    def close(self) -> None:
        """End the workers, whatever they are at; their trainings go on from their checkpoints another time."""
        self._closed = True
        for worker in self.workers:
            self._queue.put(None)
            worker.close()
        for thread in self._threads:
            thread.join(CLOSING)  # so that the tracker hears how its runs ended
        for future in self._futures.values():
            future.cancel()
        self._folder.cleanup()

    def _submit(self, job: Job) -> None:
        if job.apart and job.key not in self._futures:
            self._given += 1
            self._futures[job.key] = Future()
            self._queue.put((job, self._futures[job.key]))

    def _serve(self, worker: Worker) -> None:
        while (work := self._queue.get()) is not None and not self._closed:
            job, future = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job.run(worker, lambda note, job=job: self._notes.update({job.name: note})))  # type: ignore[misc]
            except Closed:
                return
            except BaseException as error:  # handed on: whoever asks for the job raises it
                future.set_exception(error)
            finally:
                self._done += 1
                self._notes.pop(job.name, None)

    def _sent(self, value: Any) -> Any:
        """Examples go by the files that they lie in, which the worker maps; everything else goes as it is."""
        if not isinstance(value, Examples):
            return value
        with self._lock:
            if value.data_hash not in self._saved:
                folder = Path(self._folder.name) / value.data_hash
                value.save(folder)
                self._saved[value.data_hash] = folder
            return StoredExamples(str(self._saved[value.data_hash]))


@dataclass(frozen=True)
class StoredExamples:
    """Examples as they are sent to a worker."""

    folder: str

    def restored(self) -> Examples:
        """The examples, loaded once per process."""
        if self.folder not in _loaded:
            _loaded[self.folder] = Examples.load(self.folder)
        return _loaded[self.folder]


_loaded: dict[str, Examples] = {}


def ended(future: Future) -> bool:
    """Has it ended within a second?"""
    from concurrent.futures import TimeoutError as NotYet

    try:
        future.exception(timeout=1.0)
    except NotYet:
        return False
    return True


_current: Alone | Workshop = Alone()


def current() -> Alone | Workshop:
    """Where the trainings of this process are done."""
    return _current


def use(workshop: Workshop | None) -> None:
    """Train in `workshop` from now on; None: here."""
    global _current  # noqa: PLW0603 - as the tracker: one process has one, and nodes must not carry it through Kedro
    _current = workshop or Alone()
