"""MISA: modality-invariant and -specific representations. Hazarika et al. 2020, https://arxiv.org/abs/2005.03545."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, masked_mean, task_loss
from demeanor.models.blocks.encoded_text import MODALITIES, ROLES, TEXT_NAMES, EncodedSettings, EncodedSystem
from demeanor.models.blocks.layers import MissingModalityEmbedding, TwoWayState, zero_padding
from demeanor.models.published import mmsa

PAIRS = (("text", "audio"), ("text", "vision"), ("audio", "vision"))
ORDER = ("text", "vision", "audio")


class MISASettings(EncodedSettings):
    """Sizes and the weights of the three losses beside the task's."""

    hidden: int = Field(default=128, gt=0)
    transformer_hidden: int = Field(default=2048, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    transformer_dropout: float = Field(default=0.1, ge=0, lt=1)
    difference_weight: float = Field(default=0.3, ge=0)
    similarity_weight: float = Field(default=1.0, ge=0)
    reconstruction_weight: float = Field(default=1.0, ge=0)


class Projected(nn.Module):
    """linear -> relu -> layer normalisation; absent rows: a learned vector."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.linear, self.norm, self.absence = (
            nn.Linear(width, hidden),
            nn.LayerNorm(hidden),
            MissingModalityEmbedding(hidden),
        )

    def forward(self, values: Tensor, present: Tensor) -> Tensor:
        """values [batch, inputs], present [batch]; gives [batch, hidden]."""
        return self.absence(self.norm(functional.relu(self.linear(values))), present)


class MISA(EncodedSystem):
    """Each modality once in a private and once in the shared space; six tokens through one transformer layer.

    The original reads as many audio and vision frames as the text has tokens, aligned or not; by default every
    modality is read to its own end. Its discriminator and text normalisation reach no loss and are left out.
    """

    card = Card("MISA", "https://arxiv.org/abs/2005.03545", ROLES)
    Settings = MISASettings

    def __init__(self, settings: MISASettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        hidden = settings.hidden
        self.sequences = nn.ModuleDict(
            {name: TwoWayState(self.widths[name], self.widths[name]) for name in ("audio", "vision")}
        )
        wide = {name: self.widths[name] * (1 if name == "text" else 4) for name in MODALITIES}
        self.projections = nn.ModuleDict({name: Projected(width, hidden) for name, width in wide.items()})
        self.private = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in MODALITIES})
        self.shared = nn.Linear(hidden, hidden)
        self.reconstruct = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in MODALITIES})
        self.transformer = nn.TransformerEncoderLayer(
            hidden, 2, settings.transformer_hidden, settings.transformer_dropout, batch_first=True
        )
        self.first, self.head = nn.Linear(6 * hidden, 3 * hidden), nn.Linear(3 * hidden, task.outputs)

    @classmethod
    def tiny(cls) -> MISASettings:
        """Settings for tests."""
        return MISASettings(hidden=6, transformer_hidden=8)

    def originals(self, batch: Batch) -> dict[str, Tensor]:
        """The three utterance vectors before they are split in two. Each [batch, hidden]."""
        text = zero_padding(Padded(*self.encoder(batch["text"])))
        projected = {"text": self.projections["text"](masked_mean(text.values, text.mask), text.present)}
        for name in ("audio", "vision"):
            stream = zero_padding(batch[name])
            if self.settings.reference:
                steps = torch.arange(stream.mask.shape[1], device=text.mask.device)
                stream = Padded(stream.values, steps < text.lengths.unsqueeze(1))
            projected[name] = self.projections[name](self.sequences[name](stream), stream.present)
        return projected

    def forward(self, batch: Batch) -> Output:
        original = self.originals(batch)
        private = {name: self.private[name](value).sigmoid() for name, value in original.items()}
        shared = {name: self.shared(value).sigmoid() for name, value in original.items()}
        rebuilt = {name: self.reconstruct[name](private[name] + shared[name]) for name in MODALITIES}
        tokens = torch.stack([*(private[name] for name in ORDER), *(shared[name] for name in ORDER)], dim=1)
        fused = self.transformer(tokens).flatten(1)
        hidden = functional.relu(functional.dropout(self.first(fused), self.settings.dropout, self.training))
        groups = {"original": original, "private": private, "shared": shared, "rebuilt": rebuilt}
        auxiliary = {f"{kind}_{name}": value for kind, values in groups.items() for name, value in values.items()}
        return Output(self.head(hidden), auxiliary, representation=fused)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Task (squared error for a regression) + orthogonality + similarity + reconstruction (sections 3.4 to 3.6).

        A modality's terms take the rows that have it; the original knows no absence.
        """
        settings, found = self.settings, output.auxiliary
        always = torch.ones_like(batch.rows, dtype=torch.bool)
        rows = {name: always if settings.reference else batch[name].present for name in MODALITIES}

        def parts(kind: str, name: str, *others: str) -> Tensor:
            chosen = rows[name]
            for other in others:
                chosen = chosen & rows[other]
            return found[f"{kind}_{name}"][chosen]

        apart = [orthogonality(parts("private", name), parts("shared", name)) for name in MODALITIES]
        apart += [orthogonality(parts("private", a, b), parts("private", b, a)) for a, b in PAIRS]
        alike = [moment_discrepancy(parts("shared", a, b), parts("shared", b, a)) for a, b in PAIRS]
        rebuilt = [squared(parts("rebuilt", name), parts("original", name)) for name in MODALITIES]
        terms = {
            "task": self.task_term(output.prediction, batch.target),
            "difference": torch.stack(apart).sum(),
            "similarity": torch.stack(alike).mean(),
            "reconstruction": torch.stack(rebuilt).mean(),
        }
        total = terms["task"] + sum(
            getattr(settings, f"{name}_weight") * terms[name] for name in ("difference", "similarity", "reconstruction")
        )
        return {"total": total, **terms}

    def task_term(self, prediction: Tensor, target: Tensor) -> Tensor:
        """A scalar [] of prediction [batch, outputs] and target [batch]: squared error for a regression."""
        if self.task.kind != "regression":
            return task_loss(self.task, prediction, target)
        known = ~torch.isnan(target)
        return squared(prediction[known, 0], target[known])

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """The original has one group and ignores its weight decay."""
        if self.settings.reference:
            return [{"params": list(self.parameters()), "lr": learning_rate, "weight_decay": 0.0}]
        return super().parameter_groups(learning_rate, weight_decay)


def squared(values: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error; zero, with a gradient, of no rows at all. Of two of one shape [...], a scalar."""
    return (values - wanted).square().sum() / max(values.numel(), 1)


def orthogonality(first: Float[Tensor, "rows hidden"], second: Float[Tensor, "rows hidden"]) -> Tensor:
    """Mean squared entry of first^T second, both centred over the batch and scaled to unit rows (equation 6).

    A scalar [].
    """
    if not len(first):
        return (first.sum() + second.sum()) * 0.0
    scaled = []
    for values in (first, second):
        centred = values - values.mean(dim=0, keepdim=True)
        scaled.append(centred / (centred.norm(dim=1, keepdim=True).detach() + 1e-6))
    return (scaled[0].T @ scaled[1]).square().mean()


def moment_discrepancy(first: Float[Tensor, "rows hidden"], second: Float[Tensor, "rows hidden"]) -> Tensor:
    """Central moment discrepancy up to the fifth moment, without its scaling by the interval (equation 4).

    A scalar [].
    """
    if not len(first):
        return (first.sum() + second.sum()) * 0.0
    means = [values.mean(dim=0) for values in (first, second)]
    centred = [values - mean for values, mean in zip((first, second), means, strict=True)]
    total = distance(*means)
    for order in range(2, 6):
        total = total + distance(*(values.pow(order).mean(dim=0) for values in centred))
    return total


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean; its gradient at zero is zero instead of undefined. Of two of one shape [...], a scalar."""
    return (first - second).square().sum().clamp(min=1e-20).sqrt()


_SHORT = {"t": "text", "a": "audio", "v": "vision"}
PUBLISHED_NAMES = {
    "bertmodel.": "encoder.network.",
    **TEXT_NAMES,
    **{f"{short}rnn1.": f"sequences.{_SHORT[short]}.first." for short in "av"},
    **{f"{short}rnn2.": f"sequences.{_SHORT[short]}.second." for short in "av"},
    **{f"{short}layer_norm.": f"sequences.{_SHORT[short]}.norm." for short in "av"},
    **{f"project_{short}.project_{short}.": f"projections.{name}.linear." for short, name in _SHORT.items()},
    **{f"project_{short}.project_{short}_layer_norm.": f"projections.{name}.norm." for short, name in _SHORT.items()},
    **{f"private_{short}.private_{short}_{n}.": f"private.{name}." for short, name in _SHORT.items() for n in (1, 3)},
    **{f"recon_{short}.recon_{short}_1.": f"reconstruct.{name}." for short, name in _SHORT.items()},
    "shared.shared_1.": "shared.",
    "transformer_encoder.layers.0.": "transformer.",
    "fusion.fusion_layer_1.": "first.",
    "fusion.fusion_layer_3.": "head.",
    "tlayer_norm.": "",
    "sp_discriminator.": "",
}  # fmt: skip


PUBLISHED = {
    "misa": mmsa(
        {"encoder_learning_rate": 0.0001, "hidden": 128, "transformer_dropout": 0.1},
        training={"gradient_accumulation": 2, "learning_rate": 0.0001, "weight_decay": 0.0},
        fine_tunes=True,
        names=PUBLISHED_NAMES,
        mosi={
            "model": {
                "dropout": 0.2, "difference_weight": 0.1, "similarity_weight": 0.3, "reconstruction_weight": 1.0,
            },
            "training": {"batch_size": 16, "clip_value": 0.8},
        },
        mosei={
            "model": {
                "dropout": 0.5, "difference_weight": 0.3, "similarity_weight": 0.8, "reconstruction_weight": 1.0,
            },
            "training": {"batch_size": 64, "clip_value": 0.8},
        },
        sims={
            "model": {
                "dropout": 0.0, "difference_weight": 0.3, "similarity_weight": 1.0, "reconstruction_weight": 0.8,
            },
            "training": {"batch_size": 64, "clip_value": 1.0},
        },
    ),
}  # fmt: skip
