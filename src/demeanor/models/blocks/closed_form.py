"""What systems share whose one linear layer over pooled streams is solved before the first epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.models.base import System, masked_mean
from demeanor.models.blocks.layers import MissingModalityEmbedding, zero_padding

MODALITIES: tuple[Literal["text", "audio", "vision"], ...] = ("text", "audio", "vision")


class ClosedForm(System):
    """Reads each role of `roles` as one vector; what is absent is the mean of the train split (`absences`). Settings
    have `tuned`: whether training goes on after the closed form."""

    closed_form = True
    roles: list[Literal["text", "audio", "vision"]]
    absences: nn.ModuleDict

    def read(self, batch: Batch, name: str) -> Float[Tensor, "batch columns"]:
        """The mean over the steps of a role."""
        padded = zero_padding(batch[name])
        return masked_mean(padded.values.float(), padded.mask)

    def pooled(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """All roles side by side, absent ones filled in."""
        read = [self.absences[name](self.read(batch, name), batch[name].present) for name in self.roles]
        return torch.cat(read, dim=1)

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        if self.settings.tuned:
            return super().parameter_groups(learning_rate, weight_decay)
        return [{"params": list(self.parameters()), "lr": 0.0, "weight_decay": 0.0}]

    def gathered(self, batches: Iterable[Batch]) -> tuple[Float[Tensor, "rows columns"], Tensor]:
        """What is read of all rows, as float64, and their targets [rows]; the absences learn their means on the way."""
        parts: dict[str, list[Tensor]] = {name: [] for name in self.roles}
        present: dict[str, list[Tensor]] = {name: [] for name in self.roles}
        targets = []
        for batch in batches:
            for name in self.roles:
                parts[name].append(self.read(batch, name).double())
                present[name].append(batch[name].present)
            targets.append(batch.target)
        columns = []
        for name in self.roles:
            values, there = torch.cat(parts[name]), torch.cat(present[name])
            mean = values[there].mean(dim=0) if bool(there.any()) else values.new_zeros(values.shape[1])
            cast(MissingModalityEmbedding, self.absences[name]).vector.copy_(mean)
            columns.append(torch.where(there[:, None], values, mean))
        return torch.cat(columns, dim=1), torch.cat(targets)
