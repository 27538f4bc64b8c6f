"""MLF-DNN, MTFN, MLMF: LF-DNN, TFN and LMF with a head for each modality's own label.

CH-SIMS, Yu et al. 2020, https://aclanthology.org/2020.acl-main.343: the loss is the weighted sum over M, T, A, V.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, task_loss
from demeanor.models.blocks.layers import Perceptron
from demeanor.models.blocks.subnets import ROLES, SUBNET_NAMES, SubnetSettings, SubnetSystem, head_names
from demeanor.models.blocks.tensor_fusion import TensorFusion
from demeanor.models.lmf import LowRankFusion
from demeanor.models.tfn import bounded

PAPER = "https://aclanthology.org/2020.acl-main.343"
MODALITIES = ("text", "audio", "vision")


class MultitaskSettings(SubnetSettings):
    text_output: int = Field(default=32, gt=0)
    vision_hidden: int = Field(default=64, gt=0)
    fusion_hidden: int = Field(default=64, gt=0)
    text_head: int = Field(default=32, gt=0, description="width of the head on the text alone")
    audio_head: int = Field(default=16, gt=0)
    vision_head: int = Field(default=32, gt=0)
    head_dropout: float = Field(default=0.2, ge=0, lt=1, description="of the unimodal heads")
    text_weight: float = Field(default=1.0, ge=0, description="of the loss on the text's own label")
    audio_weight: float = Field(default=1.0, ge=0)
    vision_weight: float = Field(default=1.0, ge=0)


class Multitask(SubnetSystem):
    """Base: `fused` makes the common representation, `predict` its prediction.

    Where a corpus has no label of a modality's own, its head learns the common one.
    """

    Settings = MultitaskSettings

    def __init__(self, settings: MultitaskSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.widths = self.state_widths()
        self.add_subnets(self.widths["text"])
        self.heads = nn.ModuleDict(
            {
                name: Perceptron(
                    self.widths[name], getattr(settings, f"{name}_head"), task.outputs, settings.head_dropout
                )
                for name in MODALITIES
            }
        )

    def state_widths(self) -> dict[str, int]:
        settings = self.settings
        return {"audio": settings.audio_hidden, "vision": settings.vision_hidden, "text": settings.text_output}

    def fuse(self, states: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
        """Representation, where one is at hand, and prediction from the states of the sub-networks."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Output:
        states = self.states(batch)
        fused, prediction = self.fuse(states)
        auxiliary = {f"prediction_{name}": self.heads[name](states[name]) for name in MODALITIES}
        return Output(prediction, {**auxiliary, **states}, representation=fused)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        terms = {"fusion": task_loss(self.task, output.prediction, batch.target)}
        total = terms["fusion"]
        for name in MODALITIES:
            target = batch.target
            if self.task.kind == "regression" and name in batch.labels:
                own = batch.labels[name]
                target = torch.where(torch.isnan(own), target, own)
            rows = torch.ones_like(batch[name].present) if self.settings.reference else batch[name].present
            terms[name] = task_loss(self.task, output.auxiliary[f"prediction_{name}"][rows], target[rows])
            total = total + getattr(self.settings, f"{name}_weight") * terms[name]
        return {"total": total, **terms}


class MLFDNN(Multitask):
    card = Card("MLF-DNN", PAPER, ROLES)

    def __init__(self, settings: MultitaskSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        width = sum(self.widths.values())
        self.head = Perceptron(width, settings.fusion_hidden, task.outputs, settings.fusion_dropout)

    def fuse(self, states: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        fused = torch.cat([states[name] for name in ("audio", "vision", "text")], dim=1)
        return fused, self.head(fused)


class MTFN(Multitask):
    card = Card("MTFN", PAPER, ROLES)

    def __init__(self, settings: MultitaskSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.head = TensorFusion(self.widths, settings.fusion_hidden, task.outputs, settings.fusion_dropout)

    def fuse(self, states: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
        return None, bounded(self.task, self.head(states), self.settings.reference)


class MLMFSettings(MultitaskSettings):
    text_output: int = Field(default=32, gt=0, description="unused: half of text_hidden, as in LMF")
    rank: int = Field(default=4, gt=0)


class MLMF(Multitask):
    card = Card("MLMF", PAPER, ROLES)
    Settings = MLMFSettings

    def __init__(self, settings: MLMFSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.fusion = LowRankFusion(self.widths, settings.rank, task.outputs, settings.fusion_dropout)

    def state_widths(self) -> dict[str, int]:
        return {**super().state_widths(), "text": self.settings.text_hidden // 2}

    def fuse(self, states: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.fusion(states)


HEAD_NAMES = {
    **SUBNET_NAMES,
    **head_names("text", "heads.text"),
    **head_names("audio", "heads.audio"),
    **head_names("video", "heads.vision"),
}
