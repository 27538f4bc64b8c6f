"""LMF: low-rank fusion of the same outer product. Liu et al. 2018, https://arxiv.org/abs/1806.00064."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.models.base import Card, Output
from demeanor.models.blocks.subnets import ROLES, SUBNET_NAMES, SubnetSystem
from demeanor.models.published import mmsa


class LMFSettings(Settings):
    """Sizes of the sub-networks and the rank of their fusion."""

    text_hidden: int = Field(default=64, gt=1, description="of the LSTM; half of it is the text's width")
    audio_hidden: int = Field(default=16, gt=0)
    vision_hidden: int = Field(default=64, gt=0)
    rank: int = Field(default=4, gt=0)
    text_dropout: float = Field(default=0.2, ge=0, lt=1)
    audio_dropout: float = Field(default=0.2, ge=0, lt=1)
    vision_dropout: float = Field(default=0.2, ge=0, lt=1)
    fusion_dropout: float = Field(default=0.2, ge=0, lt=1)
    factor_learning_rate: float | None = Field(default=None, gt=0, description="None: the training's own")
    reference: bool = Field(
        default=False, description="padding taken for data; fusion weights and bias never trained, as published"
    )


class LowRankFusion(nn.Module):
    """sum over r of w_r * product over m of [1; h_m] U_m[r], plus b (equation 6 of the paper)."""

    def __init__(self, widths: Mapping[str, int], rank: int, outputs: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.factors = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(rank, width + 1, outputs)) for name, width in widths.items()}
        )
        self.weights = nn.Parameter(torch.empty(1, rank))
        self.bias = nn.Parameter(torch.zeros(1, outputs))
        for value in (*self.factors.values(), self.weights):
            nn.init.xavier_normal_(value)

    def forward(self, states: Mapping[str, Tensor]) -> tuple[Float[Tensor, "batch rank_outputs"], Tensor]:
        """States by modality [batch, dimension]; the product of every rank, and their weighted sum [batch, outputs]."""
        product: Tensor | None = None
        for name, factor in self.factors.items():
            one = torch.cat([states[name].new_ones(len(states[name]), 1), states[name]], dim=1)
            projected = torch.einsum("bd,rdo->bro", one, factor)
            product = projected if product is None else product * projected
        assert product is not None
        return product.flatten(1), torch.einsum("r,bro->bo", self.weights[0], self.dropout(product)) + self.bias


class LMF(SubnetSystem):
    """Three sub-networks and the low-rank product of their vectors."""

    card = Card("LMF", "https://arxiv.org/abs/1806.00064", ROLES)
    Settings = LMFSettings

    def __init__(self, settings: LMFSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        text = settings.text_hidden // 2
        self.add_subnets(text)
        widths = {"audio": settings.audio_hidden, "vision": settings.vision_hidden, "text": text}
        self.fusion = LowRankFusion(widths, settings.rank, task.outputs, settings.fusion_dropout)

    @classmethod
    def tiny(cls) -> LMFSettings:
        """Settings for tests."""
        return LMFSettings(text_hidden=8, audio_hidden=4, vision_hidden=5, rank=2)

    def forward(self, batch: Batch) -> Output:
        states = self.states(batch)
        product, prediction = self.fusion(states)
        return Output(prediction, states, representation=product)

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Factors with their own rate, then the rest. The original's slicing leaves weights and bias out."""
        factors = list(self.fusion.factors.parameters())
        left_out = {id(value) for value in (*factors, *([] if not self.settings.reference else self._final()))}
        rest = [value for value in self.parameters() if id(value) not in left_out]
        rate = self.settings.factor_learning_rate or learning_rate
        return [
            {"params": factors, "lr": rate, "weight_decay": weight_decay},
            {"params": rest, "lr": learning_rate, "weight_decay": weight_decay},
        ]

    def _final(self) -> list[nn.Parameter]:
        return [self.fusion.weights, self.fusion.bias]


PUBLISHED_NAMES = {
    **SUBNET_NAMES,
    **{f"{theirs}_factor": f"fusion.factors.{ours}" for theirs, ours in
       (("text", "text"), ("audio", "audio"), ("video", "vision"))},
    "fusion_weights": "fusion.weights",
    "fusion_bias": "fusion.bias",
}  # fmt: skip


PUBLISHED = {
    "lmf": mmsa(
        {"audio_hidden": 16},
        names=PUBLISHED_NAMES,
        mosi={
            "model": {
                "text_hidden": 128, "vision_hidden": 128, "rank": 3, "factor_learning_rate": 0.001,
                "audio_dropout": 0.3, "vision_dropout": 0.3, "text_dropout": 0.3, "fusion_dropout": 0.3,
            },
            "training": {"batch_size": 64, "learning_rate": 0.001, "weight_decay": 0.005},
        },
        mosei={
            "model": {
                "text_hidden": 128, "vision_hidden": 128, "rank": 4, "factor_learning_rate": 0.001,
                "audio_dropout": 0.2, "vision_dropout": 0.2, "text_dropout": 0.2, "fusion_dropout": 0.2,
            },
            "training": {"batch_size": 32, "learning_rate": 0.001, "weight_decay": 0.001},
        },
        sims={
            "model": {
                "text_hidden": 64, "vision_hidden": 64, "rank": 4, "factor_learning_rate": 0.0005,
                "audio_dropout": 0.2, "vision_dropout": 0.2, "text_dropout": 0.2, "fusion_dropout": 0.2,
            },
            "training": {"batch_size": 64, "learning_rate": 0.002, "weight_decay": 0.005},
        },
    ),
}  # fmt: skip
