"""The supervised baseline of the convolutional autoencoder's authors (docs/systems/conv_autoencoder.md#classifier).

Four convolutional blocks as the encoder's, then three linear layers, from a word matrix to class logits. Kept for
comparison under the reference's names of parameters; the last GELU on the logits is the reference's, and a setting.
"""

from __future__ import annotations

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.representations.conv_autoencoder import KERNELS, PADDING


class ConvolutionalClassifierSettings(Settings):
    """Sizes, and the reference's activation of the logits."""

    channels: int = Field(default=32, ge=1, description="of the first block; the next have 2, 4 and 8 times as many")
    hidden: tuple[int, int] = (1024, 256)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    activate_logits: bool = Field(default=True, description="GELU after the last layer, as the reference; false: none")


class ConvolutionalClassifier(nn.Module):
    """[B, steps, F] -> logits [B, classes]."""

    def __init__(self, settings: ConvolutionalClassifierSettings, steps: int, width: int, classes: int):
        super().__init__()
        self.settings = settings
        sizes = (1, *(settings.channels * factor for factor in (1, 2, 4, 8)))
        height, across = steps, width
        for n, kernel in enumerate(KERNELS):
            layer = nn.Conv2d(sizes[n], sizes[n + 1], kernel, padding=PADDING)
            block = nn.Sequential(layer, nn.BatchNorm2d(sizes[n + 1]), nn.GELU(), nn.MaxPool2d(2))
            setattr(self, f"conv_layer{n + 1}", block)
            height, across = ((size + 2 * PADDING - kernel + 1) // 2 for size in (height, across))
        if min(height, across) < 1:
            raise InputError("convolutional classifier", [f"a {steps} x {width} matrix is too small for four poolings"])
        first, second = settings.hidden
        # The reference computed int(steps / 16) * int(F / 16), which is the true size for 409 columns but not for all.
        flat = sizes[-1] * height * across
        self.linear_layer1 = nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(flat, first), nn.GELU())
        self.linear_layer2 = nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(first, second), nn.GELU())
        last = nn.GELU() if settings.activate_logits else nn.Identity()
        self.linear_layer3 = nn.Sequential(nn.Linear(second, classes), last)

    def forward(self, matrix: Float[Tensor, "batch steps features"]) -> Float[Tensor, "batch classes"]:
        values = matrix.unsqueeze(1)
        for n in range(len(KERNELS)):
            values = getattr(self, f"conv_layer{n + 1}")(values)
        return self.linear_layer3(self.linear_layer2(self.linear_layer1(values.flatten(1))))

    def loss(self, matrix: Tensor, classes: Tensor) -> Tensor:
        """Cross-entropy, a scalar, of matrix [batch, steps, features] and classes [batch]."""
        return functional.cross_entropy(self(matrix), classes)
