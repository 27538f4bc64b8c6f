"""MulT: multimodal transformer for unaligned sequences. Tsai et al. 2019, https://arxiv.org/abs/1906.00295."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output
from demeanor.models.blocks.crossmodal import ENCODER_NAMES, CrossmodalEncoder, Projection
from demeanor.models.blocks.encoded_text import MODALITIES, ROLES, TEXT_NAMES, EncodedSettings, EncodedSystem
from demeanor.models.blocks.layers import AbsentStep, last_step
from demeanor.models.blocks.subnets import model_input
from demeanor.models.published import mmsa

OTHERS = {"text": ("audio", "vision"), "audio": ("text", "vision"), "vision": ("text", "audio")}


class MulTSettings(EncodedSettings):
    """Sizes: those of MMSA on MOSI, which its number of parameters (2,571,551) gives away."""

    dimension: int = Field(default=50, gt=0)
    heads: int = Field(default=10, gt=0)
    levels: int = Field(default=4, gt=0, description="crossmodal layers; memory layers are at least three")
    text_kernel: int = Field(default=5, gt=0)
    audio_kernel: int = Field(default=5, gt=0)
    vision_kernel: int = Field(default=5, gt=0)
    causal: bool = Field(default=True, description="no step sees what comes after it")
    text_dropout: float = Field(default=0.2, ge=0, lt=1, description="on the text's features")
    text_attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    audio_attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    vision_attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    relu_dropout: float = Field(default=0.1, ge=0, lt=1)
    residual_dropout: float = Field(default=0.1, ge=0, lt=1)
    embedding_dropout: float = Field(default=0.2, ge=0, lt=1)
    output_dropout: float = Field(default=0.1, ge=0, lt=1)


class MulT(EncodedSystem):
    """Each modality attends to the two others; memories over the pairs; last steps through a residual perceptron."""

    card = Card("MulT", "https://arxiv.org/abs/1906.00295", ROLES)
    Settings = MulTSettings

    def __init__(self, settings: MulTSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.length_bucket = ()  # attention between the frames costs more than the encoder
        dimension, reference = settings.dimension, settings.reference
        self.projections = nn.ModuleDict(
            {
                name: Projection(width, dimension, getattr(settings, f"{name}_kernel"), reference)
                for name, width in self.widths.items()
            }
        )
        self.steps = nn.ModuleDict({name: Steps(dimension) for name in MODALITIES})
        # Attention on a modality has the dropout of the one that asks, as published.
        self.crossings = nn.ModuleDict(
            {
                f"{name}_from_{other}": self.stack(dimension, settings.levels, name)
                for name in MODALITIES
                for other in OTHERS[name]
            }
        )
        memory = max(settings.levels, 3)
        self.memories = nn.ModuleDict({name: self.stack(2 * dimension, memory, "text") for name in MODALITIES})
        width = 6 * dimension
        self.first, self.second, self.head = (
            nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, task.outputs)
        )  # fmt: skip

    def stack(self, dimension: int, layers: int, modality: str) -> CrossmodalEncoder:
        """A crossmodal transformer of so many layers, with the attention dropout of the modality it reads."""
        settings = self.settings
        return CrossmodalEncoder(
            dimension,
            settings.heads,
            layers,
            getattr(settings, f"{modality}_attention_dropout"),
            settings.relu_dropout,
            settings.residual_dropout,
            settings.embedding_dropout,
        )

    @classmethod
    def tiny(cls) -> MulTSettings:
        """Settings for tests."""
        return MulTSettings(dimension=6, heads=2, levels=1)

    def projected(self, batch: Batch) -> dict[str, Padded]:
        """The three streams, each through its convolution, in the model's common width."""
        text = self.text_states(batch)
        text = Padded(functional.dropout(text.values, self.settings.text_dropout, self.training), text.mask)
        streams = {"text": text, **{name: model_input(self, batch, name) for name in ("audio", "vision")}}
        return {name: self.steps[name](self.projections[name](value)) for name, value in streams.items()}

    def forward(self, batch: Batch) -> Output:
        streams = self.projected(batch)
        causal = self.settings.causal
        states: dict[str, Tensor] = {}
        for name in MODALITIES:
            crossed = [
                self.crossings[f"{name}_from_{other}"](streams[name], streams[other], causal).values
                for other in OTHERS[name]
            ]
            both = Padded(torch.cat(crossed, dim=2), streams[name].mask)
            memory = self.memories[name](both, causal=causal)
            states[name] = last_step(memory.values, memory.mask)
        fused = torch.cat([states[name] for name in MODALITIES], dim=1)
        hidden = functional.dropout(functional.relu(self.first(fused)), self.settings.output_dropout, self.training)
        return Output(self.head(self.second(hidden) + fused), states, representation=fused)

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """The original has one group and ignores its weight decay."""
        if self.settings.reference:
            return [{"params": list(self.parameters()), "lr": learning_rate, "weight_decay": 0.0}]
        return super().parameter_groups(learning_rate, weight_decay)


