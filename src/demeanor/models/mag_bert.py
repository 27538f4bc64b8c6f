"""MAG-BERT: a multimodal adaptation gate inside a text encoder. Rahman et al. 2020,
https://arxiv.org/abs/1908.05787."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output
from demeanor.models.blocks.aligned import Holder
from demeanor.models.blocks.alignment import spread
from demeanor.models.blocks.encoded_text import ROLES, EncodedSettings, EncodedSystem
from demeanor.models.blocks.layers import AbsentStep, zero_padding
from demeanor.models.published import mmsa


class MAGBERTSettings(EncodedSettings):
    """How far the gate may move a word, and the dropouts."""

    shift: float = Field(default=1.0, gt=0, description="beta: the gate moves a word by at most this share of its norm")
    gate_dropout: float = Field(default=0.5, ge=0, lt=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class AdaptationGate(nn.Module):
    """Shift each word's vector by what was heard and seen at it (section 3.2, equations 1 to 5)."""

    def __init__(self, text: int, audio: int, vision: int, shift: float, dropout: float):
        super().__init__()
        self.audio_gate, self.vision_gate = nn.Linear(text + audio, text), nn.Linear(text + vision, text)
        self.audio, self.vision = nn.Linear(audio, text, bias=False), nn.Linear(vision, text)
        self.norm, self.dropout, self.shift = nn.LayerNorm(text), nn.Dropout(dropout), shift

    def displacement(
        self,
        words: Float[Tensor, "batch time text"],
        audio: Float[Tensor, "batch time audio"],
        vision: Float[Tensor, "batch time vision"],
    ) -> Float[Tensor, "batch time text"]:
        """alpha H, with alpha = min(beta |Z| / |H|, 1)."""
        heard = functional.relu(self.audio_gate(torch.cat([words, audio], dim=2))) * self.audio(audio)
        seen = functional.relu(self.vision_gate(torch.cat([words, vision], dim=2))) * self.vision(vision)
        moved = heard + seen
        lengths = moved.square().sum(dim=2, keepdim=True).clamp(min=1e-12).sqrt()
        alpha = (self.shift * words.norm(dim=2, keepdim=True) / lengths).clamp(max=1.0)
        return alpha * moved

    def forward(self, words: Tensor, audio: Tensor, vision: Tensor) -> Tensor:
        """words, audio and vision [batch, time, dimension of each]; gives the shape of `words`."""
        return self.dropout(self.norm(words + self.displacement(words, audio, vision)))


class MAGBERT(EncodedSystem):
    """Frames are spread over the words; the gate stands behind the encoder's embeddings, then the first state decides.

    Frozen word states have no layers left to adapt: the gate stands behind them and their mean decides.
    """

    card = Card("MAG-BERT", "https://arxiv.org/abs/1908.05787", ROLES)
    Settings = MAGBERTSettings

    def __init__(self, settings: MAGBERTSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        text = self.widths["text"]
        self.gate = AdaptationGate(
            text, self.widths["audio"], self.widths["vision"], settings.shift, settings.gate_dropout
        )
        self.absences = nn.ModuleDict({name: Holder(self.widths[name]) for name in ("audio", "vision")})
        self.absence = nn.ModuleDict() if self.encoder.tokens else AbsentStep(text)
        self.pool = nn.Linear(text, text)
        self.head = nn.Linear(text, task.outputs)

    def forward(self, batch: Batch) -> Output:
        words = zero_padding(batch["text"])
        if not self.encoder.tokens:
            words = self.absence(words)
        count = words.lengths.clamp(min=1)
        frames = {}
        for name in ("audio", "vision"):
            aligned = spread(batch[name], count).values
            aligned = functional.pad(aligned, (0, 0, 0, words.mask.shape[1] - aligned.shape[1]))
            frames[name] = self.absences[name](aligned, batch[name].present)
        states, mask = self.encoder(words, lambda values: self.gate(values, frames["audio"], frames["vision"]))
        pooled = states[:, 0] if self.encoder.tokens else mean_of(states, mask)
        pooled = functional.dropout(self.pool(pooled).tanh(), self.settings.dropout, self.training)
        return Output(self.head(pooled), representation=pooled)


def mean_of(values: Float[Tensor, "batch time dimension"], mask: Bool[Tensor, "batch time"]) -> Tensor:
    """Mean over the steps of the mask [batch, dimension]; every row needs one."""
    weight = mask.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1)


PUBLISHED = {
    "mag_bert": mmsa(
        {"shift": 1.0},
        training={"batch_size": 32, "weight_decay": 0.0},
        fine_tunes=True,
        mosi={"model": {"encoder_learning_rate": 2e-05, "gate_dropout": 0.3}, "training": {"learning_rate": 2e-05}},
        mosei={
            "model": {"encoder_learning_rate": 1e-05, "gate_dropout": 0.2},
            "training": {"learning_rate": 1e-05},
        },
        sims={"model": {"encoder_learning_rate": 5e-05, "gate_dropout": 0.1}, "training": {"learning_rate": 5e-05}},
    ),
}  # fmt: skip
