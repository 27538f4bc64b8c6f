"""MMIM: hierarchical mutual information maximisation. Han et al. 2021, https://arxiv.org/abs/2109.00412."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, masked_mean, task_loss
from demeanor.models.blocks.encoded_text import MODALITIES, ROLES, EncodedSettings, EncodedSystem
from demeanor.models.blocks.layers import LastState, MissingModalityEmbedding, zero_padding
from demeanor.models.published import mmsa

#: The text predicts each other modality (section 3.3).
PAIRS = ("audio", "vision")


class MMIMSettings(EncodedSettings):
    """Sizes and the weights of the two bounds."""

    audio_hidden: int = Field(default=16, gt=0)
    vision_hidden: int = Field(default=16, gt=0)
    fusion_hidden: int = Field(default=128, gt=0)
    estimator_hidden: int = Field(default=64, gt=0, description="of the networks that estimate the bounds")
    dropout: float = Field(default=0.1, ge=0, lt=1)
    contrast_weight: float = Field(default=0.1, ge=0, description="alpha: of the fusion level")
    bound_weight: float = Field(default=0.1, ge=0, description="beta: of the input level")


class Likelihood(nn.Module):
    """q(y | x): a Gaussian with a diagonal covariance whose mean and log-variance are small networks of x."""

    def __init__(self, width: int, hidden: int, output: int):
        super().__init__()
        self.mean, self.variance = (
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, output)) for _ in range(2)
        )

    def forward(self, given: Float[Tensor, "rows x"], wanted: Float[Tensor, "rows y"]) -> Float[Tensor, " rows"]:
        """Log-likelihood per row without its constant; the log-variance is bounded, so that it cannot run away."""
        spread = 4.0 * (self.variance(given) / 4.0).tanh()
        return -0.5 * ((self.mean(given) - wanted).square() / spread.exp() + spread).mean(dim=1)


def entropy(values: Float[Tensor, "rows y"]) -> Tensor:
    """Of one Gaussian fitted to the rows, per dimension; the ridge keeps few rows from an infinite negative one.

    A scalar [], in nats.
    """
    centred = values - values.mean(dim=0, keepdim=True)
    width = values.shape[1]
    covariance = centred.T @ centred / max(len(values) - 1, 1)
    ridge = torch.eye(width, device=values.device, dtype=values.dtype) * 0.1
    return 0.5 * torch.linalg.slogdet(covariance + ridge).logabsdet / width


class MMIM(EncodedSystem):
    """Task loss + alpha * contrast between the fusion and each modality - beta * lower bounds between the modalities.

    The original alternates: one pass over the data fits q, the next one the rest. Here both happen in one step, q on
    representations without gradient and the bound with q's weights held still, which has the same fixed points. The
    entropy comes from the batch's positive and negative rows (section 3.3); the original also keeps those of the
    last batches.
    """

    card = Card("MMIM", "https://arxiv.org/abs/2109.00412", ROLES, tasks=("regression",))
    Settings = MMIMSettings

    def __init__(self, settings: MMIMSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        sizes = {"text": self.widths["text"], "audio": settings.audio_hidden, "vision": settings.vision_hidden}
        self.sequences = nn.ModuleDict({name: LastState(self.widths[name], sizes[name]) for name in PAIRS})
        self.absences = nn.ModuleDict({name: MissingModalityEmbedding(size) for name, size in sizes.items()})
        hidden = settings.estimator_hidden
        self.estimators = nn.ModuleDict({name: Likelihood(sizes["text"], hidden, sizes[name]) for name in PAIRS})
        fused = settings.fusion_hidden
        self.fusion = nn.Sequential(
            nn.Dropout(settings.dropout), nn.Linear(sum(sizes.values()), fused), nn.Tanh(), nn.Linear(fused, fused),
            nn.Tanh(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(fused, fused), nn.Tanh(), nn.Linear(fused, 1))
        self.backward_maps = nn.ModuleDict({name: nn.Linear(fused, size) for name, size in sizes.items()})

    @classmethod
    def tiny(cls) -> MMIMSettings:
        """Settings for tests."""
        return MMIMSettings(audio_hidden=4, vision_hidden=4, fusion_hidden=8, estimator_hidden=6)

    def forward(self, batch: Batch) -> Output:
        text = self.text_states(batch)
        pooled = text.values[:, 0] if self.encoder.tokens else masked_mean(text.values, text.mask)
        states = {"text": self.absences["text"](pooled, text.present)}
        for name in PAIRS:
            stream = zero_padding(batch[name])
            states[name] = self.absences[name](self.sequences[name](stream), stream.present)
        fused = self.fusion(torch.cat([states[name] for name in MODALITIES], dim=1))
        back = {f"back_{name}": self.backward_maps[name](fused) for name in MODALITIES}
        likely = {
            f"likelihood_{name}": self.estimators[name](states["text"].detach(), states[name].detach())
            for name in PAIRS
        }
        return Output(self.head(fused), {**states, **back, **likely}, representation=fused)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        parts = {name: value.float() for name, value in output.auxiliary.items()}
        present = {name: batch[name].present for name in MODALITIES}
        contrast = torch.stack([contrastive(parts[f"back_{n}"], parts[n], present[n]) for n in MODALITIES]).sum()
        fits, bounds = [], []
        for name in PAIRS:
            both = present["text"] & present[name]
            fits.append(-average(parts[f"likelihood_{name}"], both))
            bounds.append(self.bound(name, parts["text"][both], parts[name][both], batch.target[both]))
        terms = {
            "task": task_loss(self.task, output.prediction, batch.target),
            "contrast": contrast,
            "bound": torch.stack(bounds).sum(),
            "estimation": torch.stack(fits).sum(),
        }
        total = terms["task"] + self.settings.contrast_weight * contrast + terms["estimation"]
        return {"total": total - self.settings.bound_weight * terms["bound"], **terms}

    def bound(self, name: str, text: Tensor, other: Tensor, target: Tensor) -> Tensor:
        """I(text; other) >= E[log q(other | text)] + H(other) (equation 3), the estimator's weights held still."""
        if not len(text):
            return (text.sum() + other.sum()) * 0.0
        still = {key: value.detach() for key, value in self.estimators[name].named_parameters()}
        likely = functional_call(self.estimators[name], still, (text, other)).mean()
        halves = [entropy(other[rows]) for rows in (target > 0, target < 0) if int(rows.sum()) > 1]
        return likely + (torch.stack(halves).mean() if halves else 0.0)


