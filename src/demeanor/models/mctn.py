"""MCTN: robust joint representations by translating between modalities. Pham et al. 2019,
https://arxiv.org/abs/1812.07809.

The words are translated into what is seen and back, and what they have become on the way is translated into what is
heard (sections 3.2 and 3.3). Translations are learnt in training alone: an answer needs the words and nothing else. The
paper uses one encoder for both ways, which asks for features of equal width; here the way back has its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.kernels.lstm import LSTM
from demeanor.models.base import Card, Output, task_loss
from demeanor.models.blocks.aligned import AlignedSystem
from demeanor.models.blocks.layers import last_step
from demeanor.models.blocks.subnets import ROLES


class MCTNSettings(Settings):
    """The width of the recurrences and the weights of the three translations."""

    hidden: int = Field(default=32, gt=0, description="of every recurrence")
    dropout: float = Field(default=0.1, ge=0, lt=1)
    translation_weight: float = Field(default=0.1, ge=0, description="words to vision (lambda_t)")
    cycle_weight: float = Field(default=0.05, ge=0, description="and back (lambda_c)")
    second_weight: float = Field(default=0.1, ge=0, description="joint representation to audio")
    reference: bool = Field(default=False, description="padding taken for data, as published")


class Translator(nn.Module):
    """Sequence to sequence with attention: `encode` gives the joint states, `decode` the other modality's frames."""

    def __init__(self, source: int, target: int, hidden: int):
        super().__init__()
        self.encoder = LSTM(source, hidden, batch_first=True)
        self.decoder = nn.LSTMCell(target + hidden, hidden)
        self.question = nn.Linear(hidden, hidden, bias=False)
        self.answer = nn.Linear(2 * hidden, target)

    def encode(self, values: Float[Tensor, "batch steps source"]) -> Float[Tensor, "batch steps hidden"]:
        """States of the source, which are the joint representation once the translation is learnt."""
        return self.encoder(values.to(self.answer.weight.dtype))[0]

    def decode(
        self,
        states: Float[Tensor, "batch steps hidden"],
        mask: Bool[Tensor, "batch steps"],
        wanted: Float[Tensor, "batch steps target"],
    ) -> Float[Tensor, "batch steps target"]:
        """Each step sees the real step before it (teacher forcing) and the states that it attends to."""
        before = functional.pad(wanted, (0, 0, 1, 0))[:, :-1].to(states.dtype)
        hidden = memory = states.new_zeros(states.shape[0], states.shape[2])
        hidden = hidden + last_step(states, mask)
        made = []
        for step in range(states.shape[1]):
            scores = torch.einsum("bsh,bh->bs", states, self.question(hidden)).masked_fill(~mask, -1e4)
            context = torch.einsum("bs,bsh->bh", scores.softmax(dim=1).to(states.dtype), states)
            hidden, memory = self.decoder(torch.cat([before[:, step], context], dim=1), (hidden, memory))
            made.append(self.answer(torch.cat([hidden, context], dim=1)))
        return torch.stack(made, dim=1)


class MCTN(AlignedSystem):
    """Words -> vision -> words, their joint states -> audio; the second encoder's states decide."""

    card = Card("MCTN", "https://arxiv.org/abs/1812.07809", ROLES)
    Settings = MCTNSettings

    def __init__(self, settings: MCTNSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        width, hidden = {name: value.dimension for name, value in inputs.items()}, settings.hidden
        self.forth = Translator(width["text"], width["vision"], hidden)
        self.back = Translator(width["vision"], width["text"], hidden)
        self.second = Translator(hidden, width["audio"], hidden)
        self.summary = LSTM(hidden, hidden, batch_first=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(hidden, task.outputs)

    @classmethod
    def tiny(cls) -> MCTNSettings:
        """Settings for tests."""
        return MCTNSettings(hidden=6)

    def forward(self, batch: Batch) -> Output:
        values, mask = self.aligned(batch)
        joint = self.forth.encode(values["text"])
        deeper = self.second.encode(joint)
        state = last_step(self.summary(deeper)[0], mask)
        auxiliary = {}
        if self.training:
            seen = self.forth.decode(joint, mask, values["vision"])
            again = self.back.decode(self.back.encode(seen), mask, values["text"])
            heard = self.second.decode(deeper, mask, values["audio"])
            auxiliary = {
                "translation": distance(seen, values["vision"], mask),
                "cycle": distance(again, values["text"], mask),
                "second": distance(heard, values["audio"], mask),
            }
        return Output(self.head(self.dropout(state)), auxiliary, state)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Task, and while training the squared errors of the translations of what both sides were recorded of."""
        terms = {"task": task_loss(self.task, output.prediction, batch.target)}
        there = {"translation": ("text", "vision"), "cycle": ("text", "vision"), "second": ("text", "audio")}
        total = terms["task"]
        for name, error in output.auxiliary.items():
            both = torch.stack([batch[role].present for role in there[name]]).all(dim=0)
            terms[name] = (error * both).sum() / both.sum().clamp(min=1)
            total = total + getattr(self.settings, f"{name}_weight") * terms[name]
        return {"total": total, **terms}


def distance(
    decoded: Float[Tensor, "batch steps width"],
    wanted: Float[Tensor, "batch steps width"],
    mask: Bool[Tensor, "batch steps"],
) -> Float[Tensor, " batch"]:
    """Mean squared error over the real steps of each row."""
    error = (decoded - wanted.to(decoded.dtype)).square().mean(dim=2) * mask
    return error.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
