"""Several processes as one: shards of a batch, gradients averaged, one process that logs and saves."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from torch import distributed, nn

from demeanor.data.batches import Batches


class Processes:
    """The processes that train together. Alone by default, then everything here does nothing."""

    def __init__(self) -> None:
        self.distributed = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if self.distributed else 0
        self.world_size = distributed.get_world_size() if self.distributed else 1

    @property
    def is_main(self) -> bool:
        """Whether this one logs and saves."""
        return self.rank == 0

    def wrap(self, system: nn.Module) -> Any:
        """The module whose forward and backward keep all processes in step."""
        if not self.distributed:
            return system
        wrapper: Any = nn.parallel.DistributedDataParallel
        # Buffers hold label banks that each process fills with its own rows: nothing may overwrite them. The setting
        # was renamed in torch 2.13.
        renamed = "forward_sync_buffers" in inspect.signature(wrapper.__init__).parameters
        still = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
        # A system may leave parameters unused in a step (a branch without rows, heads that wait for labels).
        return wrapper(system, find_unused_parameters=True, **still)

    def shard(self, rows: np.ndarray, batches: Batches) -> tuple[np.ndarray, int]:
        """This rank's shard: its rows of a batch, and how many of them count; whole dialogues stay together.

        Every process must go through every backward pass, so one that a small batch leaves without rows computes
        the batch's first group again and counts it as nothing.

        rows [batch] of row numbers.
        """
        if not self.distributed:
            return rows, len(rows)
        groups = np.arange(len(rows)) if batches.batching == "utterance" else batches.dialogue_of(rows)
        _, number = np.unique(groups, return_inverse=True)
        mine = rows[number % self.world_size == self.rank]
        return (mine, len(mine)) if len(mine) else (rows[number == 0], 0)

    def all_reduce(self, totals: dict[str, float], seen: int) -> tuple[dict[str, float], int]:
        """Sums over all processes."""
        if not self.distributed:
            return totals, seen
        gathered: list[Any] = [None] * self.world_size
        distributed.all_gather_object(gathered, (totals, seen))
        names = sorted({name for part, _ in gathered for name in part})
        summed = {name: sum(part.get(name, 0.0) for part, _ in gathered) for name in names}
        return summed, sum(count for _, count in gathered)

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, everywhere."""
        if not self.distributed:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.distributed:
            distributed.barrier()
