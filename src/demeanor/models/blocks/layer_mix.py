"""Layers of a pretrained encoder to one vector, by weights that all utterances share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from demeanor.data.batch import Padded
from demeanor.data.errors import InputError
from demeanor.models.blocks.layers import MissingModalityEmbedding, zero_padding
from demeanor.models.blocks.subnets import PresentBatchNorm


class LayerMix(nn.Module):
    """Softmax-weighted mean of `layers` steps, one learnt weight for each; absent rows get a learned vector.

    A stream with a step per layer (`hf_speech_statistics`, `apart: true`) has the same layers in every row. Attention
    over them may weigh the layers of each row in another way, which some hundred clips cannot teach; here the whole
    mix is `layers` numbers, which begin equal. The mix is standardised by column (streams are so over all steps, and
    layers differ in mean and spread) with running statistics of training rows.
    """

    def __init__(self, layers: int, dimension: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))
        self.standard = PresentBatchNorm(dimension, affine=False)
        self.absence = MissingModalityEmbedding(dimension)

    def forward(self, padded: Padded) -> Float[Tensor, "batch dimension"]:
        """InputError where a row that is there has another number of steps."""
        layers = len(self.weights)
        present = require_layers(padded, layers)
        if not bool(present.any()):
            return self.absence(padded.values.new_zeros((len(present), len(self.absence.vector))), present)
        values = zero_padding(padded).values[:, :layers].to(self.weights.dtype)
        mixed = torch.einsum("bld,l->bd", values, self.weights.softmax(dim=0))
        return self.absence(self.standard(mixed, present), present)


class LayerStack(nn.Module):
    """Some of `layers` steps side by side, each column standardised as in `LayerMix`; absent rows get a learned vector.

    More to learn from than a mix, and a linear head may ask one layer for one class and another for the next.
    """

    def __init__(self, layers: int, chosen: Sequence[int], dimension: int):
        super().__init__()
        self.layers, self.chosen = layers, list(chosen)
        self.standard = PresentBatchNorm(len(chosen) * dimension, affine=False)
        self.absence = MissingModalityEmbedding(len(chosen) * dimension)

    def forward(self, padded: Padded) -> Float[Tensor, "batch chosen_times_dimension"]:
        """InputError where a row that is there has another number of steps."""
        present = require_layers(padded, self.layers)
        width = len(self.absence.vector)
        if not bool(present.any()):
            return self.absence(padded.values.new_zeros((len(present), width)), present)
        values = zero_padding(padded).values[:, self.chosen].flatten(1).to(self.absence.vector.dtype)
        return self.absence(self.standard(values, present), present)


def require_layers(padded: Padded, layers: int) -> Bool[Tensor, " batch"]:
    """Which rows are there; InputError where one of them has another number of steps than `layers`."""
    present = padded.present
    lengths = padded.lengths[present]
    if bool((lengths != layers).any()):
        wrong = sorted(set(lengths.tolist()) - {layers})
        raise InputError(
            "layer mix",
            [f"rows have {', '.join(map(str, wrong))} steps, not one for each of {layers} layers"],
            "Set the system's `layers` to the number of layers that the stream keeps apart.",
        )
    return present
