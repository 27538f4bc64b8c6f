"""Base of the systems that read text, audio and vision step by step: EF-LSTM, MFN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import System
from demeanor.models.blocks.alignment import average_pool, common_steps, spread
from demeanor.models.blocks.layers import MissingModalityEmbedding
from demeanor.models.blocks.subnets import model_input

MODALITIES = ("text", "audio", "vision")


class AlignedSystem(System):
    """`aligned` gives the three modalities on common steps; a modality that a row lacks is a learned vector at every
    step. As published, unaligned frames are average-pooled over their padded length."""

    settings: Any

    def __init__(self, settings: Any, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.absences = nn.ModuleDict({name: Holder(inputs[name].dimension) for name in MODALITIES})

    def aligned(self, batch: Batch) -> tuple[dict[str, Tensor], Bool[Tensor, "batch steps"]]:
        """Modality -> [B, S, D], and which steps are real; every row has one at least."""
        streams = {name: model_input(self, batch, name) for name in MODALITIES}
        text = streams["text"]
        if self.settings.reference:
            steps = text.values.shape[1]
            pooled = {name: average_pool(streams[name].values, steps) for name in ("audio", "vision")}
            return {"text": text.values, **pooled}, text.mask
        count = common_steps(text, [streams["audio"], streams["vision"]]).clamp(min=1)
        values = {}
        for name, stream in streams.items():
            aligned = spread(stream, count)
            values[name] = self.absences[name](aligned.values, stream.present)
        mask = torch.arange(int(count.max()), device=count.device) < count.unsqueeze(1)
        return values, mask

    def together(self, batch: Batch) -> tuple[Float[Tensor, "batch steps width"], Bool[Tensor, "batch steps"]]:
        """The three modalities word by word, side by side, and which words are there."""
        values, mask = self.aligned(batch)
        return torch.cat([values[name] for name in MODALITIES], dim=2), mask


class Holder(nn.Module):
    """An absence vector at every step."""

    def __init__(self, dimension: int):
        super().__init__()
        self.absence = MissingModalityEmbedding(dimension)

    def forward(self, values: Tensor, present: Bool[Tensor, " batch"]) -> Tensor:
        """values [batch, time, dimension], rows that lack the modality replaced by the learned vector."""
        return torch.where(present.view(-1, 1, 1), values, self.absence.vector.to(values.dtype))
