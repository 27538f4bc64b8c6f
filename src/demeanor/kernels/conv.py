"""Small-kernel convolutions and 2x2 pooling with switches, laid out and dispatched for speed on a CPU.

Numerically these are nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d and nn.MaxUnpool2d. What differs is the memory
layout (channels last throughout) and which kernel of the library does the work: see `convolve`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: With fewer channels a vector register is not filled and the plain layout is as fast.
WIDE_ENOUGH = 16
#: oneDNN's weight gradient of a 3x3 convolution with few channels takes three to four times as long as that of the
#: equivalent transposed convolution and the other way round; from 5x5 on they are equal (tests/benchmarks measures).
SWAPPED_KERNEL = 3


def channels_last(values: Tensor) -> Tensor:
    """values [batch, channels, height, width], unchanged but for their order in memory."""
    return values.contiguous(memory_format=torch.channels_last)


def lay_out(module: nn.Module, channels: int) -> None:
    """Turn the kernels of all convolutions below `module` to channels last where that pays."""
    for layer in module.modules():
        if channels >= WIDE_ENOUGH and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.weight.data = channels_last(layer.weight.data)


def convolve(layer: nn.Conv2d | nn.ConvTranspose2d, values: Tensor) -> Tensor:
    """`layer(values)` for stride 1, by whichever of two equivalent operators trains faster.

    A convolution with kernel k and padding p equals the transposed one with the kernel turned by 180 degrees, its
    channel axes swapped, and padding k - 1 - p; and the other way round. Only for kernels that were laid out.

    values [batch, inputs, height, width] become [batch, outputs, taller, wider].
    """
    size, padding = layer.kernel_size[0], layer.padding[0]
    last = layer.weight.is_contiguous(memory_format=torch.channels_last)
    if size != SWAPPED_KERNEL or layer.out_channels < WIDE_ENOUGH or not last:
        return layer(values)
    assert not isinstance(padding, str)
    turned = channels_last(layer.weight.flip(2, 3).transpose(0, 1))
    swapped = functional.conv2d if isinstance(layer, nn.ConvTranspose2d) else functional.conv_transpose2d
    return swapped(values, turned, layer.bias, padding=size - 1 - padding)


def pool_pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    """[B, C, H, W] -> maxima [B, C, H // 2, W // 2] and their flat indices row * W + column in the plane.

    Of equal values the first in row-major order wins; an odd last row or column is left out.
    """
    return _Pool.apply(values)


def unpool_pairs(values: Tensor, switches: Tensor, shape: torch.Size) -> Tensor:
    """Put each value back where it came from, zeros elsewhere: [B, C, h, w] -> [B, C, H, W]."""
    return _Unpool.apply(values, switches, shape[-2], shape[-1])


class _Pool(torch.autograd.Function):
    """functional.max_pool2d, whose way back needs the switches alone: the map that was pooled can be forgotten."""

    @staticmethod
    def forward(ctx, values: Tensor) -> tuple[Tensor, Tensor]:
        found, switches = functional.max_pool2d(values, 2, return_indices=True)
        ctx.size = values.shape[-2:]
        ctx.save_for_backward(switches)
        ctx.mark_non_differentiable(switches)
        return found, switches

    @staticmethod
    def backward(ctx, gradient: Tensor, _: Tensor):
        (switches,) = ctx.saved_tensors
        return functional.max_unpool2d(gradient, switches, (2, 2), output_size=list(ctx.size))


class _Unpool(torch.autograd.Function):
    """functional.max_unpool2d with a gradient that stays in the channels-last layout instead of copying out of it."""

    @staticmethod
    def forward(ctx, values: Tensor, switches: Tensor, height: int, width: int) -> Tensor:
        ctx.save_for_backward(switches)
        return functional.max_unpool2d(values, switches, (2, 2), output_size=[height, width])

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (switches,) = ctx.saved_tensors
        batch, channels, rows, columns = switches.shape
        positions = switches.permute(0, 2, 3, 1) * channels + torch.arange(channels, device=switches.device)
        flat = channels_last(gradient).permute(0, 2, 3, 1).reshape(batch, -1)
        found = flat.gather(1, positions.reshape(batch, -1)).view(batch, rows, columns, channels)
        return found.permute(0, 3, 1, 2), None, None, None


def take_rows(values: Tensor, rows: Tensor) -> Tensor:
    """values[rows] of [N, C], for row numbers that are all different (which makes the gradient a plain copy)."""
    return _TakeRows.apply(values, rows)


def put_rows(values: Tensor, rows: Tensor, size: int) -> Tensor:
    """The inverse of `take_rows`: [size, C] with zeros in all other rows."""
    return _PutRows.apply(values, rows, size)


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.size = len(values)
        return values.index_select(0, rows)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (rows,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.size, gradient.shape[1]).index_copy_(0, rows, gradient), None


class _PutRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, rows: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(rows)
        return values.new_zeros(size, values.shape[1]).index_copy_(0, rows, values)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (rows,) = ctx.saved_tensors
        return gradient.index_select(0, rows), None, None
