"""How many frames a speech encoder's convolutions make of how many samples, and which of them are valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Count = TypeVar("Count", int, Tensor)


@dataclass(frozen=True)
class EncoderOutput:
    """What an encoder makes of one modality of B utterances.

    hidden [B, T, D] states, meaningless where `mask` [B, T] is False; pooled [B, D], zero for a row without a step.
    """

    hidden: Float[Tensor, "batch time dimension"]
    mask: Bool[Tensor, "batch time"]
    pooled: Float[Tensor, "batch dimension"]

    @property
    def present(self) -> Bool[Tensor, " batch"]:
        """Which utterances have a frame at all."""
        return self.mask.any(dim=1)

    def rows(self, start: int, end: int) -> EncoderOutput:
        """Some of the utterances, without the steps that none of them has."""
        mask = self.mask[start:end]
        longest = max(int(mask.sum(dim=1).max()), 1) if mask.shape[1] else 0
        return EncoderOutput(self.hidden[start:end, :longest], mask[:, :longest], self.pooled[start:end])

    def take(self, index: Int[Tensor, " rows"]) -> EncoderOutput:
        """The utterances `index`; a negative one gives a row without a step."""
        known = index >= 0
        index = index.clamp(min=0)
        return EncoderOutput(
            self.hidden[index], self.mask[index] & known[:, None], self.pooled[index] * known[:, None].to(self.pooled)
        )


@dataclass(frozen=True)
class Convolutions:
    """Kernels and strides of the unpadded convolutions in front of a speech encoder."""

    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    def frames(self, samples: Count) -> Count:
        """n <- floor((n - k) / s) + 1 through all layers, with floor division for negatives too
        (docs/systems/mmml.md#valid-frames)."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def samples(self, frames: int) -> int:
        """The samples that `frames` frames see: the smallest n with frames(n) = frames."""
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            frames = (frames - 1) * stride + kernel
        return frames

    def after_first(self) -> Convolutions:
        """The same without the first convolution."""
        return Convolutions(self.kernels[1:], self.strides[1:])


def valid_frames(
    samples: Int[Tensor, " batch"], total: int, convolutions: Convolutions, reference: bool = False
) -> Int[Tensor, " batch"]:
    """V: leading frames of each row that belong to real samples; `total` is what the padded row would give.

    reference   the original's index arithmetic, which wraps around (docs/systems/mmml.md#valid-frames):
                V = ((f(n) - 1) mod T) + 1, so that silence without any sample counts as T - 1 frames
    otherwise   f(n), at least 1 for a row with any sample, 0 for a row without
    """
    formula = convolutions.frames(samples)
    if reference:
        return torch.remainder(formula - 1, total) + 1
    return torch.where(samples > 0, formula.clamp(min=1, max=total), 0)


def length_groups(lengths: Sequence[int], overhead: int, largest: int) -> list[list[int]]:
    """Rows in groups of similar length that are encoded together, so that short rows are not padded to long ones.

    Minimises the padded steps plus `overhead` steps per group, with at most `largest` rows in one, exactly: over the
    rows in order of length, best[n] = min over m of best[m] + (n - m) * length[n - 1] + overhead.
    """
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    best = [0.0]
    cut = [0]
    for n in range(1, len(order) + 1):
        longest = lengths[order[n - 1]]
        options = [(best[m] + (n - m) * longest + overhead, m) for m in range(max(0, n - largest), n)]
        cost, start = min(options)
        best.append(cost)
        cut.append(start)
    groups: list[list[int]] = []
    end = len(order)
    while end > 0:
        groups.append(order[cut[end] : end])
        end = cut[end]
    return groups


def group_overhead(device: torch.device, on_processor: int) -> int:
    """Steps that one more group costs: kernels launched on a GPU cost far more than padding a batch."""
    return on_processor if device.type == "cpu" else 200 * on_processor
