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
from demeanor.models.lf_dnn import PUBLISHED_NAMES as LF_DNN_NAMES
from demeanor.models.lmf import PUBLISHED_NAMES as LMF_NAMES
from demeanor.models.lmf import LowRankFusion
from demeanor.models.published import mmsa
from demeanor.models.tfn import PUBLISHED_NAMES as TFN_NAMES
from demeanor.models.tfn import bounded

PAPER = "https://aclanthology.org/2020.acl-main.343"
MODALITIES = ("text", "audio", "vision")


class MultitaskSettings(SubnetSettings):
    """Sizes of the sub-networks and heads, and the weight of each modality's own loss."""

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
        """Width of each modality's vector."""
        settings = self.settings
        return {"audio": settings.audio_hidden, "vision": settings.vision_hidden, "text": settings.text_output}

    def fuse(self, states: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
        """Representation, where one is at hand, and prediction from the states of the sub-networks.

        states by modality [batch, dimension]; gives [batch, width] and [batch, outputs].
        """
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
    """Late fusion by concatenation."""

    card = Card("MLF-DNN", PAPER, ROLES)

    def __init__(self, settings: MultitaskSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        width = sum(self.widths.values())
        self.head = Perceptron(width, settings.fusion_hidden, task.outputs, settings.fusion_dropout)

    def fuse(self, states: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        fused = torch.cat([states[name] for name in ("audio", "vision", "text")], dim=1)
        return fused, self.head(fused)


class MTFN(Multitask):
    """Fusion by the outer product."""

    card = Card("MTFN", PAPER, ROLES)

    def __init__(self, settings: MultitaskSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.head = TensorFusion(self.widths, settings.fusion_hidden, task.outputs, settings.fusion_dropout)

    def fuse(self, states: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
        return None, bounded(self.task, self.head(states), self.settings.reference)


class MLMFSettings(MultitaskSettings):
    """Those of the family, and the rank."""

    text_output: int = Field(default=32, gt=0, description="unused: half of text_hidden, as in LMF")
    rank: int = Field(default=4, gt=0)


class MLMF(Multitask):
    """Fusion by the low-rank product."""

    card = Card("MLMF", PAPER, ROLES)
    Settings = MLMFSettings

    def __init__(self, settings: MLMFSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.fusion = LowRankFusion(self.widths, settings.rank, task.outputs, settings.fusion_dropout)

    def state_widths(self) -> dict[str, int]:
        """As LMF's: the text's vector has half the width of its LSTM."""
        return {**super().state_widths(), "text": self.settings.text_hidden // 2}

    def fuse(self, states: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.fusion(states)


HEAD_NAMES = {
    **SUBNET_NAMES,
    **head_names("text", "heads.text"),
    **head_names("audio", "heads.audio"),
    **head_names("video", "heads.vision"),
}

# MMSA weighs the losses M, T, A, V by 0.6, 0.2, 0.8, 0.8 (mlf_dnn), 0.6, 0.4, 0.0, 1.0 (mtfn) and 0.2, 1.0, 0.4, 0.8
# (mlmf); here they are relative to M's. It decays the sub-networks of text, audio and vision by 0.0001, 0.001, 0.0001
# (mlf_dnn), 0.001, 0.0001, 1e-05 (mtfn) and 0.0001, 0.0, 0.0001 (mlmf), the rest as below, which is used for all.
PUBLISHED = {
    "mlf_dnn": mmsa(
        {
            "text_hidden": 64, "audio_hidden": 32, "vision_hidden": 64, "text_output": 32, "fusion_hidden": 32,
            "text_head": 16, "audio_head": 4, "vision_head": 32, "audio_dropout": 0.3, "vision_dropout": 0.3,
            "text_dropout": 0.3, "fusion_dropout": 0.5, "head_dropout": 0.5, "text_weight": 0.3333,
            "audio_weight": 1.3333, "vision_weight": 1.3333,
        },
        training={"batch_size": 32, "learning_rate": 0.002, "weight_decay": 0.0},
        names={**HEAD_NAMES, **LF_DNN_NAMES},
        sims={},
    ),
    "mtfn": mmsa(
        {
            "text_hidden": 256, "audio_hidden": 32, "vision_hidden": 256, "text_output": 256, "fusion_hidden": 64,
            "text_head": 64, "audio_head": 4, "vision_head": 8, "audio_dropout": 0.2, "vision_dropout": 0.2,
            "text_dropout": 0.2, "fusion_dropout": 0.2, "head_dropout": 0.2, "text_weight": 0.6667,
            "audio_weight": 0.0, "vision_weight": 1.6667,
        },
        training={"batch_size": 64, "learning_rate": 0.005, "weight_decay": 0.005},
        names={**HEAD_NAMES, **TFN_NAMES},
        sims={},
    ),
    "mlmf": mmsa(
        {
            "text_hidden": 256, "audio_hidden": 32, "vision_hidden": 256, "rank": 3, "text_head": 8,
            "audio_head": 4, "vision_head": 32, "audio_dropout": 0.3, "vision_dropout": 0.3, "text_dropout": 0.3,
            "fusion_dropout": 0.4, "head_dropout": 0.4, "text_weight": 5.0, "audio_weight": 2.0,
            "vision_weight": 4.0,
        },
        training={"batch_size": 128, "learning_rate": 0.001, "weight_decay": 0.005},
        names={**HEAD_NAMES, **LMF_NAMES},
        sims={},
    ),
}  # fmt: skip
