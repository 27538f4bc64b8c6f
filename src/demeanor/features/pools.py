"""Where clips are worked on: in this process, in worker processes, or on a Dask cluster. Results are the same.

A pool takes tasks (extractor name, settings, clips) and yields their outcomes as they come, keeping only a few in
flight. The clips of a task whose worker died are tried again one by one; a clip that fails for the third time is
given up with its reason.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import Thread
from typing import Any, Protocol, runtime_checkable

import numpy as np

from demeanor.data.errors import InputError, MissingExtraError
from demeanor.data.files import disk_error, is_full
from demeanor.data.provenance import Provenance
from demeanor.features.base import Clip, Extractor

#: Times that a clip may take its worker process down before it is set aside.
ATTEMPTS = 3
#: Seconds after which a worker without work ends, also one whose run was killed.
IDLE = 30
#: Seconds between two looks whether the run is still there.
LOOK = 2.0


@dataclass(frozen=True)
class Partner:
    """Another extractor that looks at the clips of a task while they are decoded: its name, its settings as JSON, for
    each clip the key of its values, None where they are there already, and what its values are to be made by."""

    extractor: str
    settings: str
    keys: tuple[str | None, ...]
    provenance: Provenance | None = None


@dataclass(frozen=True)
class Task:
    """Some clips for one extractor; `settings` as JSON, so that a worker builds its extractor once.

    provenance  what its values are to be made by: another machine may have other weights or versions
    partners    others that read the same sound or pictures
    whole       the last bits of a clip's values depend on the others: it is tried again with them
    """

    extractor: str
    settings: str
    clips: tuple[Clip, ...]
    keys: tuple[str, ...]
    provenance: Provenance | None = None
    attempt: int = 1
    alone: bool = False
    partners: tuple[Partner, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Outcome:
    """values by key for the clips that went well, reasons by key for those that did not; values of each partner, in
    their order: what one of them cannot read is left for its own pass, which tells the reason."""

    task: Task
    values: dict[str, np.ndarray] = field(default_factory=dict)
    partners: tuple[dict[str, np.ndarray], ...] = ()
    failures: dict[str, str] = field(default_factory=dict)


@runtime_checkable
class Pool(Protocol):
    """Where tasks are worked on."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes of the tasks as they finish, in any order."""


@lru_cache(maxsize=8)
def _extractor(name: str, settings: str) -> Extractor:
    import json

    from demeanor.features import find_extractor

    return find_extractor(name, json.loads(settings))


def limit_threads() -> None:
    """One thread per worker: the clips are what runs in parallel."""
    import cv2

    cv2.setNumThreads(1)


@lru_cache(maxsize=8)
def _provenance(name: str, settings: str) -> Provenance:
    return _extractor(name, settings).provenance()


def start_worker() -> None:
    """What a worker process begins with: one thread, and an end when its run is no more.

    loky's workers find out by themselves, but not where the run was killed while it held the lock of their pool.
    """
    limit_threads()
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


def work(task: Task) -> Outcome:
    """What a worker does with a task."""
    return work_with(_extractor(task.extractor, task.settings), task)


def work_elsewhere(task: Task) -> Outcome:
    """The same on a machine of its own: InputError where it has other weights or versions than who asks, for its values
    would not be theirs."""
    makers: tuple[Task | Partner, ...] = (task, *task.partners)
    for maker in makers:
        mine = _provenance(maker.extractor, maker.settings)
        if maker.provenance is not None and (problems := maker.provenance.differences(mine)):
            where = f"the worker on {socket.gethostname()}: {maker.extractor}"
            raise InputError(where, problems, "Install there what is installed here, and give it the same weights.")
    return work(task)


