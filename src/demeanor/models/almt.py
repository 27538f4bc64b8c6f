"""ALMT: language guides what is taken from audio and vision. Zhang et al. 2023, https://arxiv.org/abs/2310.05804."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, task_loss
from demeanor.models.blocks.crossmodal import Attention
from demeanor.models.blocks.encoded_text import MODALITIES, ROLES, EncodedSettings, EncodedSystem
from demeanor.models.blocks.layers import AbsentStep, zero_padding
from demeanor.models.published import mmsa


class ALMTSettings(EncodedSettings):
    """Sizes of the condensed streams, of both transformers and of the text encoder."""

    dimension: int = Field(default=128, gt=0)
    heads: int = Field(default=8, gt=0)
    tokens: int = Field(default=8, gt=0, description="length T to which every modality is condensed")
    levels: int = Field(default=3, gt=0, description="layers of hyper-modality learning")
    fusion_levels: int = Field(default=2, gt=0, description="layers of the crossmodal fusion")
    dropout: float = Field(default=0.1, ge=0, lt=1)


def layer(dimension: int, heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    """A transformer layer that normalises first; its inner width is twice its dimension."""
    return nn.TransformerEncoderLayer(dimension, heads, 2 * dimension, dropout, batch_first=True, norm_first=True)


class Condensed(nn.Module):
    """Learned tokens in front of the projected steps, one transformer layer, and the tokens alone go on (section 3.3).

    The steps have no positions here: a fine-tuned text encoder has added its own, and clips of any length fit."""

    def __init__(self, width: int, settings: ALMTSettings):
        super().__init__()
        dimension = settings.dimension
        self.project = nn.Linear(width, dimension)
        self.absence = AbsentStep(dimension)
        self.tokens = nn.Parameter(torch.randn(settings.tokens, dimension) * 0.02)
        self.layer = layer(dimension, settings.heads, settings.dropout)

    def forward(self, padded: Padded) -> Float[Tensor, "batch tokens dimension"]:
        projected = self.absence(Padded(self.project(padded.values), padded.mask))
        count = len(self.tokens)
        values = torch.cat([self.tokens.expand(len(projected.mask), -1, -1), projected.values], dim=1)
        hidden = torch.cat([projected.mask.new_zeros(len(values), count), ~projected.mask], dim=1)
        return self.layer(values, src_key_padding_mask=hidden)[:, :count]


class HyperLayer(nn.Module):
    """hyper + attention(language, audio) + attention(language, vision) (equations 4 to 7)."""

    def __init__(self, settings: ALMTSettings):
        super().__init__()
        self.norms = nn.ModuleDict({name: nn.LayerNorm(settings.dimension) for name in MODALITIES})
        self.attentions = nn.ModuleDict(
            {name: Attention(settings.dimension, settings.heads, settings.dropout) for name in ("audio", "vision")}
        )

    def forward(self, hyper: Tensor, language: Tensor, audio: Tensor, vision: Tensor) -> Tensor:
        """hyper, language, audio and vision [batch, tokens, dimension]; gives the next hyper tokens, as many."""
        query = self.norms["text"](language)
        for name, values in (("audio", audio), ("vision", vision)):
            source = self.norms[name](values)
            hyper = hyper + self.attentions[name](query, source, source, None)
        return hyper


class FusionLayer(nn.Module):
    """Language asks the hyper-modality, then a feed-forward network, both with residuals and normalised first."""

    def __init__(self, settings: ALMTSettings):
        super().__init__()
        dimension = settings.dimension
        self.query_norm, self.source_norm, self.feed_norm = (nn.LayerNorm(dimension) for _ in range(3))
        self.attention = Attention(dimension, settings.heads, settings.dropout)
        self.feed = nn.Sequential(
            nn.Linear(dimension, 2 * dimension), nn.GELU(), nn.Dropout(settings.dropout),
            nn.Linear(2 * dimension, dimension), nn.Dropout(settings.dropout),
        )  # fmt: skip

    def forward(self, values: Tensor, hyper: Tensor) -> Tensor:
        """values and hyper [batch, tokens, dimension]; gives the shape of `values`."""
        source = self.source_norm(hyper)
        values = values + self.attention(self.query_norm(values), source, source, None)
        return values + self.feed(self.feed_norm(values))


class ALMT(EncodedSystem):
    """Streams condensed to `tokens` steps; language asks audio and vision, layer by layer, before the fusion."""

    card = Card("ALMT", "https://arxiv.org/abs/2310.05804", ROLES)
    Settings = ALMTSettings

    def __init__(self, settings: ALMTSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.condense = nn.ModuleDict({name: Condensed(width, settings) for name, width in self.widths.items()})
        self.language = nn.ModuleList(
            layer(settings.dimension, settings.heads, settings.dropout) for _ in range(settings.levels - 1)
        )
        self.hyper = nn.Parameter(torch.randn(settings.tokens, settings.dimension) * 0.02)
        self.levels = nn.ModuleList(HyperLayer(settings) for _ in range(settings.levels))
        self.first = nn.Parameter(torch.randn(1, settings.dimension) * 0.02)
        self.fusion = nn.ModuleList(FusionLayer(settings) for _ in range(settings.fusion_levels))
        self.head = nn.Linear(settings.dimension, task.outputs)

    @classmethod
    def tiny(cls) -> ALMTSettings:
        """Settings for tests."""
        return ALMTSettings(dimension=8, heads=2, tokens=3, levels=2, fusion_levels=1)

    def forward(self, batch: Batch) -> Output:
        streams = {"text": self.text_states(batch)} | {name: zero_padding(batch[name]) for name in ("audio", "vision")}
        condensed = {name: self.condense[name](value) for name, value in streams.items()}
        language = condensed["text"]
        hyper = self.hyper.expand(len(batch), -1, -1)
        for number, level in enumerate(self.levels):
            language = language if number == 0 else self.language[number - 1](language)
            hyper = level(hyper, language, condensed["audio"], condensed["vision"])
        values = torch.cat([self.first.expand(len(batch), -1, -1), language], dim=1)
        for fuse in self.fusion:
            values = fuse(values, hyper)
        return Output(self.head(values[:, 0]), representation=values[:, 0])

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Squared error for a regression (section 3.6), else as everywhere."""
        if self.task.kind != "regression":
            return {"total": task_loss(self.task, output.prediction, batch.target)}
        known = ~torch.isnan(batch.target)
        error = (output.prediction[known, 0] - batch.target[known]).square()
        return {"total": error.sum() / max(int(known.sum()), 1)}


PUBLISHED = {
    "almt": mmsa(
        {"encoder_learning_rate": 1e-05},
        training={
            "optimiser": "adamw", "batch_size": 64, "learning_rate": 0.0001, "weight_decay": 0.0001,
            "schedule": "cosine", "warmup": 0.1,
        },
        fine_tunes=True,
        source="not in MMSA 2.2.1: our own choice, with its AdamW, warm-up and cosine",
        mosi={},
        mosei={},
        sims={},
    ),
}  # fmt: skip
