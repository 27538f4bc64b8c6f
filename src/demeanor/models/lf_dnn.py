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
from demeanor.models.published import mmsa


class LFDNNSettings(SubnetSettings):
    """Those of the sub-networks and of the head."""


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

PUBLISHED = {
    "lf_dnn": mmsa(
        {"text_hidden": 128, "vision_hidden": 128},
        names=PUBLISHED_NAMES,
        mosi={
            "model": {
                "audio_hidden": 16, "text_output": 256, "fusion_hidden": 128, "audio_dropout": 0.2,
                "vision_dropout": 0.2, "text_dropout": 0.2, "fusion_dropout": 0.2,
            },
            "training": {"batch_size": 128, "learning_rate": 0.001, "weight_decay": 0.01},
        },
        mosei={
            "model": {
                "audio_hidden": 32, "text_output": 128, "fusion_hidden": 128, "audio_dropout": 0.2,
                "vision_dropout": 0.2, "text_dropout": 0.2, "fusion_dropout": 0.2,
            },
            "training": {"batch_size": 64, "learning_rate": 0.002, "weight_decay": 0.001},
        },
        sims={
            "model": {
                "audio_hidden": 32, "text_output": 256, "fusion_hidden": 32, "audio_dropout": 0.3,
                "vision_dropout": 0.3, "text_dropout": 0.3, "fusion_dropout": 0.5,
            },
            "training": {"batch_size": 128, "learning_rate": 0.005, "weight_decay": 0.005},
        },
    ),
}  # fmt: skip
