"""Words to one vector, as Self-MM has it (arXiv:2102.04830): the first state of its encoder, or the mean of all."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from demeanor.data.batch import Padded
from demeanor.data.bundle import InputSpecification
from demeanor.models.base import masked_mean
from demeanor.models.blocks.layers import zero_padding
from demeanor.models.blocks.text_encoder import TextEncoder, TextEncoderSettings


class PooledTextSettings(TextEncoderSettings):
    """Of the encoder, and of what becomes of its states."""

    pooling: Literal["first", "mean"] | None = Field(
        default=None, description="of word states; None: the first of a trained encoder, the mean of frozen features"
    )


class PooledText(TextEncoder):
    """A text encoder whose states are pooled. `pooling` as it is chosen: first or mean."""

    def __init__(self, specification: InputSpecification, settings: PooledTextSettings):
        super().__init__(specification, settings.encoder, settings.finetune, settings.encoder_configuration)
        self.pooling = settings.pooling or ("first" if self.tokens and settings.finetune else "mean")

    def pooled(self, padded: Padded) -> Float[Tensor, "batch dimension"]:
        """One vector for each row; InputError for more tokens than the encoder has places."""
        states, mask = self(zero_padding(padded), first=self.pooling == "first")
        return states[:, 0] if self.pooling == "first" else masked_mean(states, mask)
