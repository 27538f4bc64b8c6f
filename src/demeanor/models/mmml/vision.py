"""Frame features as a third modality of the cross-modality layers. MMML itself has no vision: this is an addition."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from demeanor.data.batch import Padded
from demeanor.models.base import masked_mean
from demeanor.models.blocks.layers import zero_padding
from demeanor.models.mmml.frames import EncoderOutput


class FrameEncoder(nn.Module):
    """Frames [B, T, features] projected, normalised and given their place in time; pooled by their mean."""

    def __init__(self, features: int, width: int, dropout: float):
        super().__init__()
        self.dimension = width
        self.project = nn.Linear(features, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, padded: Padded) -> EncoderOutput:
        padded = zero_padding(padded)
        hidden = self.dropout(self.norm(self.project(padded.values.to(self.project.weight.dtype))))
        hidden = hidden + sinusoids(hidden.shape[1], self.dimension, hidden.device).to(hidden.dtype)
        return EncoderOutput(hidden, padded.mask, masked_mean(hidden, padded.mask))


def sinusoids(steps: int, width: int, device: torch.device) -> Float[Tensor, "steps width"]:
    """Positions as sines and cosines (arXiv:1706.03762, section 3.5); an odd width loses the last cosine."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(steps, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