def work_with(extractor: Extractor, task: Task) -> Outcome:
    """Every clip of the task, each failure by itself."""
    outcome = Outcome(task)
    others = [_extractor(partner.extractor, partner.settings) for partner in task.partners]
    together = extractor.batched and not extractor.apart
    if together:
        heard = [clip.at_hand(pictures=False) if others else clip.without_cache() for clip in task.clips]
        try:
            values = extractor.extract(heard)
        except MissingExtraError:
            raise
        except Exception:
            pass  # some clip is to blame: the loop below finds out which
        else:
            outcome.values.update(zip(task.keys, values, strict=True))
            made = tuple(_beside(other, partner, heard) for other, partner in zip(others, task.partners, strict=True))
            return replace(outcome, partners=made)
    pictures = any("video" in other.reads for other in others)
    outcome = replace(outcome, partners=tuple({} for _ in others))
    for place, (key, clip) in enumerate(zip(task.keys, task.clips, strict=True)):
        held = clip.at_hand(pictures) if others else clip.without_cache()
        # Alone, a clip has other last bits than in its batch: after one that failed each encoder makes its own pass.
        named = enumerate(() if together else task.partners)
        wanted = {n: name for n, partner in named if (name := partner.keys[place]) is not None}
        twin = next((n for n in wanted if extractor.makes_too(others[n])), None)
        try:
            if twin is None:
                outcome.values[key] = extractor.extract_clip(held)
            else:
                both = extractor.extract_both(held, others[twin])
                outcome.values[key], outcome.partners[twin][wanted.pop(twin)] = both
        except MissingExtraError:
            raise
        except Exception as error:
            if is_full(error):  # not this clip's fault: every other one would fail too
                raise disk_error(error) or error from error
            outcome.failures[key] = reason_of(error)
            continue
        for n, name in wanted.items():
            with suppress(Exception):  # its own pass tries again, and tells the reason
                outcome.partners[n][name] = others[n].extract_clip(held)
    return outcome


def _beside(other: Extractor, partner: Partner, clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """Values by key that another encoder gives to the batch; none where it fails: its own pass tells the reason."""
    with suppress(Exception):
        values = other.extract(clips)
        return {key: value for key, value in zip(partner.keys, values, strict=True) if key is not None}
    return {}


def reason_of(error: Exception) -> str:
    """Why a clip failed, in one line."""
    from demeanor.data.errors import DemeanorError

    return str(error) if isinstance(error, DemeanorError) else f"{type(error).__name__}: {error}"


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
            max_workers=self.workers, timeout=IDLE, initializer=start_worker, env=dict.fromkeys(names, "1")
        )
        return self._pool

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
                    flying[self._executor().submit(work, task)] = task
                except Exception as error:  # the pool broke since it was asked for
                    if not _died(error):
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
                elif _died(problem):
                    outcome, retried = after_death(task, problem)
                    again += retried
                    if outcome:
                        yield outcome
                else:
                    raise problem


def _died(error: BaseException) -> bool:
    from concurrent.futures.process import BrokenProcessPool

    return isinstance(error, BrokenProcessPool) or type(error).__name__ in {"TerminatedWorkerError", "KilledWorker"}


def after_death(task: Task, error: BaseException) -> tuple[Outcome | None, list[Task]]:
    """Tasks to try again after a worker died, clip by clip; or the outcome of a clip that is given up.

    All tasks in flight fall with a pool, so a task of several clips costs none of them an attempt. Clips that belong
    together are tried together first: alone, the last bits of their values would be others.
    """
    if task.whole and len(task.clips) > 1 and task.attempt < ATTEMPTS:
        return None, [replace(task, attempt=task.attempt + 1, alone=True)]
    if len(task.clips) > 1:
        return None, [
            replace(task, clips=(clip,), keys=(key,), attempt=1, alone=True, partners=())
            for clip, key in zip(task.clips, task.keys, strict=True)
        ]
    if task.attempt >= ATTEMPTS:
        reason = f"its worker process died {task.attempt} times ({type(error).__name__})"
        return Outcome(task, failures={task.keys[0]: reason}), []
    return None, [replace(task, attempt=task.attempt + 1, alone=True, partners=())]


def available_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def pool_for(extractor: Extractor, workers: int, clips: int, cluster: Any = None) -> Pool:
    """A cluster takes all but what only looks things up; without one, encoders run here, on the device, and a handful
    of clips is not worth starting processes for."""
    if cluster is not None and clips and (not extractor.batched or is_encoder(extractor)):
        from demeanor.features.cluster import DaskPool

        return DaskPool(cluster, workers)
    if extractor.batched or workers <= 1 or clips <= 4:
        return HerePool(extractor)
    return ProcessPool(workers)


def is_encoder(extractor: Extractor) -> bool:
    """Does it run a network over many clips at once? What is batched without weights splits texts and reads tables."""
    return extractor.batched and extractor.weights_sha256 is not None


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive pieces of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
