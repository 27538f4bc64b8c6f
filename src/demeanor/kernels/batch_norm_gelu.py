"""Batch norm and GELU of a feature map as one step that remembers one map instead of three.

Numerically `gelu(norm(values))`. Plain, autograd keeps the convolution's output for the norm, the norm's for GELU and
GELU's for the pooling after it; here the norm's is made again on the way back, by the same multiplication and addition,
and the pooling (demeanor.kernels.conv) needs its switches alone.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from demeanor.kernels.conv import put_rows, take_rows


def normalise(
    norm: nn.BatchNorm2d,
    values: Float[Tensor, "batch channels height width"],
    positions: Int[Tensor, " observed"] | None,
) -> Float[Tensor, "batch channels height width"]:
    """Batch norm, then GELU. With `places`, flat numbers of [B * H * W], the rest becomes zero and enters no statistic.

    The observed positions are gathered first: statistics are then the ordinary ones of fewer rows, and what is
    padding costs nothing.
    """
    if _thrifty(norm, values):
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        return _NormGelu.apply(
            values, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps, positions
        )
    if positions is None:
        return functional.gelu(norm(values))
    batch, channels, height, width = values.shape
    rows = take_rows(_as_rows(values), positions)
    rows = functional.gelu(norm(rows[:, :, None, None])[:, :, 0, 0])
    grid = put_rows(rows, positions, batch * height * width).view(batch, height, width, channels)
    return grid.permute(0, 3, 1, 2)


def _thrifty(norm: nn.BatchNorm2d, values: Tensor) -> bool:
    """In training on a CPU; a GPU's own kernels, autocast and the compiler know better."""
    return (
        norm.training
        and torch.is_grad_enabled()
        and values.device.type == "cpu"
        and values.dtype == norm.weight.dtype
        and not torch.compiler.is_compiling()
    )


def _as_rows(values: Tensor) -> Float[Tensor, "positions channels"]:
    """A view for a map in the channels-last layout."""
    return values.permute(0, 2, 3, 1).reshape(-1, values.shape[1])


class _NormGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, weight, bias, running_mean, running_var, momentum, epsilon, positions):
        ctx.shape, ctx.epsilon = values.shape, epsilon
        saved = values if positions is None else _as_rows(values).index_select(0, positions)[:, :, None, None]
        normed, mean, inverse = torch.native_batch_norm(
            saved, weight, bias, running_mean, running_var, True, momentum, epsilon
        )
        ctx.save_for_backward(saved, weight, bias, mean, inverse, positions)
        active = functional.gelu(normed)
        return active if positions is None else _laid(active, positions, values.shape)

    @staticmethod
    def backward(ctx, gradient):
        saved, weight, bias, mean, inverse, positions = ctx.saved_tensors
        if positions is not None:
            gradient = _as_rows(gradient).index_select(0, positions)[:, :, None, None]
        factor = (weight * inverse)[:, None, None]
        normed = torch.addcmul(bias[:, None, None] - mean[:, None, None] * factor, saved, factor)
        # Into the memory of `normed`: both are read and written element by element.
        torch.ops.aten.gelu_backward.grad_input(gradient, normed, grad_input=normed)
        gradients = torch.ops.aten.native_batch_norm_backward(
            normed, saved, weight, None, None, mean, inverse, True, ctx.epsilon, [True, True, True]
        )
        back = gradients[0] if positions is None else _laid(gradients[0], positions, ctx.shape)
        return back, gradients[1], gradients[2], None, None, None, None, None


def _laid(rows: Tensor, positions: Tensor, shape: torch.Size) -> Tensor:
    """[observed, C, 1, 1] -> [B, C, H, W] in the channels-last layout, zeros elsewhere."""
    batch, channels, height, width = shape
    grid = rows.new_zeros(batch * height * width, channels).index_copy_(0, positions, rows[:, :, 0, 0])
    return grid.view(batch, height, width, channels).permute(0, 3, 1, 2)
