"""What Self-MM and TETFN share: four heads, and unimodal labels generated while training.

docs/systems/self_mm.md#heads, #label-generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch
from demeanor.data.settings import Settings
from demeanor.models.base import Output, System
from demeanor.models.blocks.label_generation import FUSION, MODALITIES, MODES, LabelBank


class PseudoLabelSettings(Settings):
    """Of the four heads and of the labels that are generated (docs/systems/self_mm.md#settings)."""

    fusion_dimension: int = Field(default=128, gt=0)
    text_dimension: int = Field(default=32, gt=0)
    audio_dimension: int = Field(default=16, gt=0)
    vision_dimension: int = Field(default=32, gt=0)
    fusion_dropout: float = Field(default=0.0, ge=0, lt=1)
    text_dropout: float = Field(default=0.1, ge=0, lt=1)
    audio_dropout: float = Field(default=0.1, ge=0, lt=1)
    vision_dropout: float = Field(default=0.0, ge=0, lt=1)
    exclude_zero: bool = Field(default=True, description="zero labels stay out of the positive centre (MMSA: true)")
    label_limit: float | None = Field(default=None, gt=0, description="H; None: the larger end of the task's range")


class Head(nn.Module):
    """feature = relu(W1 dropout(z)); prediction = W3 relu(W2 feature) (docs/systems/self_mm.md#heads)."""

    def __init__(self, width: int, dimension: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.first = nn.Linear(width, dimension)
        self.second = nn.Linear(dimension, dimension)
        self.third = nn.Linear(dimension, 1)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Feature [batch, dimension] and prediction [batch, 1] of values [batch, inputs]."""
        feature = functional.relu(self.first(self.dropout(values)))
        return feature, self.third(functional.relu(self.second(feature)))


class PseudoLabelMultitask(System):
    """Base: `add_heads` once the widths are known, `output_of` from the four representations."""

    settings: Any
    training_buffers = ("bank",)

    def add_heads(self, widths: Mapping[str, int]) -> None:
        """Heads over representations of these widths, and the bank. Settings: <mode>_dimension, <mode>_dropout,
        label_limit, exclude_zero, reference."""
        settings, task = self.settings, self.task
        dimensions = {mode: getattr(settings, f"{mode}_dimension") for mode in MODES}
        self.heads = nn.ModuleDict(
            {mode: Head(widths[mode], dimensions[mode], getattr(settings, f"{mode}_dropout")) for mode in MODES}
        )
        limit = settings.label_limit or max(abs(task.low), abs(task.high))
        self.bank = LabelBank(dimensions, limit, settings.exclude_zero, settings.reference)

    def output_of(self, states: Mapping[str, Tensor]) -> Output:
        """prediction: the fusion head; auxiliary: prediction_<mode> [B, 1] and feature_<mode> [B, dimension]."""
        auxiliary: dict[str, Tensor] = {}
        for mode in MODES:
            auxiliary[f"feature_{mode}"], auxiliary[f"prediction_{mode}"] = self.heads[mode](states[mode])
        return Output(auxiliary["prediction_fusion"], auxiliary, representation=auxiliary["feature_fusion"])

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Mean absolute errors, the unimodal ones weighted by how far their labels have moved
        (docs/systems/self_mm.md#training-step).

        Outside of training, and before the bank is started, only the fusion counts: rows of another split have no
        place in the bank.
        """
        target = batch.target.float()
        known = ~torch.isnan(target)
        count = known.sum().clamp(min=1)

        def mean(errors: Tensor) -> Tensor:
            return errors.masked_fill(~known, 0).sum() / count

        terms = {FUSION: mean((output.prediction[:, 0].float() - target).abs())}
        if self.training and self.bank.started:
            for mode in MODALITIES:
                label, weight = self.bank.label(mode, batch.rows), self.bank.weight(mode, batch.rows)
                if not self.settings.reference:
                    weight = weight * batch[mode].present
                terms[mode] = mean(weight * (output.auxiliary[f"prediction_{mode}"][:, 0].float() - label).abs())
        return {"total": torch.stack(list(terms.values())).sum(), **terms}

    def on_train_start(self, batches: Callable[[], Iterable[Batch]], examples: int) -> None:
        """Give the bank every training label. After a checkpoint was loaded this leaves its bank alone."""
        rows, labels = [], []
        for batch in batches():
            rows.append(batch.rows)
            labels.append(batch.target)
        self.bank.start(torch.cat(rows), torch.cat(labels), examples)

    def on_step_end(self, output: Output, batch: Batch, epoch: int) -> None:
        features = {mode: output.auxiliary[f"feature_{mode}"] for mode in MODES}
        always = torch.ones_like(batch.rows, dtype=torch.bool)
        present = {mode: always if mode == FUSION or self.settings.reference else batch[mode].present for mode in MODES}
        self.bank.update(batch.rows, features, present, epoch)
