"""Ridge classification of pooled features in closed form: a linear probe as a system, the same at every seed.

W = (X'RX + a D I)^-1 X'RY on standardised columns X [N, D], with Y one column for each class and R weighing every class
alike: least squares on class indicators (Hastie, Tibshirani and Friedman 2009, section 4.2). What is solved is the
smaller of an N x N and a D x D problem, so that thousands of columns and some hundred rows cost a second.

Least squares gives scores, not probabilities: they are multiplied by the one number with which their softmax fits best
what each training row is given by the others (leave-one-out, which follows from the same decomposition).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.data.task import IGNORED, Task
from demeanor.models.base import Card, Output, Role
from demeanor.models.blocks.closed_form import MODALITIES, ClosedForm
from demeanor.models.blocks.layers import MissingModalityEmbedding, zero_padding

#: Candidates for the factor of the scores.
FACTORS = torch.logspace(-1, 2, 61, dtype=torch.float64)


class RidgeClassesSettings(Settings):
    """How strongly it is held back, and what is read of the streams."""

    strength: float = Field(default=1.0, gt=0, description="a: the penalty for each column, in units of one row")
    steps: dict[str, tuple[int, ...]] = Field(
        default_factory=dict,
        description="role -> its steps (from 0) that stand side by side, such as layers; without: their mean",
    )
    balanced: bool = Field(default=True, description="every class weighs alike, however many rows it has")
    tuned: bool = Field(
        default=False,
        description="train on from the closed form, by the task's own loss; else one epoch changes nothing",
    )


@dataclass(frozen=True)
class Solved:
    """weight [C, D] and bias [C] for standardised columns; left_out [N, C], the scores of each row by the others."""

    weight: Float[Tensor, "classes columns"]
    bias: Float[Tensor, " classes"]
    left_out: Float[Tensor, "rows classes"]


class RidgeClasses(ClosedForm):
    """Means of the streams, or some of their steps side by side, standardised, and one linear layer; what is absent is
    the mean of the train split. Solved before the first epoch, whose learning rate is 0 unless `tuned`: `epochs: 1` is
    enough."""

    card = Card(
        "Ridge classification, closed form",
        "https://doi.org/10.1007/978-0-387-84858-7",
        {
            name: Role(
                name, required=False, normalised=name != "text", description="features: their mean or some steps"
            )
            for name in MODALITIES
        },
        tasks=("classification",),
    )
    Settings = RidgeClassesSettings
    mean: Tensor
    scale: Tensor

    def __init__(self, settings: RidgeClassesSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.roles = [name for name in MODALITIES if name in inputs]
        problems = [f"steps: it is given no stream for '{role}'" for role in settings.steps if role not in inputs]
        problems += [] if self.roles else ["it is given no stream"]
        problems += [f"steps: {role} names none" for role, steps in settings.steps.items() if not steps]
        if problems:
            raise InputError(self.card.title, problems, "Set `streams` and `model` in the parameters.")
        widths = {name: inputs[name].dimension * max(len(settings.steps.get(name, ())), 1) for name in self.roles}
        self.absences = nn.ModuleDict({name: MissingModalityEmbedding(width) for name, width in widths.items()})
        self.register_buffer("mean", torch.zeros(sum(widths.values())))
        self.register_buffer("scale", torch.ones(sum(widths.values())))
        self.linear = nn.Linear(sum(widths.values()), task.outputs)

    @classmethod
    def tiny(cls) -> RidgeClassesSettings:
        """Settings for tests."""
        return RidgeClassesSettings(tuned=True)

    def forward(self, batch: Batch) -> Output:
        states = (self.pooled(batch) - self.mean) / self.scale
        return Output(self.linear(states), representation=states)

    def read(self, batch: Batch, name: str) -> Float[Tensor, "batch columns"]:
        """The mean over the steps, or the chosen ones side by side. InputError where a row has too few of them."""
        chosen = self.settings.steps.get(name)
        if chosen is None:
            return super().read(batch, name)
        padded = zero_padding(batch[name])
        values = padded.values.float()
        present = padded.present
        if not bool(present.any()):
            return values.new_zeros((len(present), len(chosen) * values.shape[2]))
        shortest = int(padded.lengths[present].min())
        if max(chosen) >= shortest:
            raise InputError(
                self.card.title, [f"role '{name}' has rows of {shortest} steps; step {max(chosen)} (from 0) is read"],
                "Set `steps` to steps that every row has.",
            )  # fmt: skip
        return values[:, list(chosen)].flatten(1)

    @torch.no_grad()
    def on_train_start(self, batches: Callable[[], Iterable[Batch]], examples: int) -> None:
        """Solve. Without a labelled row the layer stays as it is."""
        columns, target = self.gathered(batches())
        known = target != IGNORED
        if not bool(known.any()):
            return
        values, target = columns[known], target[known]
        mean, scale = values.mean(dim=0), values.std(dim=0, correction=0)
        scale = torch.where(scale > 1e-6 * scale.max(), scale, torch.ones_like(scale))
        given = self.settings
        found = solve((values - mean) / scale, target, self.task.outputs, given.strength, given.balanced)
        factor = best_factor(found.left_out, target)
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        self.linear.weight.copy_(found.weight * factor)
        self.linear.bias.copy_(found.bias * factor)


def solve(
    values: Float[Tensor, "rows columns"], target: Int[Tensor, " rows"], classes: int, strength: float, balanced: bool
) -> Solved:
    """Least squares on class indicators; `balanced` rows of a class weigh as much as those of any other."""
    rows, width = values.shape
    counts = torch.bincount(target, minlength=classes).double()
    weights = (1 / counts)[target] if balanced else torch.ones(rows, dtype=torch.float64, device=values.device)
    weights = weights * rows / weights.sum()
    indicators = functional.one_hot(target, classes).double()
    centre = (weights[:, None] * values).sum(dim=0) / rows
    mean = (weights[:, None] * indicators).sum(dim=0) / rows
    root = weights.sqrt()[:, None]
    given, wanted = root * (values - centre), root * (indicators - mean)
    if rows <= width:
        squares, left = torch.linalg.eigh(given @ given.T)
    else:
        squares, right = torch.linalg.eigh(given.T @ given)
        left = given @ right / squares.clamp(min=1e-12).sqrt()
    penalty = strength * width
    projected = left.T @ wanted
    shrunk = squares.clamp(min=0) / (squares.clamp(min=0) + penalty)
    # given' left = right * singular values, so that no singular vectors of the columns are needed.
    weight = (given.T @ (left @ (projected / (squares.clamp(min=0) + penalty)[:, None]))).T
    fitted = left @ (shrunk[:, None] * projected)
    leverage = left.square() @ shrunk + weights / rows
    residual = (wanted - fitted) / (1 - leverage).clamp(min=1e-9)[:, None]
    return Solved(weight, mean - weight @ centre, indicators - residual / root)


def best_factor(scores: Float[Tensor, "rows classes"], target: Int[Tensor, " rows"]) -> float:
    """Of FACTORS that by which the scores' softmax fits the classes best; all rows weigh alike."""
    losses = [float(functional.cross_entropy(scores * factor, target)) for factor in FACTORS.tolist()]
    return float(FACTORS[int(torch.tensor(losses).argmin())])