class Steps(nn.Module):
    """A learned step for absent rows, under the name that imported weights do without."""

    def __init__(self, dimension: int):
        super().__init__()
        self.absence = AbsentStep(dimension)

    def forward(self, padded: Padded) -> Padded:
        return self.absence(padded)


_SHORT = {"l": "text", "a": "audio", "v": "vision"}
PUBLISHED_NAMES = {
    **ENCODER_NAMES,
    **{
        f"trans_{one}_with_{two}.": f"crossings.{_SHORT[one]}_from_{_SHORT[two]}."
        for one in _SHORT
        for two in _SHORT
        if one != two
    },
    **{f"trans_{one}_with_{two}.version": "" for one in _SHORT for two in _SHORT},
    **{f"trans_{one}_mem.": f"memories.{name}." for one, name in _SHORT.items()},
    **{f"trans_{one}_mem.version": "" for one in _SHORT},
    **{f"proj_{one}.": f"projections.{name}.convolution." for one, name in _SHORT.items()},
    **TEXT_NAMES,
    "proj1.": "first.",
    "proj2.": "second.",
    "out_layer.": "head.",
}

# The weight decay of its configuration (0.005, 0.001, 0.001) reaches no parameter in MMSA.
PUBLISHED = {
    "mult": mmsa(
        {"text_kernel": 5, "causal": True, "vision_attention_dropout": 0.0, "relu_dropout": 0.0},
        training={"schedule": "plateau", "gradient_accumulation": 8, "weight_decay": 0.0, "clip_value": 0.6},
        names=PUBLISHED_NAMES,
        mosi={
            "model": {
                "dimension": 50, "heads": 10, "levels": 4, "audio_kernel": 5, "vision_kernel": 5,
                "text_dropout": 0.5, "text_attention_dropout": 0.3, "audio_attention_dropout": 0.2,
                "residual_dropout": 0.0, "embedding_dropout": 0.2, "output_dropout": 0.5,
            },
            "training": {"plateau_patience": 5, "batch_size": 16, "learning_rate": 0.002},
        },
        mosei={
            "model": {
                "dimension": 30, "heads": 6, "levels": 4, "audio_kernel": 1, "vision_kernel": 3,
                "text_dropout": 0.3, "text_attention_dropout": 0.4, "audio_attention_dropout": 0.0,
                "residual_dropout": 0.0, "embedding_dropout": 0.0, "output_dropout": 0.5,
            },
            "training": {"plateau_patience": 20, "batch_size": 4, "learning_rate": 0.0005},
        },
        sims={
            "model": {
                "dimension": 50, "heads": 10, "levels": 2, "audio_kernel": 1, "vision_kernel": 1,
                "text_dropout": 0.3, "text_attention_dropout": 0.2, "audio_attention_dropout": 0.1,
                "residual_dropout": 0.2, "embedding_dropout": 0.1, "output_dropout": 0.1,
            },
            "training": {"plateau_patience": 10, "batch_size": 16, "learning_rate": 0.002},
        },
    ),
}  # fmt: skip
