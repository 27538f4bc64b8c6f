"""CENET: a text encoder enhanced by what is heard and seen. Wang et al. 2022, https://doi.org/10.1109/TMM.2022.3183830.

Within a pretrained encoder, behind one of its layers, every word asks the frames of the voice and of the face, and is
moved by what it gets (the cross-modal enhancement module). The paper first turns frames into indices of clusters with
embeddings of their own; here frames are projected as they are, so that nothing has to be clustered before training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, masked_mean
from demeanor.models.blocks.encoded_text import ROLES, EncodedSettings, EncodedSystem
from demeanor.models.blocks.layers import AbsentStep, zero_padding

OTHERS = ("audio", "vision")


class CENETSettings(EncodedSettings):
    """Where in the text encoder words are moved, and with which dropout."""

    layer: int = Field(default=1, ge=0, description="of the encoder behind which words are moved; 0: its embeddings")
    dropout: float = Field(default=0.1, ge=0, lt=1)
    enhancement_dropout: float = Field(default=0.1, ge=0, lt=1)


class CrossModalEnhancement(nn.Module):
    """words + W2 relu(W1 [attention over audio ; attention over vision])."""

    def __init__(self, text: int, widths: Mapping[str, int], dropout: float):
        super().__init__()
        self.absences = nn.ModuleDict({name: AbsentStep(widths[name]) for name in OTHERS})
        self.questions = nn.ModuleDict({name: nn.Linear(text, text) for name in OTHERS})
        self.keys = nn.ModuleDict({name: nn.Linear(widths[name], text, bias=False) for name in OTHERS})
        self.values = nn.ModuleDict({name: nn.Linear(widths[name], text) for name in OTHERS})
        self.first, self.second = nn.Linear(2 * text, text), nn.Linear(text, text)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, words: Float[Tensor, "batch time text"], frames: Mapping[str, Padded]
    ) -> Float[Tensor, "batch time text"]:
        shifts = []
        for name in OTHERS:
            padded = self.absences[name](frames[name])
            keys, values = self.keys[name](padded.values), self.values[name](padded.values)
            shifts.append(attend(self.questions[name](words), keys, values, padded.mask))
        moved = self.second(self.dropout(functional.relu(self.first(torch.cat(shifts, dim=2)))))
        return words + moved.to(words.dtype)


class CENET(EncodedSystem):
    """The enhanced encoder's first state decides; of frozen word states, which have no layers left, their mean."""

    card = Card("CENET", "https://doi.org/10.1109/TMM.2022.3183830", ROLES)
    Settings = CENETSettings

    def __init__(self, settings: CENETSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        text = self.widths["text"]
        self.enhance = CrossModalEnhancement(text, self.widths, settings.enhancement_dropout)
        self.absence = nn.ModuleDict() if self.encoder.tokens else AbsentStep(text)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(text, task.outputs)

    def forward(self, batch: Batch) -> Output:
        words = zero_padding(batch["text"])
        if not self.encoder.tokens:
            words = self.absence(words)
        frames = {name: batch[name] for name in OTHERS}
        states, mask = self.encoder(words, lambda values: self.enhance(values, frames), behind=self.settings.layer)
        pooled = states[:, 0] if self.encoder.tokens else masked_mean(states, mask)
        return Output(self.head(self.dropout(pooled)), representation=pooled)


def attend(
    questions: Float[Tensor, "batch time width"],
    keys: Float[Tensor, "batch steps width"],
    values: Float[Tensor, "batch steps width"],
    mask: Bool[Tensor, "batch steps"],
) -> Float[Tensor, "batch time width"]:
    """Scaled dot-product attention over the real steps."""
    scores = torch.einsum("btw,bsw->bts", questions, keys) / math.sqrt(questions.shape[2])
    weights = scores.float().masked_fill(~mask.unsqueeze(1), -1e9).softmax(dim=2)
    return torch.einsum("bts,bsw->btw", weights.to(values.dtype), values)
