"""TFR-Net: feature reconstruction against missing steps. Yuan et al. 2021, https://doi.org/10.1145/3474085.3475585."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, task_loss
from demeanor.models.blocks.crossmodal import CrossmodalEncoder
from demeanor.models.blocks.encoded_text import MODALITIES, ROLES, EncodedSettings, EncodedSystem
from demeanor.models.blocks.layers import AbsentStep, zero_padding
from demeanor.models.published import mmsa
from demeanor.models.tetfn import greatest


class TFRNetSettings(EncodedSettings):
    """Sizes, the share of steps hidden in training, and the weight of their reconstruction."""

    dimension: int = Field(default=32, gt=0)
    heads: int = Field(default=4, gt=0)
    levels: int = Field(default=2, gt=0, description="layers of each transformer")
    missing: float = Field(default=0.2, ge=0, lt=1, description="share of real steps hidden while training")
    reconstruction_weight: float = Field(default=0.3, ge=0)
    kernel: int = Field(default=3, gt=0, description="of the gated convolutions")
    dropout: float = Field(default=0.1, ge=0, lt=1)


class GatedConvolution(nn.Module):
    """tanh(conv) * sigmoid(conv) over time, then the maximum over real steps (the CNN gate of section 3.4)."""

    def __init__(self, width: int, dimension: int, kernel: int):
        super().__init__()
        self.value, self.gate = (nn.Conv1d(width, dimension, kernel, padding="same") for _ in range(2))

    def forward(self, padded: Padded) -> Tensor:
        """[batch, outputs]: the greatest over the real steps of [batch, time, inputs]."""
        values = padded.values.transpose(1, 2)
        gated = self.value(values).tanh() * self.gate(values).sigmoid()
        return greatest(Padded(gated.transpose(1, 2), padded.mask))


class TFRNet(EncodedSystem):
    """While training, random steps of every modality are hidden; attention within and between the modalities rebuilds
    them, and the rebuilt sequences decide.

    Steps are hidden behind the text encoder instead of in its tokens, and what is rebuilt are its states: one
    procedure for frozen and for fine-tuned text.
    """

    card = Card("TFR-Net", "https://doi.org/10.1145/3474085.3475585", ROLES)
    Settings = TFRNetSettings

    def __init__(self, settings: TFRNetSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        dimension = settings.dimension
        self.project = nn.ModuleDict({name: nn.Linear(width, dimension) for name, width in self.widths.items()})
        self.hidden = nn.ParameterDict({name: nn.Parameter(torch.zeros(dimension)) for name in MODALITIES})
        self.absence = nn.ModuleDict({name: AbsentStep(dimension) for name in MODALITIES})
        self.attention = nn.ModuleDict(
            {f"{name}_from_{other}": self.stack() for name in MODALITIES for other in MODALITIES}
        )
        self.merge = nn.ModuleDict({name: nn.Linear(3 * dimension, dimension) for name in MODALITIES})
        self.rebuild = nn.ModuleDict({name: nn.Linear(dimension, width) for name, width in self.widths.items()})
        self.gates = nn.ModuleDict(
            {name: GatedConvolution(dimension, dimension, settings.kernel) for name in MODALITIES}
        )
        self.head = nn.Sequential(
            nn.Dropout(settings.dropout), nn.Linear(3 * dimension, dimension), nn.ReLU(),
            nn.Linear(dimension, task.outputs),
        )  # fmt: skip

    def stack(self) -> CrossmodalEncoder:
        """A transformer of the model's width, with positions."""
        settings, chance = self.settings, self.settings.dropout
        return CrossmodalEncoder(
            settings.dimension, settings.heads, settings.levels, chance, chance, chance, chance, positions=True
        )

    @classmethod
    def tiny(cls) -> TFRNetSettings:
        """Settings for tests."""
        return TFRNetSettings(dimension=6, heads=2, levels=1, missing=0.4)

    def forward(self, batch: Batch) -> Output:
        streams = {"text": self.text_states(batch)} | {name: zero_padding(batch[name]) for name in ("audio", "vision")}
        steps, dropped = {}, {}
        for name, stream in streams.items():
            chance = self.settings.missing if self.training else 0.0
            dropped[name] = (torch.rand(stream.mask.shape, device=stream.mask.device) < chance) & stream.mask
            values = self.project[name](stream.values)
            values = torch.where(dropped[name].unsqueeze(-1), self.hidden[name].to(values.dtype), values)
            steps[name] = self.absence[name](Padded(values, stream.mask))
        auxiliary, pooled = {}, []
        for name in MODALITIES:
            seen = [self.attention[f"{name}_from_{other}"](steps[name], steps[other]).values for other in MODALITIES]
            rebuilt = zero_padding(Padded(self.merge[name](torch.cat(seen, dim=2)), steps[name].mask))
            pooled.append(self.gates[name](rebuilt))
            auxiliary[f"reconstruction_{name}"] = self.reconstruction(
                self.rebuild[name](rebuilt.values), streams[name].values, dropped[name]
            )
        fused = torch.cat(pooled, dim=1)
        return Output(self.head(fused), auxiliary, representation=fused)

    @staticmethod
    def reconstruction(found: Tensor, original: Tensor, dropped: Tensor) -> Tensor:
        """Smooth absolute error on the hidden steps alone; zero where none is hidden.

        found and original [batch, time, dimension], dropped [batch, time]; a scalar.
        """
        error = functional.smooth_l1_loss(found, original.detach(), reduction="none").mean(dim=2)
        return (error * dropped).sum() / dropped.sum().clamp(min=1)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        terms = {"task": task_loss(self.task, output.prediction, batch.target)}
        rebuilt = torch.stack([output.auxiliary[f"reconstruction_{name}"] for name in MODALITIES]).sum()
        terms["reconstruction"] = rebuilt
        return {"total": terms["task"] + self.settings.reconstruction_weight * rebuilt, **terms}


# Its gates and losses are the paper's, whose sizes go by other names than MMSA's: those that have a counterpart.
PUBLISHED = {
    "tfr_net": mmsa(
        {"dimension": 30, "heads": 6, "missing": 0.2, "dropout": 0.2},
        training={
            "patience": 6, "schedule": "plateau", "gradient_accumulation": 4, "weight_decay": 0.001, "clip_value": 0.8,
        },
        fine_tunes=True,
        mosi={
            "model": {"encoder_learning_rate": 2e-06, "levels": 3},
            "training": {"plateau_patience": 5, "batch_size": 24, "learning_rate": 0.001},
        },
        mosei={
            "model": {"encoder_learning_rate": 1e-05, "levels": 3},
            "training": {"plateau_patience": 5, "batch_size": 24, "learning_rate": 0.002},
        },
        sims={
            "model": {"encoder_learning_rate": 1e-05, "levels": 2},
            "training": {"plateau_patience": 10, "batch_size": 16, "learning_rate": 0.002},
        },
    ),
}  # fmt: skip
