"""The one surface of every self-supervised representation: the same word matrix in, one vector per utterance out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError, nearest
from demeanor.data.settings import Settings
from demeanor.data.task import Task

#: name -> "module:class". A new representation is one file in this folder and one line here.
REPRESENTATIONS: dict[str, str] = {
    "conv_autoencoder": "demeanor.representations.conv_autoencoder:ConvAutoencoder",
    "masked_transformer": "demeanor.representations.masked_transformer:MaskedTransformer",
    "principal_components": "demeanor.representations.principal_components:PrincipalComponents",
}

#: A bundle must say what it predicts; a representation predicts its own input and knows no label.
RECONSTRUCTION = Task(name="reconstruction", kind="regression", column="representation", low=0.0, high=1.0)


class Layout(Settings):
    """Where each modality stands in a word matrix: `steps` rows, `blocks` modality -> (first, last + 1) column."""

    steps: int = 20
    blocks: dict[str, tuple[int, int]]

    @property
    def width(self) -> int:
        """Columns of the word matrix."""
        return max(end for _, end in self.blocks.values())

    @property
    def modalities(self) -> tuple[str, ...]:
        """In order of their columns."""
        return tuple(sorted(self.blocks, key=lambda name: self.blocks[name][0]))

    def describe(self) -> str:
        """Which columns belong to which modality, for people."""
        return ", ".join(f"{name} {self.blocks[name][0]}:{self.blocks[name][1]}" for name in self.modalities)


@dataclass(frozen=True)
class RepresentationCard:
    """What a reader is told of a representation."""

    title: str
    paper: str
    status: str = "stable"


class RepresentationModel(nn.Module):
    """Base of all representations of a word matrix [steps, features].

    Every method takes `matrix` [B, steps, F], normalised, and `mask`: True on what was observed, either per step
    [B, steps] or per step and modality [B, steps, M] in the order of `layout.modalities`. What is not observed never
    enters a loss, and other rows of a batch never change a row's embedding.
    """

    card: ClassVar[RepresentationCard]
    Settings: ClassVar[type[Settings]]
    #: True where `solve` finds the parameters at once and there are no epochs.
    closed_form: ClassVar[bool] = False

    def __init__(self, settings: Any, layout: Layout):
        super().__init__()
        self.settings = settings
        self.layout = layout

    @property
    def dimension(self) -> int:
        """R, the length of an embedding."""
        raise NotImplementedError

    def embed(self, matrix: Float[Tensor, "batch steps features"], mask: Bool[Tensor, "batch steps ..."]) -> Tensor:
        """[B, R]; rows without any observed step give a vector too, which the caller discards."""
        raise NotImplementedError

    def loss(
        self, matrix: Float[Tensor, "batch steps features"], mask: Bool[Tensor, "batch steps ..."]
    ) -> dict[str, Tensor]:
        """Terms by name: "total" is minimised; "reconstruction.<modality>" is the mean squared error of its columns.

        Each a scalar [].
        """
        raise NotImplementedError

    def solve(self, matrix: Float[Tensor, "batch steps features"], mask: Bool[Tensor, "batch steps ..."]) -> None:
        """Set the parameters from the whole train split; only where `closed_form`."""
        raise NotImplementedError

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for the optimiser: biases and normalisation weights are not decayed."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1], "lr": learning_rate, "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
        ]

    def cells(self, matrix: Tensor, mask: Tensor) -> Bool[Tensor, "batch steps features"]:
        """The mask laid out per cell; a matrix or mask of another shape than the layout is an error.

        matrix [batch, steps, features]; mask [batch, steps] or [batch, steps, blocks].
        """
        return expand_mask(self.layout, tuple(matrix.shape), mask)


def expand_mask(layout: Layout, shape: tuple[int, ...], mask: Tensor) -> Bool[Tensor, "batch steps features"]:
    """Per-step [B, steps] or per-modality [B, steps, M] mask -> per cell [B, steps, F], without a copy if it can.
    InputError for a mask of another shape."""
    problems = []
    if len(shape) != 3 or shape[1:] != (layout.steps, layout.width):
        problems.append(
            f"the model reads [batch, {layout.steps} steps, {layout.width} features] ({layout.describe()}), "
            f"found {list(shape)}"
        )
    modalities = layout.modalities
    if tuple(mask.shape) not in (shape[:2], (*shape[:2], len(modalities))):
        problems.append(f"mask {list(mask.shape)} fits neither [batch, steps] nor [batch, steps, {len(modalities)}]")
    if problems:
        raise InputError("word matrix", problems, "Build it with the bundle's own settings (word_matrix).")
    if mask.ndim == 2:
        return mask.unsqueeze(-1).expand(shape)
    parts = [
        mask[..., n : n + 1].expand(-1, -1, layout.blocks[name][1] - layout.blocks[name][0])
        for n, name in enumerate(modalities)
    ]
    return torch.cat(parts, dim=-1)


def reconstruction_terms(
    layout: Layout, reconstruction: Tensor, matrix: Tensor, cells: Bool[Tensor, "batch steps features"] | None
) -> dict[str, Tensor]:
    """Mean squared error over the observed cells, in all and per modality; `cells` None means every cell.

    reconstruction and matrix [batch, steps, features]; terms are scalars.
    """
    error = (reconstruction - matrix).square()
    if cells is None:
        terms = {"total": error.mean()}
        weight = None
    else:
        weight = cells.to(error.dtype)
        error = error * weight
        terms = {"total": error.sum() / weight.sum().clamp(min=1.0)}
    for name, (start, end) in layout.blocks.items():
        part = error[..., start:end].detach()
        count = part.numel() if weight is None else weight[..., start:end].sum().clamp(min=1.0)
        terms[f"reconstruction.{name}"] = part.sum() / count
    return terms


def layout_of(bundle: Bundle) -> Layout:
    """The columns that a representation's bundle reads. InputError for the bundle of anything else.

    `card.settings` of a representation holds `model`, `word_matrix`, `layout` and `normaliser`; its tensors are
    `model.<name>` weights, `reducer.<modality>.mean|components` and `normaliser.<corpus>.low|high|fill` [F].
    """
    if bundle.card.kind != "embeds":
        raise InputError(
            f"bundle '{bundle.card.branch}'",
            [f"holds the system '{bundle.card.system}', not a representation"],
            f"Give the bundle of one of: {', '.join(REPRESENTATIONS)}.",
        )
    absent = [f"settings.{name} is missing" for name in ("model", "word_matrix", "layout")
              if name not in bundle.card.settings]  # fmt: skip
    if absent:
        raise InputError(f"bundle '{bundle.card.branch}'", absent, "It was written by another version.")
    return Layout(**bundle.card.settings["layout"])


def find_representation(name: str) -> type[RepresentationModel]:
    """The class of a registered representation; an unknown name is an InputError with the nearest one."""
    if name not in REPRESENTATIONS:
        raise InputError("representation", [f"there is no '{name}'.{nearest(name, REPRESENTATIONS)}"])
    module, class_name = REPRESENTATIONS[name].split(":")
    return getattr(importlib.import_module(module), class_name)


def build_representation(name: str, settings: Mapping[str, Any] | Settings, layout: Layout) -> RepresentationModel:
    """A representation from its name and settings (a mapping is validated)."""
    kind = find_representation(name)
    typed = settings if isinstance(settings, kind.Settings) else kind.Settings(**dict(settings))
    return kind(typed, layout)
