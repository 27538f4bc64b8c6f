"""2x2 max pooling that remembers where each maximum was, and its inverse."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pool_pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    """[B, C, H, W] -> maxima [B, C, H // 2, W // 2] and their flat indices row * W + column in the plane.

    Of equal values the first in row-major order wins; an odd last row or column is left out.
    """
    return functional.max_pool2d(values, 2, return_indices=True)


def unpool_pairs(values: Tensor, switches: Tensor, shape: torch.Size) -> Tensor:
    """Put each value back where it came from, zeros elsewhere: [B, C, h, w] -> [B, C, H, W]."""
    return functional.max_unpool2d(values, switches, (2, 2), output_size=list(shape[-2:]))
