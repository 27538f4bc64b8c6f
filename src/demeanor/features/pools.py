"""Where clips are worked on: in this process, in worker processes, or on a Dask cluster. Results are the same.

A pool takes tasks (demeanor.features.tasks) and yields their outcomes as they come, keeping only a few in flight. What
falls with a worker that died is tried again.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from multiprocessing import resource_tracker
from threading import Thread
from typing import Any, Protocol, runtime_checkable

from demeanor.features.base import Extractor
from demeanor.features.tasks import Outcome, Task, after_death, wake, work, work_with

#: Seconds after which a worker without work ends, also one whose run was killed.
IDLE = 30
#: Seconds between two looks whether the run is still there.
LOOK = 2.0


@runtime_checkable
class Pool(Protocol):
    """Where tasks are worked on."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes of the tasks as they finish, in any order."""


def limit_threads() -> None:
    """One thread per worker: the clips are what runs in parallel."""
    import cv2

    cv2.setNumThreads(1)


def start_worker(run: int) -> None:
    """What a worker process begins with: one thread, no ear for Ctrl-C (see `deaf_to_interrupts`), and an end when its
    run is no more.

    run  its process, which may have been killed before this one was ready to look

    loky's workers find out by themselves, but not where the run was killed while it held the lock of their pool.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_threads()
    Thread(target=_end_with, args=(run,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started within do not hear of Ctrl-C, which a terminal sends to all: whoever started them ends
    them. In a worker it would meet a library that cannot stop (openSMILE calls Python from C), or the middle of an
    import, and print its traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # Python's own, when it starts, unblocks what is blocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class HerePool:
    """In this process, one task after the other."""

    def __init__(self, extractor: Extractor | None = None):
        self.extractor = extractor

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes one after the other, in this process."""
        for task in tasks:
            yield work_with(self.extractor, task) if self.extractor else work(task)


class ProcessPool:
    """In worker processes of this machine (loky: fresh interpreters that survive between streams)."""

    def __init__(self, workers: int):
        self.workers = workers
        self._pool: Any = None

    def _executor(self) -> Any:
        from joblib.externals.loky import get_reusable_executor

        # loky says so when it replaces a worker that has grown; nothing is lost and nobody can act on it.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        self._pool = get_reusable_executor(
            max_workers=self.workers, timeout=IDLE, initializer=start_worker, initargs=(os.getpid(),),
            env=dict.fromkeys(names, "1"),
        )  # fmt: skip
        return self._pool

    def wake(self, extractor: str, settings: str) -> None:
        """Have the workers start and import what an extractor needs, which takes seconds, while the caller looks for
        what there is to do. Those that turn out not to be needed end by themselves."""
        try:
            with deaf_to_interrupts():
                executor = self._executor()
                for _ in range(self.workers):
                    executor.submit(wake, extractor, settings)
        except Exception as error:  # the pool broke since it was asked for: the first task asks for another
            if not died(error):
                raise

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes as worker processes finish them; a run that is stopped leaves no worker behind."""
        try:
            yield from self._run(tasks)
        except BaseException:
            # A run that is stopped, or fails, leaves no workers behind that go on with what nobody will collect.
            if self._pool is not None:
                self._pool.shutdown(wait=True, kill_workers=True)
            raise

    def _run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        source = iter(tasks)
        again: list[Task] = []
        flying: dict[Future, Task] = {}
        while True:
            # What fell with a worker is tried alone, so that only the clip to blame runs out of attempts.
            room = 2 * self.workers if not again else 1
            while len(flying) < room:
                task = again.pop() if again else next(source, None)
                if task is None:
                    break
                room = 1 if task.alone else room
                try:
                    with deaf_to_interrupts():
                        future = self._executor().submit(work, task)
                    flying[future] = task
                except Exception as error:  # the pool broke since it was asked for
                    if not died(error):
                        raise
                    again.append(task)
            if not flying:
                if again:
                    continue
                return
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                task = flying.pop(future)
                problem = future.exception()
                if problem is None:
                    yield future.result()
                elif died(problem):
                    outcome, retried = after_death(task, problem)
                    again += retried
                    if outcome:
                        yield outcome
                else:
                    raise problem


def died(error: BaseException) -> bool:
    """Is it that of a worker process which is no more?"""
    from concurrent.futures.process import BrokenProcessPool

    return isinstance(error, BrokenProcessPool) or type(error).__name__ in {"TerminatedWorkerError", "KilledWorker"}


def pool_for(extractor: Extractor, workers: int, clips: int, cluster: Any = None) -> Pool:
    """A cluster takes all but what only looks things up; without one, encoders run here, on the device, and a handful
    of clips is not worth starting processes for."""
    if cluster is not None and clips and (not extractor.batched or extractor.encodes):
        from demeanor.features.cluster import DaskPool

        return DaskPool(cluster, workers)
    if extractor.batched or workers <= 1 or clips <= 4:
        return HerePool(extractor)
    return ProcessPool(workers)
