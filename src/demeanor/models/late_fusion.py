"""Late fusion: one small encoder and one unimodal prediction per modality, weighed by masked gates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, Role, System, task_loss
from demeanor.models.blocks.layers import StatisticsEncoder

MODALITIES = ("text", "audio", "vision")


class LateFusionSettings(Settings):
    """Sizes, and the weight of the unimodal losses."""

    hidden: int = Field(default=32, gt=0, description="width of each modality's representation")
    dropout: float = Field(default=0.3, ge=0, lt=1)
    auxiliary_weight: float = Field(default=0.3, ge=0, description="of the mean loss of the unimodal heads")


class LateFusion(System):
    """prediction = sum over the present modalities of gate_m * y_m, plus what the gated fusion adds.

    y_m is the unimodal prediction of modality m; gates are a softmax over the present modalities, scored from all
    representations; absent modalities are learned embeddings and weigh nothing. The unimodal heads are trained on
    their own labels where the corpus has them, else on the common one. Any one modality suffices.
    """

    card = Card(
        "Late fusion",
        "gated as in Arevalo et al. 2017, https://arxiv.org/abs/1702.01992",
        {
            "text": Role("text", required=False, normalised=False, description="sentence vector or word states"),
            "audio": Role("audio", required=False, description="frame features or functionals"),
            "vision": Role("vision", required=False, description="frame features of the face"),
        },
    )
    Settings = LateFusionSettings

    def __init__(self, settings: LateFusionSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.modalities = [name for name in MODALITIES if name in inputs]
        if not self.modalities:
            raise InputError(self.card.title, ["it is given no stream"], "Give at least one of text, audio, vision.")
        hidden, count = settings.hidden, len(self.modalities)
        self.encoders = nn.ModuleDict(
            {name: StatisticsEncoder(inputs[name].dimension, hidden, settings.dropout) for name in self.modalities}
        )
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, task.outputs) for name in self.modalities})
        self.gate = nn.Linear(count * hidden, count)
        self.fusion = nn.Sequential(
            nn.LayerNorm(count * hidden),
            nn.Dropout(settings.dropout),
            nn.Linear(count * hidden, hidden),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Linear(hidden, task.outputs),
        )

    @classmethod
    def tiny(cls) -> LateFusionSettings:
        """Settings for tests."""
        return LateFusionSettings(hidden=8)

    def forward(self, batch: Batch) -> Output:
        states = [self.encoders[name](batch[name]) for name in self.modalities]
        present = torch.stack([batch[name].present for name in self.modalities], dim=1)
        together = torch.cat(states, dim=1)
        scores = self.gate(together)
        scores = scores.masked_fill(~present, torch.finfo(scores.dtype).min)
        gates = scores.softmax(dim=1) * present
        unimodal = torch.stack([head(state) for head, state in zip(self.heads.values(), states, strict=True)], dim=1)
        fused = torch.cat([state * gates[:, [n]] for n, state in enumerate(states)], dim=1)
        # Where nothing is present all gates are zero, and the fusion of the missing-modality embeddings is the prior.
        prior = torch.where(present.any(dim=1, keepdim=True), fused, together)
        prediction = (gates.unsqueeze(-1) * unimodal).sum(dim=1) + self.fusion(prior)
        auxiliary: dict[str, Tensor] = {"gates": gates}
        auxiliary |= {name: unimodal[:, n] for n, name in enumerate(self.modalities)}
        return Output(prediction, auxiliary, representation=fused)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        terms = {"task": task_loss(self.task, output.prediction, batch.target)}
        for name in self.modalities:
            target = batch.target
            if self.task.kind == "regression" and name in batch.labels:
                own = batch.labels[name]
                target = torch.where(torch.isnan(own), target, own)
            rows = batch[name].present
            terms[name] = task_loss(self.task, output.auxiliary[name][rows], target[rows])
        alone = torch.stack([terms[name] for name in self.modalities]).mean()
        return {"total": terms["task"] + self.settings.auxiliary_weight * alone, **terms}
