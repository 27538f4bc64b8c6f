"""The perceptron over the outer product of three modalities, which is never held as a whole.

Zadeh et al. 2017, https://arxiv.org/abs/1707.07250, section 3.2. On MOSI the product has 140,481 columns and the first
layer behind it nine million weights: what a step costs is how often these go through memory, not the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from demeanor.models.blocks.layers import LARGE, Perceptron, kept_entries

ORDER = ("audio", "vision", "text")
#: Entries of the product that are worked on at a time: two megabytes, which stay in a core's cache.
SLICE = 1 << 19


def with_one(states: Mapping[str, Tensor]) -> list[Float[Tensor, "batch _"]]:
    """[1; audio], [1; vision], [1; text]: the ones make room for unimodal and bimodal products."""
    return [functional.pad(states[name], (1, 0), value=1.0) for name in ORDER]


def outer_product(states: Mapping[str, Tensor]) -> Float[Tensor, "batch fused"]:
    """[1; audio] x [1; vision] x [1; text], flattened in this order: unimodal, bimodal and trimodal products."""
    return torch.einsum("ba,bv,bt->bavt", *with_one(states)).flatten(1)


class TensorFusion(Perceptron):
    """dropout -> linear -> relu -> linear -> relu -> linear over the outer product of the states.

    widths: of the states by name. On a CPU the product is made slice by slice, forwards and again backwards; the
    weights and their names are those of a perceptron over the whole of it.
    """

    def __init__(self, widths: Mapping[str, int], hidden: int, outputs: int, dropout: float):
        columns = 1
        for name in ORDER:
            columns *= widths[name] + 1
        super().__init__(columns, hidden, outputs, dropout)

    def forward(self, states: Mapping[str, Tensor]) -> Tensor:  # type: ignore[override]
        """States by modality [batch, dimension], any widths, to [batch, outputs]."""
        audio, vision, text = with_one(states)
        size = len(audio) * self.first.in_features
        ordinary = audio.device.type != "cpu" or torch.is_autocast_enabled("cpu") or audio.dtype != torch.float32
        if ordinary or size < LARGE:
            return super().forward(torch.einsum("ba,bv,bt->bavt", audio, vision, text).flatten(1))
        pairs = torch.einsum("bv,bt->bvt", vision, text).flatten(1)
        mask = None
        if self.training and self.dropout.p:
            mask, scale = kept_entries((audio.shape[1], *pairs.shape), self.dropout.p)
            audio = audio * scale
        return self.behind(_SlicedLinear.apply(audio, pairs, mask, self.first.weight, self.first.bias))


class _SlicedLinear(torch.autograd.Function):
    """linear(kept * (rows x pairs)): a few rows' columns of the product at a time.

    rows: [B, R]; pairs: [B, P]; kept: int8 [R, B, P], None: all; weight: [H, R * P]; bias: [H]. Returns [B, H].
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, pairs: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, pairs, mask, weight)
        result = bias.repeat(len(rows), 1)
        for start, stop in _slices(rows, pairs):
            columns = slice(start * pairs.shape[1], stop * pairs.shape[1])
            result.addmm_(_product(rows, pairs, mask, start, stop), weight[:, columns].t())
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, Tensor, Tensor]:
        rows, pairs, mask, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_rows, of_pairs, of_weight = torch.empty_like(rows), torch.zeros_like(pairs), torch.empty_like(weight)
        for start, stop in _slices(rows, pairs):
            columns = slice(start * pairs.shape[1], stop * pairs.shape[1])
            torch.mm(gradient.t(), _product(rows, pairs, mask, start, stop), out=of_weight[:, columns])
            through = torch.mm(gradient, weight[:, columns]).view(len(rows), stop - start, -1)
            if mask is not None:
                through *= mask[start:stop].transpose(0, 1)
            of_rows[:, start:stop] = torch.linalg.vecdot(through, pairs[:, None])
            for row in range(start, stop):
                of_pairs.addcmul_(through[:, row - start], rows[:, row : row + 1])
        return of_rows, of_pairs, None, of_weight, gradient.sum(0)


def _slices(rows: Tensor, pairs: Tensor) -> list[tuple[int, int]]:
    count = max(1, SLICE // pairs.numel())
    return [(start, min(start + count, rows.shape[1])) for start in range(0, rows.shape[1], count)]


def _product(rows: Tensor, pairs: Tensor, mask: Tensor | None, start: int, stop: int) -> Float[Tensor, "batch columns"]:
    """What the first layer sees of rows `start` to `stop`, before the scale of the dropout."""
    product = pairs[:, None] * rows[:, start:stop, None]
    if mask is not None:
        product *= mask[start:stop].transpose(0, 1)
    return product.flatten(1)
