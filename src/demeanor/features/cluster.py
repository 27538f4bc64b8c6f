"""The same plan on a Dask cluster: a local one, or the scheduler at an address.

Workers get clips, build their extractor once, and send values back; the shards are written here, so that the files
are byte for byte those of a local run (of encoders: of one with as many threads as a worker has, for their last bits
depend on that). Workers must see the media under the same paths; one with other versions or weights is refused.

Encoders go to the workers that say they have a GPU (`dask worker ADDRESS --resources GPU=1`), one group of clips at a
time and GPU; where none says so, to all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from demeanor.data.errors import InputError, MissingExtraError
from demeanor.data.processors import available_cores
from demeanor.features.pools import died
from demeanor.features.tasks import Outcome, Task, after_death, work_elsewhere

LOCAL = "local"
#: What a Dask worker names as a resource for each GPU that it has.
GPU = "GPU"


class DaskPool:
    """`address`: "local" for a cluster of processes on this machine that lives as long as the run, else a
    scheduler's address such as tcp://10.0.0.5:8786."""

    def __init__(self, address: str, workers: int | None = None):
        self.address, self.workers = address, workers or available_cores()

    def _connected(self) -> Any:
        try:
            from dask import config
            from distributed import Client, LocalCluster
        except ImportError:
            raise MissingExtraError("extraction on a Dask cluster", "dask") from None
        if self.address == LOCAL:
            with config.set({"distributed.scheduler.allowed-failures": 0}):  # attempts are counted here, by clip
                cluster = LocalCluster(
                    n_workers=self.workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
                )
            return Client(cluster, set_as_default=False), cluster
        try:
            return Client(self.address, timeout="10s", set_as_default=False), None
        except (OSError, ValueError, TimeoutError) as error:
            advice = "Start one with `dask scheduler` and `dask worker ADDRESS`, or give 'local'."
            raise InputError("cluster", [f"no Dask scheduler at '{self.address}' ({error})"], advice) from None

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes of the tasks as they finish, in any order; a cluster started for them is closed after them."""
        client, cluster = self._connected()
        try:
            yield from self._outcomes(client, iter(tasks))
        finally:
            client.close()
            if cluster is not None:
                cluster.close()

    def _outcomes(self, client: Any, source: Iterator[Task]) -> Iterator[Outcome]:
        from distributed import as_completed

        flying: dict[Any, Task] = {}
        again: list[Task] = []
        finished = as_completed(loop=client.loop, raise_errors=False)
        while True:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            gpus = sum(int(worker["resources"].get(GPU, 0)) for worker in workers)
            # What fell with a worker is tried alone, so that only the clip to blame runs out of attempts.
            room = 1 if again else 2 * max(len(workers), 1)
            while len(flying) < room and (task := again.pop() if again else next(source, None)) is not None:
                room = 1 if task.alone else room
                asked = {GPU: 1} if task.whole and gpus else None
                room = min(room, 2 * gpus) if asked else room
                future = client.submit(_work, task, pure=False, retries=0, resources=asked)
                flying[future] = task
                finished.add(future)
            if not flying:
                return
            future = next(finished)
            task = flying.pop(future)
            outcome: Outcome | None
            try:
                outcome = future.result()
            except Exception as error:  # also of one that had finished: its worker may die before it has handed it over
                if not died(error):
                    raise
                outcome, retried = after_death(task, error)
                again += retried
            if outcome:
                yield outcome


def _work(task: Task) -> Outcome:
    """On a worker: a network has as many threads as Dask gave it, for others of the machine work beside it."""
    if task.whole:
        import torch
        from distributed import get_worker

        torch.set_num_threads(get_worker().state.nthreads)
    return work_elsewhere(task)
