"""Does a latent still depend on its input? A low reconstruction error does not say so.

The decoder gets the poolings' switches of all levels and can paint a fair image from them alone: two of the released
encoders give the same latent for every input (docs/systems/conv_autoencoder.md#released, #q3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from demeanor.data.errors import DemeanorError
from demeanor.representations.base import RepresentationModel

#: Released encoders that work have 0.02 to 0.15, collapsed ones at most 2e-9.
LEAST_SENSITIVITY = 1e-4
ADVICE = (
    "Lower the learning rate, keep `initialisation: recommended` and `decay_all: false`, or train on more data; "
    "`on_collapse: warn` goes on all the same."
)


class CollapsedEncoderError(DemeanorError):
    """The embedding is the same whatever the input."""

    def __init__(self, sensitivity: float, where: str, advice: str = ADVICE):
        self.sensitivity, self.where, self.advice = sensitivity, where, advice
        super().__init__(
            f"{where}: the encoder has collapsed, its latent varies by {sensitivity:.1e} of its size over different "
            f"inputs (at least {LEAST_SENSITIVITY:.0e} is expected).\n{advice}"
        )

    def __reduce__(self):
        return type(self), (self.sensitivity, self.where, self.advice)


@dataclass(frozen=True)
class LatentHealth:
    """variance: mean over dimensions of the latent's variance over inputs; sensitivity: spread / size, unitless."""

    variance: float
    sensitivity: float

    @property
    def collapsed(self) -> bool:
        """Whether the latent hardly depends on the input any more; also where the sensitivity is NaN."""
        return not self.sensitivity >= LEAST_SENSITIVITY


@torch.no_grad()
def latent_health(model: RepresentationModel, matrix: Float[Tensor, "batch steps features"]) -> LatentHealth:
    """How much the embedding of up to 256 inputs varies. The masks are left out: they vary even where values do not.

    With fewer than two inputs, or inputs that are all the same, noise in [0, 1) stands in.
    """
    device = next((value.device for value in model.parameters()), matrix.device)
    sample = matrix[:256].to(device)
    if len(sample) < 2 or bool((sample == sample[:1]).all()):
        generator = torch.Generator().manual_seed(0)
        shape = (16, model.layout.steps, model.layout.width)
        sample = torch.rand(shape, generator=generator).to(device, sample.dtype)
    training = model.training
    model.eval()
    mask = torch.ones(sample.shape[:2], dtype=torch.bool, device=device)
    latent = model.embed(sample, mask).double()
    model.train(training)
    size = latent.abs().mean()
    spread = latent.std(dim=0).mean()
    return LatentHealth(float(latent.var(dim=0).mean()), float(spread / size) if float(size) > 0 else 0.0)
