"""Ridge regression on pooled features in closed form: the floor that a trained network has to beat.

w = (X'X + a I)^-1 X'y on centred X (Hoerl and Kennard 1970, https://doi.org/10.1080/00401706.1970.10488634). Of several
strengths a, the one with the least squared leave-one-out error on the train split, which follows from one decomposition
(Golub, Heath and Wahba 1979, https://doi.org/10.1080/00401706.1979.10489751): nothing is chosen on validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, Role, System, masked_mean
from demeanor.models.blocks.layers import MissingModalityEmbedding, zero_padding

MODALITIES: tuple[Literal["text", "audio", "vision"], ...] = ("text", "audio", "vision")
STRENGTHS = torch.logspace(-3, 5, 33, dtype=torch.float64)
"""Candidates for a."""


class RidgeSettings(Settings):
    """Whether training goes on after the closed form."""

    tuned: bool = Field(
        default=False,
        description="train on from the closed form, by the task's own loss; else one epoch changes nothing",
    )


class Ridge(System):
    """The mean over steps of each stream, side by side, and one linear layer; what is absent is the mean of the train
    split. Solved before the first epoch, whose learning rate is 0 unless `tuned`: `epochs: 1` is enough."""

    card = Card(
        "Ridge regression, closed form",
        "https://doi.org/10.1080/00401706.1970.10488634",
        {name: Role(name, required=False, normalised=name != "text", description="features, of which the mean is read")
         for name in MODALITIES},
        tasks=("regression",),
    )  # fmt: skip
    Settings = RidgeSettings
    closed_form = True

    def __init__(self, settings: RidgeSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.roles = [name for name in MODALITIES if name in inputs]
        if not self.roles:
            raise InputError(self.card.title, ["it is given no stream"], "Set `streams` in the parameters.")
        self.absences = nn.ModuleDict({name: MissingModalityEmbedding(inputs[name].dimension) for name in self.roles})
        self.linear = nn.Linear(sum(inputs[name].dimension for name in self.roles), 1)

    @classmethod
    def tiny(cls) -> RidgeSettings:
        """Settings for tests."""
        return RidgeSettings(tuned=True)

    def forward(self, batch: Batch) -> Output:
        pooled = [self.absences[name](self._mean(batch, name), batch[name].present) for name in self.roles]
        states = torch.cat(pooled, dim=1)
        return Output(self.linear(states), representation=states)

    def _mean(self, batch: Batch, name: str) -> Float[Tensor, "batch dimension"]:
        padded = zero_padding(batch[name])
        return masked_mean(padded.values.float(), padded.mask)

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        if self.settings.tuned:
            return super().parameter_groups(learning_rate, weight_decay)
        return [{"params": list(self.parameters()), "lr": 0.0, "weight_decay": 0.0}]

    @torch.no_grad()
    def on_train_start(self, batches: Callable[[], Iterable[Batch]], examples: int) -> None:
        """Solve. Without a labelled row the layer stays as it is."""
        parts: dict[str, list[Tensor]] = {name: [] for name in self.roles}
        present: dict[str, list[Tensor]] = {name: [] for name in self.roles}
        targets = []
        for batch in batches():
            for name in self.roles:
                parts[name].append(self._mean(batch, name).double())
                present[name].append(batch[name].present)
            targets.append(batch.target.double())
        columns = []
        for name in self.roles:
            values, there = torch.cat(parts[name]), torch.cat(present[name])
            mean = values[there].mean(dim=0) if bool(there.any()) else values.new_zeros(values.shape[1])
            cast(MissingModalityEmbedding, self.absences[name]).vector.copy_(mean)
            columns.append(torch.where(there[:, None], values, mean))
        target = torch.cat(targets)
        known = ~torch.isnan(target)
        if not bool(known.any()):
            return
        weight, bias, _ = solve(torch.cat(columns, dim=1)[known], target[known])
        self.linear.weight.copy_(weight[None])
        self.linear.bias.copy_(bias)


def solve(
    values: Float[Tensor, "rows columns"], target: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, " columns"], Float[Tensor, ""], float]:
    """Weights, bias and the strength among STRENGTHS of least squared leave-one-out error."""
    centre, mean = values.mean(dim=0), target.mean()
    left, singular, right = torch.linalg.svd(values - centre, full_matrices=False)
    projected = left.T @ (target - mean)
    squares = singular.square()
    errors = []
    for strength in STRENGTHS.tolist():
        shrunk = squares / (squares + strength)
        leverage = left.square() @ shrunk + 1 / len(target)
        residual = target - mean - left @ (shrunk * projected)
        errors.append(float((residual / (1 - leverage).clamp(min=1e-9)).square().mean()))
    strength = float(STRENGTHS[int(torch.tensor(errors).argmin())])
    weight = right.T @ (singular / (squares + strength) * projected)
    return weight, mean - centre @ weight, strength
