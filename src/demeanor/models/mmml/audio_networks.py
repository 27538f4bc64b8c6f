"""Networks of MMML's audio-only programs (docs/systems/mmml.md#audio-only): pictures and descriptors."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from demeanor.models.mmml.vision import sinusoids

CHANNELS = (8, 16, 32, 64, 128)


class SpectrogramNetwork(nn.Module):
    """Five times convolution, ReLU, batch normalisation at stride 2, then the mean over what is left.

    With a mask, steps beyond it are zero before each convolution and stay out of the mean, so that a sound does not
    depend on how long it is padded. Without, this is the published network.
    """

    def __init__(self, channels: int, outputs: int):
        super().__init__()
        widths = (channels, *CHANNELS)
        kernels = (5, 3, 3, 3, 3)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(one, other, kernel, stride=2, padding=kernel // 2)
            for one, other, kernel in zip(widths, CHANNELS, kernels, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in CHANNELS)
        self.classifier = nn.Linear(CHANNELS[-1], outputs)
        for name, parameter in self.convolutions.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter, a=0.1)
            else:
                nn.init.zeros_(parameter)

    def features(
        self, picture: Float[Tensor, "batch channels bands time"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch 128"]:
        """One vector per picture: convolutions, then the mean over bands and over steps of `mask` (None: all)."""
        for number, convolution in enumerate(self.convolutions):
            norm: nn.BatchNorm2d = self.norms[number]  # type: ignore[assignment]
            if mask is not None:
                picture = picture * mask[:, None, None, :]
                mask = mask[:, ::2]
            picture = torch.relu(convolution(picture))
            # One value per channel has no deviation: a single short clip is scaled by the statistics so far.
            alone = picture.shape[0] * picture.shape[2] * picture.shape[3] == 1
            picture = with_statistics(norm, picture) if alone else norm(picture)
        if mask is None:
            return picture.mean(dim=(2, 3))
        weight = mask[:, None, :].to(picture.dtype)
        return (picture.mean(dim=2) * weight).sum(dim=2) / weight.sum(dim=2).clamp(min=1.0)

    def forward(
        self, picture: Float[Tensor, "batch channels bands time"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> tuple[Float[Tensor, "batch outputs"], Float[Tensor, "batch 128"]]:
        features = self.features(picture, mask)
        return self.classifier(torch.relu(features)), features


def with_statistics(norm: nn.BatchNorm2d, picture: Tensor) -> Tensor:
    """Batch normalisation as in evaluation. picture [batch, channels, height, width], whose shape stays."""
    return functional.batch_norm(
        picture, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )


class DescriptorNetwork(nn.Module):
    """A learned first step, positions, three post-norm Transformer layers; the first step is read.

    reference   positions with time and feature swapped, which depend on the longest row of the batch
    """

    def __init__(self, width: int, heads: int, inner: int, layers: int, outputs: int, reference: bool = False):
        super().__init__()
        self.reference = reference
        self.cls = nn.Parameter(torch.randn(1, width))
        layer = nn.TransformerEncoderLayer(width, heads, inner, dropout=0.1, activation="relu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.classifier = nn.Linear(width, outputs)

    def forward(
        self, values: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch outputs"], Float[Tensor, "batch steps width"]]:
        values = torch.cat([self.cls.to(values.dtype).expand(len(values), 1, -1), values], dim=1)
        steps, width = values.shape[1:]
        places = swapped_positions if self.reference else sinusoids
        values = values + places(steps, width, values.device).to(values.dtype)
        hidden = torch.cat([mask.new_zeros((len(mask), 1)), ~mask], dim=1)
        states = self.encoder(values, src_key_padding_mask=hidden)
        return self.classifier(states[:, 0]), states


def swapped_positions(steps: int, width: int, device: torch.device) -> Float[Tensor, "steps width"]:
    """PE[i, j] = sin(j w) for even i, cos(j w) for odd i, with w = 10000^(-2 floor(i / 2) / C).

    i is time and j the feature, as in the original; C are the steps rounded up to an even number.
    """
    even = steps + steps % 2
    time = torch.arange(steps, device=device)
    rates = torch.exp(-math.log(10000.0) * 2 * torch.div(time, 2, rounding_mode="floor") / even)
    angles = rates[:, None] * torch.arange(width, device=device)
    return torch.where((time % 2 == 0)[:, None], angles.sin(), angles.cos())


def pad_to_multiple(values: Float[Tensor, "batch time width"], heads: int) -> Float[Tensor, "batch time padded"]:
    """Zero columns until the heads divide the width."""
    return functional.pad(values, (0, -values.shape[2] % heads))
