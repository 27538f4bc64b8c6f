"""Linear layers on processors where torch's usual library for matrix products is the slower one of two.

torch multiplies float32 matrices with Intel's MKL, which on AMD's processors does without their widest instructions;
its convolutions go through oneDNN, which does not. A linear layer is a convolution with a kernel of one, with the same
weights, gradients and rounding errors: on an AMD EPYC of 2024 it takes half of the time, forwards and backwards.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

#: Weights, and multiplications with them, below which oneDNN is not quicker.
LARGE, WORTHWHILE = 1 << 16, 1 << 24
#: On one thread torch gives convolutions with a kernel of one to oneDNN only if there are as many pictures as this.
MANY = 16


@functools.cache
def mkl_is_slow() -> bool:
    """Does torch multiply float32 matrices with MKL on an x86 processor with AVX-512 that is not Intel's?"""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    table = Path("/proc/cpuinfo")
    about = table.read_text(encoding="utf-8", errors="replace") if table.exists() else platform.processor()
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and "GenuineIntel" not in about


def rounded(rows: int) -> int:
    """The next number of rows that kernels are made for, eight to each doubling.

    oneDNN makes its kernels for one number of rows, which takes as long as a small product, and remembers a thousand.
    """
    step = max(MANY, 1 << max(rows.bit_length() - 4, 0))
    return -(-rows // step) * step


def linear(
    values: Float[Tensor, "*batch inputs"], weight: Float[Tensor, "outputs inputs"], bias: Tensor | None = None
) -> Float[Tensor, "*batch outputs"]:
    """torch.nn.functional.linear by the quicker of MKL and oneDNN. bias [outputs]."""
    worthwhile = weight.numel() >= LARGE and values.numel() * len(weight) >= WORTHWHILE
    ordinary = values.device.type == "cpu" and values.dtype == weight.dtype == torch.float32
    if not worthwhile or not ordinary or torch.is_autocast_enabled("cpu") or not mkl_is_slow():
        return nn.functional.linear(values, weight, bias)
    rows = values.reshape(-1, values.shape[-1])
    if len(rows) != rounded(len(rows)):
        rows = nn.functional.pad(rows, (0, 0, 0, rounded(len(rows)) - len(rows)))
    images = 1 if torch.get_num_threads() > 1 else MANY
    # As a 1x1 convolution: rows become points of an image in channels-last layout, a view without a copy.
    points = rows.view(images, 1, -1, rows.shape[1]).permute(0, 3, 1, 2)
    outputs = nn.functional.conv2d(points, weight[:, :, None, None], bias).permute(0, 2, 3, 1)
    return outputs.reshape(len(rows), -1)[: values.shape[:-1].numel()].view(*values.shape[:-1], -1)


class OneDNNLinear(nn.Linear):
    """A linear layer that uses `linear`."""

    def forward(self, values: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        return linear(values, self.weight, self.bias)


def use_onednn_linear(module: nn.Module) -> None:
    """Let the module's linear layers compute by oneDNN where MKL is slow; weights and their names stay."""
    if not mkl_is_slow():
        return
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                replacement = OneDNNLinear(child.in_features, child.out_features, child.bias is not None, device="meta")
                replacement.weight, replacement.bias = child.weight, child.bias
                replacement.train(child.training)
                setattr(parent, name, replacement)
