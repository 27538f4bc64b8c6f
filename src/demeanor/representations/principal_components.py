"""Principal components of the flattened word matrix: the floor that every learnt representation has to beat."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from demeanor.data.settings import Settings
from demeanor.representations.base import Layout, RepresentationCard, RepresentationModel, reconstruction_terms

EXACT_UP_TO = 1500


class PrincipalComponentsSettings(Settings):
    """How many components."""

    components: int = Field(default=70, ge=1, description="R; components beyond the rank of the train split are zero")


class PrincipalComponents(RepresentationModel):
    """z = C (x - m), C the leading right singular vectors of the centred train matrices [N, steps * F].

    What was not observed counts as the column's mean and so adds nothing.
    """

    card = RepresentationCard("Principal components", "Pearson 1901; exact, or Halko et al. 2011 (arXiv 0909.4061)")
    Settings = PrincipalComponentsSettings
    closed_form = True
    mean: Tensor
    components: Tensor

    def __init__(self, settings: PrincipalComponentsSettings, layout: Layout):
        super().__init__(settings, layout)
        size = layout.steps * layout.width
        self.register_buffer("mean", torch.zeros(layout.steps, layout.width))
        self.register_buffer("components", torch.zeros(settings.components, size))

    @property
    def dimension(self) -> int:
        return self.settings.components

    def solve(self, matrix: Float[Tensor, "batch steps features"], mask: Bool[Tensor, "batch steps ..."]) -> None:
        cells = self.cells(matrix, mask)
        count = cells.sum(dim=0).clamp(min=1)
        self.mean = (matrix * cells).sum(dim=0) / count
        centred = ((matrix - self.mean) * cells).flatten(1)
        wanted = min(self.settings.components, *centred.shape)
        if min(centred.shape) <= EXACT_UP_TO:
            axes = torch.linalg.svd(centred, full_matrices=False).Vh[:wanted]
        else:
            axes = torch.svd_lowrank(centred, q=min(wanted + 10, *centred.shape), niter=6)[2].T[:wanted]
        largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
        self.components = torch.zeros_like(self.components)
        self.components[:wanted] = axes * largest.sign()

    def embed(self, matrix: Float[Tensor, "batch steps features"], mask: Bool[Tensor, "batch steps ..."]) -> Tensor:
        centred = (matrix - self.mean) * self.cells(matrix, mask)
        return centred.flatten(1) @ self.components.T

    def loss(
        self, matrix: Float[Tensor, "batch steps features"], mask: Bool[Tensor, "batch steps ..."]
    ) -> dict[str, Tensor]:
        reconstruction = (self.embed(matrix, mask) @ self.components).view_as(matrix) + self.mean
        return reconstruction_terms(self.layout, reconstruction, matrix, self.cells(matrix, mask))
