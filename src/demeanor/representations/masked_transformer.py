"""A transformer over words that predicts hidden cells of one modality from the others.

Masked prediction (Devlin et al. 2019, https://arxiv.org/abs/1810.04805) with one token per word and modality, and
whole modalities hidden at times, so that absence is an ordinary value in training too (the idea of multimodal masked
autoencoders, Geng et al. 2022, https://arxiv.org/abs/2205.14204). Unlike the convolutional autoencoder's its embedding
is the only way to a low loss: there are no switches that tell a decoder where things were.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from demeanor.data.settings import Settings
from demeanor.representations.base import Layout, RepresentationCard, RepresentationModel, reconstruction_terms


class MaskedTransformerSettings(Settings):
    """Sizes, and what is hidden from the encoder in training."""

    dimension: int = Field(default=70, ge=2, description="R, of the embedding")
    width: int = Field(default=96, ge=8, description="of the tokens")
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    hidden_words: float = Field(default=0.3, gt=0, lt=1, description="share of tokens hidden from the encoder")
    hidden_modality: float = Field(
        default=0.3, ge=0, lt=1, description="chance that a whole modality of an utterance is hidden"
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> MaskedTransformerSettings:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self


class MaskedTransformer(RepresentationModel):
    """Tokens are (word, modality) cells; the embedding is pooled over visible tokens and feeds the decoder.

    The decoder sees the pooled embedding and, for each cell, where it stands, but no token of the encoder: all that a
    hidden word is predicted from has to pass through the R numbers of the embedding.
    """

    card = RepresentationCard(
        "Masked-modality transformer", "Devlin et al. 2019 (arXiv 1810.04805), Geng et al. 2022 (arXiv 2205.14204)"
    )
    Settings = MaskedTransformerSettings

    def __init__(self, settings: MaskedTransformerSettings, layout: Layout):
        super().__init__(settings, layout)
        width, names = settings.width, layout.modalities
        sizes = [layout.blocks[name][1] - layout.blocks[name][0] for name in names]
        self.read = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.kind = nn.Parameter(torch.randn(len(names), 1, width) * 0.02)
        self.place = nn.Parameter(torch.randn(layout.steps, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, settings.heads, 2 * width, settings.dropout, "gelu", batch_first=True, norm_first=True
        )
        # Nested tensors would leave out masked tokens in evaluation alone and so change the numbers' last digits.
        self.encoder = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
        self.pool = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, settings.dimension))
        self.unpool = nn.Linear(settings.dimension, width)
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU())
        self.write = nn.ModuleList(nn.Linear(2 * width, size) for size in sizes)

    @property
    def dimension(self) -> int:
        return self.settings.dimension

    def embed(self, matrix: Float[Tensor, "batch steps features"], mask: Bool[Tensor, "batch steps ..."]) -> Tensor:
        return self._embed(matrix, self._seen(matrix, mask))

    def loss(
        self, matrix: Float[Tensor, "batch steps features"], mask: Bool[Tensor, "batch steps ..."]
    ) -> dict[str, Tensor]:
        """Error of all observed cells, hidden or not. In evaluation nothing is hidden: a stable score."""
        seen = self._seen(matrix, mask)
        visible = self._hide(seen) if self.training else seen
        embedding = self._embed(matrix, visible)
        reconstruction = self._decode(embedding)
        return reconstruction_terms(self.layout, reconstruction, matrix, self.cells(matrix, mask))

    def _seen(self, matrix: Tensor, mask: Tensor) -> Bool[Tensor, "batch steps modalities"]:
        self.cells(matrix, mask)  # refuses what does not fit
        return mask if mask.ndim == 3 else mask.unsqueeze(-1).expand(-1, -1, len(self.layout.modalities))

    def _hide(self, seen: Bool[Tensor, "batch steps modalities"]) -> Bool[Tensor, "batch steps modalities"]:
        """A random part of what was seen; a row never loses all of it."""
        unmasked = torch.rand(seen.shape, device=seen.device) >= self.settings.hidden_words
        whole = torch.rand((len(seen), 1, seen.shape[2]), device=seen.device) >= self.settings.hidden_modality
        visible = seen & unmasked & whole
        return torch.where(visible.flatten(1).any(dim=1)[:, None, None], visible, seen)

    def _embed(self, matrix: Tensor, visible: Bool[Tensor, "batch steps modalities"]) -> Float[Tensor, "batch R"]:
        tokens = []
        for n, name in enumerate(self.layout.modalities):
            start, end = self.layout.blocks[name]
            values = torch.where(visible[..., n : n + 1], matrix[..., start:end], 0.0)
            tokens.append(self.read[n](values) + self.kind[n] + self.place)
        sequence = torch.cat(tokens, dim=1)
        there = visible.transpose(1, 2).flatten(1)
        # A row of nothing attends to everything rather than to nothing, which would be NaN; its embedding is discarded.
        hidden = ~there & there.any(dim=1, keepdim=True)
        encoded = self.encoder(sequence, src_key_padding_mask=hidden)
        weight = there.unsqueeze(-1).to(encoded.dtype)
        mean = (encoded * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        top = encoded.masked_fill(~there.unsqueeze(-1), -1e4).amax(dim=1)
        top = torch.where(there.any(dim=1, keepdim=True), top, torch.zeros_like(top))
        return self.pool(torch.cat([mean, top], dim=-1))

    def _decode(self, embedding: Float[Tensor, "batch R"]) -> Float[Tensor, "batch steps features"]:
        base = self.unpool(embedding)[:, None, :] + self.place
        return torch.cat([self.write[n](self.mix(base + self.kind[n])) for n in range(len(self.write))], dim=-1)
