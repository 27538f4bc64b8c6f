"""Ridge regression on pooled features in closed form: the floor that a trained network has to beat.

w = (X'X + a I)^-1 X'y on centred X (Hoerl and Kennard 1970, https://doi.org/10.1080/00401706.1970.10488634). Of several
strengths a, the one with the least squared leave-one-out error on the train split, which follows from one decomposition
(Golub, Heath and Wahba 1979, https://doi.org/10.1080/00401706.1979.10489751): nothing is chosen on validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, Role
from demeanor.models.blocks.closed_form import MODALITIES, ClosedForm
from demeanor.models.blocks.layers import MissingModalityEmbedding

STRENGTHS = torch.logspace(-3, 5, 33, dtype=torch.float64)
"""Candidates for a."""


class RidgeSettings(Settings):
    """Whether training goes on after the closed form."""

    tuned: bool = Field(
        default=False,
        description="train on from the closed form, by the task's own loss; else one epoch changes nothing",
    )


class Ridge(ClosedForm):
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
        states = self.pooled(batch)
        return Output(self.linear(states), representation=states)

    @torch.no_grad()
    def on_train_start(self, batches: Callable[[], Iterable[Batch]], examples: int) -> None:
        """Solve. Without a labelled row the layer stays as it is."""
        values, target = self.gathered(batches())
        target = target.double()
        known = ~torch.isnan(target)
        if not bool(known.any()):
            return
        weight, bias, _ = solve(values[known], target[known])
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
