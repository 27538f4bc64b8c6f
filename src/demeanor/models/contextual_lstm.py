"""Contextual LSTM: a bidirectional recurrence over the utterances of a dialogue, before or after modalities are joined.

Poria et al. 2017, "Context-Dependent Sentiment Analysis in User-Generated Videos", https://aclanthology.org/P17-1081:
the yardstick of systems that read dialogues. It knows the order of utterances, but neither who speaks nor attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from demeanor.data.batch import Batch, from_dialogues, to_dialogues
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.kernels.lstm import LSTM
from demeanor.models.base import Card, Output, Role, System, masked_mean, task_loss
from demeanor.models.blocks.layers import MissingModalityEmbedding, zero_padding

MODALITIES = ("text", "audio", "vision")


class ContextualLSTMSettings(Settings):
    """Sizes, dropouts and the way of fusion."""

    hidden: int = Field(default=64, gt=0, description="width of each direction")
    input_dropout: float = Field(default=0.3, ge=0, lt=1, description="on utterance vectors")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="after each recurrence")
    fusion: Literal["concatenation", "hierarchical"] = Field(
        default="concatenation",
        description="concatenation: one recurrence over all modalities; hierarchical: one each, and one over these",
    )
    causal: bool = Field(default=False, description="no utterance sees a later one: for live use")


class Recurrence(nn.Module):
    """LSTM over the turns of each dialogue; padding is never stepped over, both directions begin at real turns."""

    def __init__(self, size: int, hidden: int, both_ways: bool):
        super().__init__()
        self.lstm = LSTM(size, hidden, batch_first=True, bidirectional=both_ways)
        self.size = hidden * (1 + both_ways)

    def forward(
        self, grid: Float[Tensor, "dialogues turns size"], mask: Bool[Tensor, "dialogues turns"]
    ) -> Float[Tensor, "dialogues turns states"]:
        packed = pack_padded_sequence(grid, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=grid.shape[1])
        return states


class ContextualLSTM(System):
    """Streams of several steps are averaged to one vector per utterance; an absent one is a learned vector."""

    card = Card(
        "Contextual LSTM",
        "https://aclanthology.org/P17-1081",
        {
            "text": Role("text", required=False, description="sentence vectors, or word states to average"),
            "audio": Role("audio", required=False, description="functionals, or frame features to average"),
            "vision": Role("vision", required=False, description="one vector per utterance, or frames to average"),
        },
        batching="dialogue",
    )
    Settings = ContextualLSTMSettings

    def __init__(self, settings: ContextualLSTMSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.modalities = [name for name in MODALITIES if name in inputs]
        if not self.modalities:
            raise InputError(self.card.title, ["it is given no stream"], "Give at least one of text, audio, vision.")
        hidden, both_ways = settings.hidden, not settings.causal
        sizes = [inputs[name].dimension for name in self.modalities]
        self.absence = nn.ModuleDict(
            {name: MissingModalityEmbedding(inputs[name].dimension) for name in self.modalities}
        )
        self.input_dropout, self.dropout = nn.Dropout(settings.input_dropout), nn.Dropout(settings.dropout)
        self.alone = nn.ModuleList()
        joined = sum(sizes)
        if settings.fusion == "hierarchical":
            self.alone.extend(Recurrence(size, hidden, both_ways) for size in sizes)
            joined = len(sizes) * hidden * (1 + both_ways)
        self.together = Recurrence(joined, hidden, both_ways)
        self.head = nn.Linear(self.together.size, task.outputs)

    @classmethod
    def tiny(cls) -> ContextualLSTMSettings:
        """Settings for tests."""
        return ContextualLSTMSettings(hidden=6, fusion="hierarchical")

    def forward(self, batch: Batch) -> Output:
        vectors = [self.input_dropout(self._vector(name, batch)) for name in self.modalities]
        grid, mask = to_dialogues(batch, torch.cat(vectors, dim=1))
        if self.alone:
            parts = grid.split([vector.shape[1] for vector in vectors], dim=2)
            states = [recurrence(part, mask) for recurrence, part in zip(self.alone, parts, strict=True)]
            grid = self.dropout(torch.cat(states, dim=2))
        state = self.dropout(from_dialogues(batch, self.together(grid, mask)))
        return Output(self.head(state), {}, representation=state)

    def _vector(self, name: str, batch: Batch) -> Float[Tensor, "batch dimension"]:
        padded = zero_padding(batch[name])
        values = padded.values.to(self.head.weight.dtype)
        return self.absence[name](masked_mean(values, padded.mask), batch[name].present)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        return {"total": task_loss(self.task, output.prediction, batch.target)}
