"""Fusion networks and heads: `cc` joins pooled vectors, `cme` v1, v2 and v3 read each other step by step.

docs/systems/mmml.md#concatenation, #variants. Letters name heads: T, A, V for one modality each,
M for all together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from demeanor.models.mmml.cross_modality import CrossModalityStack
from demeanor.models.mmml.frames import EncoderOutput

LETTERS = {"text": "T", "audio": "A", "vision": "V"}
BASE_WIDTH = 768
Version = Literal["v1", "v2", "v3"]


@dataclass(frozen=True)
class FusionShape:
    """Sizes of a fusion network; `fused` are the hidden widths of the joint head.

    widths    of the encoders, by modality
    width     of the cross-modality layers; states of encoders with another width are projected to it
    """

    widths: Mapping[str, int]
    outputs: int = 1
    kind: Literal["cc", "cme"] = "cme"
    version: Version = "v1"
    context: bool = False
    width: int = BASE_WIDTH
    layers: int = 5
    heads: int = 12
    inner: int = 3072
    fused: tuple[int, ...] = (768, 512)
    mixer_layers: int = 3
    mixer_heads: int = 12
    mixer_inner: int = 2048
    dropout: float = 0.3


def published_fused(kind: str, context: bool, widths: Mapping[str, int], width: int) -> tuple[int, ...]:
    """Hidden widths of the joint head as published, scaled down with encoders narrower than 768."""
    narrow = min(width, *widths.values())
    sizes: tuple[int, ...]
    if kind == "cc":
        sizes = (2048, 1024) if context else (768, 768, 512)
    else:
        sizes = (768,) if context else (768, 512)
    return tuple(max(size * min(narrow, BASE_WIDTH) // BASE_WIDTH, 8) for size in sizes)


def perceptron(first: int, hidden: Sequence[int], outputs: int, dropout: float) -> nn.Sequential:
    """Dropout, then Linear and ReLU in turns, ending in a Linear."""
    widths = [first, *hidden]
    modules: list[nn.Module] = [nn.Dropout(dropout)]
    for one, other in itertools.pairwise(widths):
        modules += [nn.Linear(one, other), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(widths[-1], outputs))


class Mixer(nn.Module):
    """v3: one stream's states before and after the cross-modality layers, step by step, through a Transformer."""

    def __init__(self, width: int, heads: int, inner: int, layers: int):
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, width))
        layer = nn.TransformerEncoderLayer(width, heads, inner, dropout=0.1, activation="relu", batch_first=True)
        # Nested tensors would make padded rows cheaper in evaluation only, at the price of a beta warning.
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, values: Float[Tensor, "batch time width"], mask: Tensor) -> Float[Tensor, "batch width"]:
        """What the first, added place gathers; mask [batch, time], true for real steps."""
        values = torch.cat([self.cls.to(values.dtype).expand(len(values), 1, -1), values], dim=1)
        hidden = torch.cat([mask.new_zeros((len(mask), 1)), ~mask], dim=1)
        return self.encoder(values, src_key_padding_mask=hidden)[:, 0]


class Fusion(nn.Module):
    """Encoders' outputs to one prediction per head. Modules that a variant does not use are not built
    (docs/systems/mmml.md#q7)."""

    def __init__(self, shape: FusionShape):
        super().__init__()
        self.shape = shape
        names = list(shape.widths)
        times = 1 + shape.context
        self.heads = nn.ModuleDict(
            {name: perceptron(times * width, (), shape.outputs, shape.dropout) for name, width in shape.widths.items()}
        )
        joined = times * sum(shape.widths.values())
        if shape.kind == "cme":
            self.bridges = nn.ModuleDict(
                {name: nn.Linear(width, shape.width) for name, width in shape.widths.items() if width != shape.width}
            )
            self.stack = CrossModalityStack(names, shape.width, shape.heads, shape.inner, shape.layers, shape.dropout)
            joined = times * len(names) * shape.width
            if shape.version == "v2":
                self.mixed = nn.ModuleDict(
                    {
                        name: nn.Sequential(nn.Dropout(shape.dropout), nn.Linear(width + shape.width, shape.width))
                        for name, width in shape.widths.items()
                    }
                )
            if shape.version == "v3":
                wide = 2 * shape.width
                self.mixers = nn.ModuleDict(
                    {name: Mixer(wide, shape.mixer_heads, shape.mixer_inner, shape.mixer_layers) for name in names}
                )
                joined = len(names) * wide
        self.joined_width = joined
        self.joint = perceptron(joined, shape.fused, shape.outputs, shape.dropout)

    def forward(
        self, current: Mapping[str, EncoderOutput], previous: Mapping[str, EncoderOutput] | None = None
    ) -> tuple[dict[str, Tensor], Float[Tensor, "batch joined"]]:
        """(head letter -> [B, outputs], what the joint head reads)."""
        pooled = {name: [value.pooled] for name, value in current.items()}
        for name, value in (previous or {}).items():
            pooled[name].append(value.pooled)
        heads = {LETTERS[name]: self.heads[name](torch.cat(parts, dim=1)) for name, parts in pooled.items()}
        if self.shape.kind == "cc":
            joined = torch.cat([part for parts in pooled.values() for part in parts], dim=1)
        elif self.shape.version == "v3":
            joined = self._mix(current)
        else:
            joined = self._summarise(current, previous)
        return {"M": self.joint(joined), **heads}, joined

    def _bridge(self, name: str, hidden: Tensor) -> Tensor:
        return self.bridges[name](hidden) if name in self.bridges else hidden

    def _summarise(self, current: Mapping[str, EncoderOutput], previous: Mapping[str, EncoderOutput] | None) -> Tensor:
        """v1, v2 and context: utterances and their contexts in one run of the layers, as rows of one batch."""
        passes = [current] if previous is None else [current, previous]
        rows = len(next(iter(current.values())).mask)
        merged = {name: joined_rows([part[name] for part in passes]) for name in current}
        steps = {name: self._bridge(name, value.hidden) for name, value in merged.items()}
        first = self.stack.summaries(merged, steps)
        if self.shape.version == "v2":
            first = {
                name: torch.relu(self.mixed[name](torch.cat([current[name].pooled, value], dim=1)))
                for name, value in first.items()
            }
        # z = [t ; t' ; s ; s']: a modality's utterance and context side by side.
        return torch.cat([part for value in first.values() for part in value.split(rows)], dim=1)

    def _mix(self, current: Mapping[str, EncoderOutput]) -> Tensor:
        steps = {name: (self._bridge(name, value.hidden), value.mask) for name, value in current.items()}
        after = self.stack(steps, first_only=False)
        mixed = [
            self.mixers[name](torch.cat([values, after[name][0][:, 1:]], dim=2), mask)
            for name, (values, mask) in steps.items()
        ]
        return torch.cat(mixed, dim=1)


def joined_rows(parts: Sequence[EncoderOutput]) -> EncoderOutput:
    """Batches below each other, padded to the longest."""
    if len(parts) == 1:
        return parts[0]
    longest = max(part.hidden.shape[1] for part in parts)
    pad = nn.functional.pad
    return EncoderOutput(
        torch.cat([pad(part.hidden, (0, 0, 0, longest - part.hidden.shape[1])) for part in parts]),
        torch.cat([pad(part.mask, (0, longest - part.mask.shape[1])) for part in parts]),
        torch.cat([part.pooled for part in parts]),
    )