def contrastive(
    back: Float[Tensor, "batch size"], states: Float[Tensor, "batch size"], present: Bool[Tensor, " batch"]
) -> Tensor:
    """Noise-contrastive loss: what the fusion says of a modality must fit its own row best (equations 9 and 10).

    Divided by the logarithm of the number of rows, so that chance is 1 in every batch.

    A scalar [].
    """
    rows = int(present.sum())
    if rows < 2:
        return (back.sum() + states.sum()) * 0.0
    scores = functional.normalize(states[present], dim=1) @ functional.normalize(back[present], dim=1).T
    return functional.cross_entropy(scores, torch.arange(rows, device=scores.device)) / math.log(rows)


def average(values: Float[Tensor, " batch"], chosen: Bool[Tensor, " batch"]) -> Tensor:
    """Mean of the chosen rows, a scalar []; zero of none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


PUBLISHED = {
    "mmim": mmsa(
        {
            "encoder_learning_rate": 5e-05, "audio_hidden": 16, "vision_hidden": 16, "fusion_hidden": 128,
            "dropout": 0.1, "contrast_weight": 0.1, "bound_weight": 0.1,
        },
        training={
            "clip_norm": 1.0, "schedule": "plateau", "plateau_patience": 20, "batch_size": 32,
            "gradient_accumulation": 2, "learning_rate": 0.001, "weight_decay": 0.0001,
        },
        fine_tunes=True,
        mosi={},
        mosei={},
        sims={},
    ),
}  # fmt: skip
