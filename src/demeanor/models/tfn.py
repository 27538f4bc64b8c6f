"""TFN: tensor fusion, the outer product of all modalities. Zadeh et al. 2017, https://arxiv.org/abs/1707.07250."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output
from demeanor.models.blocks.subnets import ROLES, SUBNET_NAMES, SubnetSettings, SubnetSystem, head_names
from demeanor.models.blocks.tensor_fusion import TensorFusion
from demeanor.models.published import mmsa


class TFNSettings(SubnetSettings):
    """Sizes: those of MMSA on MOSI, which its number of parameters (9,497,045) gives away."""

    audio_hidden: int = Field(default=32, gt=0)
    text_output: int = Field(default=32, gt=0)
    fusion_hidden: int = Field(default=64, gt=0)


def bounded(task: Task, values: Tensor, reference: bool) -> Tensor:
    """sigmoid scaled to the range of a regression; the original's range is [-3, 3] on every corpus. Logits stay."""
    if task.kind != "regression":
        return values
    low, high = (-3.0, 3.0) if reference else (task.low, task.high)
    return low + (high - low) * values.sigmoid()


class TFN(SubnetSystem):
    """Three sub-networks and the outer product of their vectors."""

    card = Card("TFN", "https://arxiv.org/abs/1707.07250", ROLES)
    Settings = TFNSettings

    def __init__(self, settings: TFNSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.add_subnets(settings.text_output)
        widths = {"audio": settings.audio_hidden, "vision": settings.vision_hidden, "text": settings.text_output}
        self.head = TensorFusion(widths, settings.fusion_hidden, task.outputs, settings.fusion_dropout)

    def forward(self, batch: Batch) -> Output:
        states = self.states(batch)
        return Output(bounded(self.task, self.head(states), self.settings.reference), states)


PUBLISHED_NAMES = {**SUBNET_NAMES, **head_names("fusion", "head"), "output_range": "", "output_shift": ""}

PUBLISHED = {
    "tfn": mmsa(
        {"text_hidden": 128, "vision_hidden": 128},
        training={"weight_decay": 0.0},
        names=PUBLISHED_NAMES,
        mosi={
            "model": {
                "audio_hidden": 32, "text_output": 32, "fusion_hidden": 64, "audio_dropout": 0.3,
                "vision_dropout": 0.3, "text_dropout": 0.3, "fusion_dropout": 0.5,
            },
            "training": {"batch_size": 32, "learning_rate": 0.001},
        },
        mosei={
            "model": {
                "audio_hidden": 16, "text_output": 128, "fusion_hidden": 16, "audio_dropout": 0.4,
                "vision_dropout": 0.4, "text_dropout": 0.4, "fusion_dropout": 0.4,
            },
            "training": {"batch_size": 128, "learning_rate": 0.005},
        },
        sims={
            "model": {
                "audio_hidden": 32, "text_output": 256, "fusion_hidden": 32, "audio_dropout": 0.4,
                "vision_dropout": 0.4, "text_dropout": 0.4, "fusion_dropout": 0.4,
            },
            "training": {"batch_size": 32, "learning_rate": 0.0005},
        },
    ),
}  # fmt: skip
