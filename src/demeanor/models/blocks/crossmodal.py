"""Crossmodal transformers: one modality attends to another. Tsai et al. 2019, https://arxiv.org/abs/1906.00295.

docs/systems/mmsa.md#crossmodal: pre-norm layers whose keys and values are the other modality's
projected input at every layer, normalised by the layer's own first normalisation.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Padded
from demeanor.models.blocks.layers import zero_padding


class Attention(nn.Module):
    """Multi-head attention whose scores never leave the fused kernel."""

    def __init__(self, dimension: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dimension, dimension))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dimension))
        self.out_proj = nn.Linear(dimension, dimension)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Float[Tensor, "batch queries dimension"],
        key: Float[Tensor, "batch keys dimension"],
        value: Float[Tensor, "batch keys dimension"],
        visible: Bool[Tensor, "batch 1 _ keys"] | None,
    ) -> Float[Tensor, "batch queries dimension"]:
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        asked, known, values_of = (
            functional.linear(part, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        chance = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(asked, known, values_of, attn_mask=visible, dropout_p=chance)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class CrossmodalLayer(nn.Module):
    """x + attention(norm(x), norm(source)), then x + feed-forward(norm(x)), the feed-forward four times as wide."""

    def __init__(self, dimension: int, heads: int, attention: float, relu: float, residual: float):
        super().__init__()
        self.attention = Attention(dimension, heads, attention)
        self.attention_norm = nn.LayerNorm(dimension)
        self.feed_norm = nn.LayerNorm(dimension)
        self.expand = nn.Linear(dimension, 4 * dimension)
        self.contract = nn.Linear(4 * dimension, dimension)
        self.relu_dropout = nn.Dropout(relu)
        self.residual_dropout = nn.Dropout(residual)
        for layer in (self.expand, self.contract):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, values: Tensor, source: tuple[Tensor, Tensor] | None, visible: Tensor | None) -> Tensor:
        """values [batch, queries, dimension]; source, key and value, [batch, keys, dimension]; gives the shape of
        `values`."""
        normed = self.attention_norm(values)
        key, value = (normed, normed) if source is None else (self.attention_norm(part) for part in source)
        values = values + self.residual_dropout(self.attention(normed, key, value, visible))
        hidden = self.relu_dropout(functional.relu(self.expand(self.feed_norm(values))))
        return values + self.residual_dropout(self.contract(hidden))


class CrossmodalEncoder(nn.Module):
    """A stack of such layers over x * sqrt(d), without positions unless asked for, and a last normalisation."""

    def __init__(
        self,
        dimension: int,
        heads: int,
        layers: int,
        attention: float,
        relu: float,
        residual: float,
        embedding: float,
        positions: bool = False,
    ):
        super().__init__()
        self.scale, self.positions = math.sqrt(dimension), positions
        self.embedding_dropout = nn.Dropout(embedding)
        self.layers = nn.ModuleList(CrossmodalLayer(dimension, heads, attention, relu, residual) for _ in range(layers))
        self.norm = nn.LayerNorm(dimension)

    def embed(self, values: Tensor) -> Tensor:
        """[batch, time, dimension], scaled, and with places where the settings ask for them."""
        scaled = self.scale * values
        if self.positions:
            scaled = scaled + sinusoids(values)
        return self.embedding_dropout(scaled)

    def forward(
        self, query: Padded, source: Padded | tuple[Padded, Padded] | None = None, causal: bool = False
    ) -> Padded:
        """source None: self-attention; a pair: keys and values from different streams of equal length."""
        keys = query if source is None else (source if isinstance(source, Padded) else source[0])
        visible = visibility(query.mask, keys.mask, causal)
        values = self.embed(query.values)
        embedded: tuple[Tensor, Tensor] | None = None
        if isinstance(source, Padded):
            both = self.embed(source.values)
            embedded = (both, both)
        elif source is not None:
            embedded = (self.embed(source[0].values), self.embed(source[1].values))
        for layer in self.layers:
            values = layer(values, embedded, visible)
        return zero_padding(Padded(self.norm(values), query.mask))


def visibility(
    query: Bool[Tensor, "batch queries"], key: Bool[Tensor, "batch keys"], causal: bool
) -> Bool[Tensor, "batch 1 _ keys"] | None:
    """Which keys a query may see: real ones; causal: only up to its own position plus the difference in length.

    The published mask takes the lengths of the padded tensors, which makes a prediction depend on the padding; here
    each row's own lengths count, which is the same where nothing is padded.
    """
    if not causal:
        return None if bool(key.all()) else key[:, None, None, :]
    offset = (query.sum(dim=1) - key.sum(dim=1)).abs()
    rows = torch.arange(query.shape[1], device=key.device)[None, :, None] + offset[:, None, None]
    columns = torch.arange(key.shape[1], device=key.device)[None, None, :]
    return ((columns <= rows) & key[:, None, :]).unsqueeze(1)


def sinusoids(values: Float[Tensor, "batch time dimension"]) -> Float[Tensor, "time dimension"]:
    """Positions 1, 2, ... as in Vaswani et al. 2017, sines in the first half and cosines in the second."""
    time, dimension = values.shape[1:]
    half = dimension // 2
    rate = torch.exp(torch.arange(half, device=values.device) * -(math.log(10000) / max(half - 1, 1)))
    angle = torch.arange(1, time + 1, device=values.device)[:, None] * rate[None]
    table = torch.cat([angle.sin(), angle.cos()], dim=1)
    return functional.pad(table, (0, dimension - table.shape[1])).to(values.dtype)


class Projection(nn.Module):
    """Convolution over time to `dimension`, without bias; nothing where the width is right already.

    By default zeros at both ends keep the length, so that a clip of one step survives; the original loses
    kernel - 1 steps.
    """

    def __init__(self, width: int, dimension: int, kernel: int, reference: bool = False):
        super().__init__()
        self.convolution: nn.Conv1d | None = None
        if width != dimension:
            how = 0 if reference else "same"
            self.convolution = nn.Conv1d(width, dimension, kernel, padding=how, bias=False)

    def forward(self, padded: Padded) -> Padded:
        if self.convolution is None:
            return padded
        values = self.convolution(padded.values.transpose(1, 2)).transpose(1, 2)
        return zero_padding(Padded(values, padded.mask[:, : values.shape[1]]))


#: Names inside the published encoders -> ours, for `layers.load_renamed`.
ENCODER_NAMES = {
    ".self_attn.": ".attention.",
    ".layer_norms.0.": ".attention_norm.",
    ".layer_norms.1.": ".feed_norm.",
    ".fc1.": ".expand.",
    ".fc2.": ".contract.",
    ".layer_norm.": ".norm.",
}
