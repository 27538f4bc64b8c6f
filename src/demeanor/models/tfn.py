"""TFN: tensor fusion, the outer product of all modalities. Zadeh et al. 2017, https://arxiv.org/abs/1707.07250."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output
from demeanor.models.subnets import ROLES, SUBNET_NAMES, Perceptron, SubnetSettings, SubnetSystem, head_names


class TFNSettings(SubnetSettings):
    """Sizes: those of MMSA on MOSI, which its number of parameters (9,497,045) gives away."""

    audio_hidden: int = Field(default=32, gt=0)
    text_output: int = Field(default=32, gt=0)
    fusion_hidden: int = Field(default=64, gt=0)


def outer_product(states: Mapping[str, Tensor]) -> Float[Tensor, "batch fused"]:
    """[1; audio] x [1; vision] x [1; text], flattened in this order: unimodal, bimodal and trimodal products."""
    one = {name: torch.cat([value.new_ones(len(value), 1), value], dim=1) for name, value in states.items()}
    return torch.einsum("ba,bv,bt->bavt", one["audio"], one["vision"], one["text"]).flatten(1)


def bounded(task: Task, values: Tensor, reference: bool) -> Tensor:
    """sigmoid scaled to the range of a regression; the original's range is [-3, 3] on every corpus. Logits stay."""
    if task.kind != "regression":
        return values
    low, high = (-3.0, 3.0) if reference else (task.low, task.high)
    return low + (high - low) * values.sigmoid()


class TFN(SubnetSystem):
    card = Card("TFN", "https://arxiv.org/abs/1707.07250", ROLES)
    Settings = TFNSettings

    def __init__(self, settings: TFNSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.add_subnets(settings.text_output)
        width = (settings.audio_hidden + 1) * (settings.vision_hidden + 1) * (settings.text_output + 1)
        self.head = Perceptron(width, settings.fusion_hidden, task.outputs, settings.fusion_dropout)

    def forward(self, batch: Batch) -> Output:
        states = self.states(batch)
        fused = outer_product(states)
        return Output(bounded(self.task, self.head(fused), self.settings.reference), states, representation=fused)


PUBLISHED_NAMES = {**SUBNET_NAMES, **head_names("fusion", "head"), "output_range": "", "output_shift": ""}
