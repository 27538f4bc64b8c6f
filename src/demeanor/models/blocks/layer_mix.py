"""Layers of a pretrained encoder to one vector, by weights that all utterances share."""

from __future__ import annotations

import torch
from jaxtyping import Float
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
        present = padded.present
        lengths = padded.lengths[present]
        if bool((lengths != layers).any()):
            wrong = sorted(set(lengths.tolist()) - {layers})
            raise InputError(
                "layer mix",
                [f"rows have {', '.join(map(str, wrong))} steps, not one for each of {layers} layers"],
                "Set the system's `layers` to the number of layers that the stream keeps apart.",
            )
        if not len(lengths):
            return self.absence(padded.values.new_zeros((len(present), len(self.absence.vector))), present)
        values = zero_padding(padded).values[:, :layers].to(self.weights.dtype)
        mixed = torch.einsum("bld,l->bd", values, self.weights.softmax(dim=0))
        return self.absence(self.standard(mixed, present), present)
