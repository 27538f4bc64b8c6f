"""LF-DNN: late fusion by concatenation. Cambria et al. 2017, https://arxiv.org/abs/1707.09538, as in MMSA."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output
from demeanor.models.blocks.layers import Perceptron
from demeanor.models.blocks.subnets import ROLES, SUBNET_NAMES, SubnetSettings, SubnetSystem, head_names


class LFDNNSettings(SubnetSettings):
    pass


class LFDNN(SubnetSystem):
    """Sub-network outputs [audio, vision, text] through a three-layer perceptron."""

    card = Card("LF-DNN", "https://arxiv.org/abs/1707.09538", ROLES)
    Settings = LFDNNSettings

    def __init__(self, settings: LFDNNSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.add_subnets(settings.text_output)
        width = settings.audio_hidden + settings.vision_hidden + settings.text_output
        self.head = Perceptron(width, settings.fusion_hidden, task.outputs, settings.fusion_dropout)

    def forward(self, batch: Batch) -> Output:
        states = self.states(batch)
        fused = torch.cat([states["audio"], states["vision"], states["text"]], dim=1)
        return Output(self.head(fused), states, representation=fused)


PUBLISHED_NAMES = {**SUBNET_NAMES, **head_names("fusion", "head")}
