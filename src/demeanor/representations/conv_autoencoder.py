"""Convolutional autoencoder of utterances (Koromilas and Giannakopoulos 2021, https://arxiv.org/abs/2110.03007).

An utterance is a one-channel image of 20 words x F features. Four blocks of convolution, batch norm, GELU and 2x2
max pooling squeeze it into a small map, whose flattening is the embedding; four transposed convolutions with the
poolings' switches paint the image again (docs/systems/conv_autoencoder.md#network). The names of parameters are those
of the released checkpoints, so that a `state_dict` travels both ways.

Where the reference's behaviour is a slip, ours is the default and the reference's a setting
(docs/systems/conv_autoencoder.md#q4, #q7).

With switches a decoder can paint much of the image from where the maxima were, past the latent, which then need not say
much. `pooling: mean` closes that way: on the demo corpus the reconstruction is worse (validation error .042 instead of
.026) and the embedding better (correlation of a linear probe with sentiment .57 instead of .08).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.kernels.batch_norm_gelu import normalise
from demeanor.kernels.conv import convolve, lay_out, pool_pairs, unpool_pairs
from demeanor.representations.base import Layout, RepresentationCard, RepresentationModel, reconstruction_terms

KERNELS = (3, 3, 5, 5)
PADDING = 2


class ConvAutoencoderSettings(Settings):
    """The released architecture has 32 and 10 channels; 16 suffice for small corpora and train four times as fast."""

    channels: int = Field(
        default=16, ge=1, description="of the first block, the next have two and four times as many; released: 32"
    )
    representation_channels: int = Field(default=10, ge=1)
    initialisation: Literal["recommended", "reference"] = Field(
        default="recommended",
        description="reference: weights ~ N(0, 0.02), batch norm scale ~ N(0, 0.02) too, which lets encoders collapse",
    )
    masked: bool = Field(
        default=True, description="false: padding enters batch statistics and the loss, as in the reference"
    )
    pooling: Literal["switches", "mean"] = Field(
        default="switches",
        description="switches: maxima, and the decoder is told where each was, as in the paper; mean: nothing is told",
    )
    decay_all: bool = Field(
        default=False, description="true: weight decay on biases and batch norm too, as in the reference"
    )


def _block(convolution: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(channels))


def run_block(block: nn.Sequential, values: Tensor, positions: Int[Tensor, " observed"] | None) -> Tensor:
    """Convolution, batch norm, GELU. With `places` (see Places) the rest of the map is zero and enters no statistic.

    values [batch, inputs, height, width] to [batch, outputs, height, width].
    """
    layer, norm = block[0], block[1]
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return normalise(norm, convolve(layer, values), positions)


class Encoder(nn.Module):
    """[B, 1, H, W] -> the pooled map [B, r, h, w], the four switches (None: means) and the shapes before pooling."""

    def __init__(self, channels: int, representation_channels: int, switches: bool = True):
        super().__init__()
        self.switches = switches
        c, r = channels, representation_channels
        self.conv1 = _block(nn.Conv2d(1, c, KERNELS[0], padding=PADDING), c)
        self.conv2 = _block(nn.Conv2d(c, 2 * c, KERNELS[1], padding=PADDING), 2 * c)
        self.conv3 = _block(nn.Conv2d(2 * c, 4 * c, KERNELS[2], padding=PADDING), 4 * c)
        # No normalisation and no activation after the last convolution: the embedding is linear in its features.
        self.conv4 = nn.Conv2d(4 * c, r, KERNELS[3], padding=PADDING)

    def forward(self, image: Tensor, positions: Places) -> tuple[Tensor, list[Tensor | None], list[torch.Size]]:
        """The latent map [batch, channels, height, width] of an image [batch, 1, steps, features].

        Beside it, from the first pooling to the last, which entry of each pair was taken (None without switches), and
        the shapes before pooling.
        """
        switches: list[Tensor | None] = []
        shapes, values = [], image
        for block, observed in zip((self.conv1, self.conv2, self.conv3), positions.encoder, strict=True):
            values = run_block(block, values, observed)
            shapes.append(values.shape)
            values, switch = self.pooled(values)
            switches.append(switch)
        values = self.conv4(values)
        shapes.append(values.shape)
        values, switch = self.pooled(values)
        return values, [*switches, switch], shapes

    def pooled(self, values: Float[Tensor, "batch channels height width"]) -> tuple[Tensor, Tensor | None]:
        """Half the height and width, and which entries were taken [batch, channels, height / 2, width / 2], or None."""
        return pool_pairs(values) if self.switches else (functional.avg_pool2d(values, 2), None)


class Decoder(nn.Module):
    """The way back: unpool with the encoder's switches (without them: repeat), then a transposed convolution, four
    times."""

    def __init__(self, channels: int, representation_channels: int):
        super().__init__()
        c, r = channels, representation_channels
        self.unconv1 = _block(nn.ConvTranspose2d(r, 4 * c, KERNELS[3], padding=PADDING), 4 * c)
        self.unconv2 = _block(nn.ConvTranspose2d(4 * c, 2 * c, KERNELS[2], padding=PADDING), 2 * c)
        self.unconv3 = _block(nn.ConvTranspose2d(2 * c, c, KERNELS[1], padding=PADDING), c)
        self.unconv4 = nn.ConvTranspose2d(c, 1, KERNELS[0], padding=PADDING)

    def forward(
        self, values: Tensor, switches: list[Tensor | None], shapes: list[torch.Size], positions: Places
    ) -> Tensor:
        """The image [batch, 1, steps, features] from the latent map [batch, channels, height, width], back through
        `shapes`."""
        for n, block in enumerate((self.unconv1, self.unconv2, self.unconv3)):
            values = unpooled(values, switches[3 - n], shapes[3 - n])
            values = run_block(block, values, positions.decoder[n])
        return self.unconv4(unpooled(values, switches[0], shapes[0]))


def unpooled(
    values: Float[Tensor, "batch channels height width"], switch: Tensor | None, shape: torch.Size
) -> Float[Tensor, "batch channels taller wider"]:
    """Each value where its maximum was, zeros around it; without switches repeated over its cell.

    switch as of `Encoder.pooled`, one for each value [batch, channels, height, width].
    """
    if switch is not None:
        return unpool_pairs(values, switch, shape)
    return functional.interpolate(values, size=shape[-2:], mode="nearest")


class Places:
    """Which positions of each normalised map were observed: flat row numbers of [B * H * W], None where all were.

    A position of a feature map counts as observed if any cell under its kernel was.
    """

    def __init__(self, cells: Bool[Tensor, "batch height width"] | None):
        self.encoder: list[Tensor | None] = [None] * 3
        self.decoder: list[Tensor | None] = [None] * 3
        if cells is None:
            return
        level = cells.unsqueeze(1).float()
        for n, kernel in enumerate(KERNELS[:3]):
            grown = functional.max_pool2d(functional.pad(level, (PADDING,) * 4), kernel, stride=1)
            level = functional.max_pool2d(grown, 2)
            self.encoder[n] = _places(grown)
            # The decoder's three normalised maps are as large as the encoder's after its third, second and first
            # pooling (docs/systems/conv_autoencoder.md#network).
            self.decoder[2 - n] = _places(level)


def _places(level: Float[Tensor, "batch 1 height width"]) -> Tensor | None:
    observed = level.flatten() > 0
    return None if bool(observed.all()) else observed.nonzero()[:, 0]


class ConvAutoencoder(RepresentationModel):
    """Reads a matrix [B, steps, F]; `embed` gives the latent [B, R], channel-major (channel, height, width)."""

    card = RepresentationCard(
        "Convolutional autoencoder", "Koromilas and Giannakopoulos 2021, https://arxiv.org/abs/2110.03007"
    )
    Settings = ConvAutoencoderSettings

    def __init__(self, settings: ConvAutoencoderSettings, layout: Layout):
        super().__init__(settings, layout)
        latent_shape(layout.steps, layout.width, settings.representation_channels)
        self.encoder = Encoder(settings.channels, settings.representation_channels, settings.pooling == "switches")
        self.decoder = Decoder(settings.channels, settings.representation_channels)
        if settings.initialisation == "reference":
            self.apply(initialise_as_reference)
        lay_out(self, settings.channels)

    @property
    def dimension(self) -> int:
        channels, height, width = latent_shape(
            self.layout.steps, self.layout.width, self.settings.representation_channels
        )
        return channels * height * width

    def forward(
        self, matrix: Float[Tensor, "batch steps features"], cells: Bool[Tensor, "batch steps features"] | None = None
    ) -> tuple[Float[Tensor, "batch steps features"], Float[Tensor, "batch latent"]]:
        """Reconstruction and latent; `cells` None means that every cell was observed."""
        image = (matrix if cells is None else matrix * cells).unsqueeze(1)
        positions = Places(cells)
        values, switches, shapes = self.encoder(image, positions)
        reconstruction = self.decoder(values, switches, shapes, positions)
        return reconstruction.squeeze(1), values.flatten(1)

    def embed(self, matrix: Float[Tensor, "batch steps features"], mask: Bool[Tensor, "batch steps ..."]) -> Tensor:
        cells = self._observed(matrix, mask)
        image = (matrix if cells is None else matrix * cells).unsqueeze(1)
        return self.encoder(image, Places(cells))[0].flatten(1)

    def loss(
        self, matrix: Float[Tensor, "batch steps features"], mask: Bool[Tensor, "batch steps ..."]
    ) -> dict[str, Tensor]:
        cells = self._observed(matrix, mask)
        reconstruction, _ = self(matrix, cells)
        return reconstruction_terms(self.layout, reconstruction, matrix, cells)

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict]:
        if self.settings.decay_all:
            return [{"params": list(self.parameters()), "lr": learning_rate, "weight_decay": weight_decay}]
        return super().parameter_groups(learning_rate, weight_decay)

    def _observed(self, matrix: Tensor, mask: Tensor) -> Tensor | None:
        cells = self.cells(matrix, mask)
        return None if not self.settings.masked or bool(mask.all()) else cells


def latent_shape(steps: int, width: int, representation_channels: int) -> tuple[int, int, int]:
    """(channels, height, width) of the encoder's output (docs/systems/conv_autoencoder.md#network: 10 x 1 x 25 for 20 x
    409). InputError for a matrix too small for four poolings."""

    def shrink(size: int) -> int:
        for kernel in KERNELS:
            size = (size + 2 * PADDING - kernel + 1) // 2
        return size

    small = [
        f"{size} {name}: at least 10 are needed, four poolings leave nothing of fewer"
        for name, size in (("steps", steps), ("features", width))
        if shrink(size) < 1
    ]
    if small:
        raise InputError("convolutional autoencoder", small, "Give it more streams, or a wider one.")
    return representation_channels, shrink(steps), shrink(width)


def initialise_as_reference(module: nn.Module) -> None:
    """The reference's own start, drawn in its order (docs/systems/conv_autoencoder.md#initialisation): for parity and
    for study.

    Transposed convolutions and all biases of convolutions keep the framework's start. A batch norm scale around zero
    is what lets encoders die (docs/systems/conv_autoencoder.md#q4).
    """
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)
