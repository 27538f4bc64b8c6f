"""Cross-modality encoder (CME) layers: every stream reads the others, then itself, then passes a feed-forward block.

docs/systems/mmml.md#cross-modality. The published layer has two streams. With more, a stream's cross
attention reads the other streams side by side, which for two is the published layer exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from demeanor.models.mmml.frames import EncoderOutput, group_overhead, length_groups

LAYER_NORM_EPSILON = 1e-12
GROUP_STEPS = 24
Stream = tuple[Tensor, Tensor]
"""States [B, T, D] and mask [B, T] of one modality."""


class Attention(nn.Module):
    """Blk(q, k) = LN(q + Drop(W_o Attn(q, k) + b_o)): post-norm attention with separate projections."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.attention_dropout = dropout
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        query: Float[Tensor, "batch queries width"],
        keys: Float[Tensor, "batch keys width"],
        mask: Bool[Tensor, "batch keys"],
    ) -> Float[Tensor, "batch queries width"]:
        read = functional.scaled_dot_product_attention(
            self._split(self.query(query)),
            self._split(self.key(keys)),
            self._split(self.value(keys)),
            attn_mask=mask[:, None, None, :].expand(-1, 1, query.shape[1], -1),
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.norm(query + self.dropout(self.output(read.transpose(1, 2).flatten(2))))

    def _split(self, values: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch heads time size"]:
        return values.unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """LN(x + Drop(W_2 relu(W_1 x)))."""

    def __init__(self, width: int, inner: int, dropout: float):
        super().__init__()
        self.inner = nn.Linear(width, inner)
        self.output = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time width"]:
        return self.norm(values + self.dropout(self.output(functional.relu(self.inner(values)))))


class CrossModalityLayer(nn.Module):
    """One layer; every stream has weights of its own."""

    def __init__(self, streams: Sequence[str], width: int, heads: int, inner: int, dropout: float):
        super().__init__()
        self.cross = nn.ModuleDict({name: Attention(width, heads, dropout) for name in streams})
        self.own = nn.ModuleDict({name: Attention(width, heads, dropout) for name in streams})
        self.feed_forward = nn.ModuleDict({name: FeedForward(width, inner, dropout) for name in streams})

    def forward(self, streams: Mapping[str, Stream], first_only: bool = False) -> dict[str, Stream]:
        """first_only: only the first step of each stream is wanted, as after the last layer of v1, v2 and context."""
        result = {}
        for name, (values, mask) in streams.items():
            others = [stream for other, stream in streams.items() if other != name]
            keys = others[0][0] if len(others) == 1 else torch.cat([value for value, _ in others], dim=1)
            seen = others[0][1] if len(others) == 1 else torch.cat([value for _, value in others], dim=1)
            crossed = self.cross[name](values, keys, seen)
            asking = crossed[:, :1] if first_only else crossed
            result[name] = (self.feed_forward[name](self.own[name](asking, crossed, mask)), mask)
        return result


class CrossModalityStack(nn.Module):
    """A learned first step (CLS) before each stream, then N layers (docs/systems/mmml.md#cross-modality)."""

    def __init__(self, streams: Sequence[str], width: int, heads: int, inner: int, layers: int, dropout: float):
        super().__init__()
        self.cls = nn.ParameterDict({name: nn.Parameter(torch.randn(1, width)) for name in streams})
        self.layers = nn.ModuleList(CrossModalityLayer(streams, width, heads, inner, dropout) for _ in range(layers))
        self.gradient_checkpointing = False

    def forward(self, streams: Mapping[str, Stream], first_only: bool) -> dict[str, Stream]:
        current = {name: self._enter(name, *stream) for name, stream in streams.items()}
        for number, layer in enumerate(self.layers, 1):
            cut = first_only and number == len(self.layers)
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                current = checkpoint(layer, current, cut, use_reentrant=False)
            else:
                current = layer(current, cut)
        return current

    def summaries(self, streams: Mapping[str, EncoderOutput], steps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first step [B, width] of every stream after the last layer; `steps` are the (projected) states.

        Rows are run in groups of similar length: what a row gives depends on no other row.
        """
        names = list(streams)
        counts = torch.stack([streams[name].mask.sum(dim=1) for name in names])
        lengths = counts.sum(dim=0).tolist()
        device = next(iter(steps.values())).device
        overhead = group_overhead(device, GROUP_STEPS)
        largest = len(lengths) if torch.is_grad_enabled() else 64
        pooled: dict[str, list[Tensor]] = {name: [] for name in names}
        groups = length_groups(lengths, overhead, largest)
        order = torch.tensor([row for group in groups for row in group], device=device)
        for group in groups:
            index = torch.tensor(group, device=device)
            part = {}
            for name, longest in zip(names, counts[:, index].max(dim=1).values.tolist(), strict=True):
                part[name] = (steps[name][index, :longest], streams[name].mask[index, :longest])
            for name, (values, _) in self(part, first_only=True).items():
                pooled[name].append(values[:, 0])
        back = order.argsort()
        return {name: torch.cat(parts)[back] for name, parts in pooled.items()}

    def _enter(self, name: str, values: Tensor, mask: Tensor) -> Stream:
        first = self.cls[name].to(values.dtype).expand(len(values), 1, -1)
        return torch.cat([first, values], dim=1), torch.cat([mask.new_ones((len(mask), 1)), mask], dim=1)
