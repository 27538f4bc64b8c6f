"""MFN: memory fusion network. Zadeh et al. 2018, https://arxiv.org/abs/1802.00927."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.models.base import Card, Output
from demeanor.models.blocks.aligned import MODALITIES, AlignedSystem
from demeanor.models.blocks.subnets import ROLES
from demeanor.models.published import mmsa


class MFNSettings(Settings):
    """Sizes of the three LSTMs, of the memory and of the networks that write it."""

    text_hidden: int = Field(default=128, gt=0)
    audio_hidden: int = Field(default=16, gt=0)
    vision_hidden: int = Field(default=64, gt=0)
    memory: int = Field(default=64, gt=0)
    attention_hidden: int = Field(default=64, gt=0, description="of the network that weighs old and new memories")
    candidate_hidden: int = Field(default=64, gt=0, description="of the network that proposes the new memory")
    retain_hidden: int = Field(default=64, gt=0, description="of the gate on the old memory")
    update_hidden: int = Field(default=64, gt=0, description="of the gate on the proposal")
    output_hidden: int = Field(default=64, gt=0)
    dropout: float = Field(default=0.3, ge=0, lt=1, description="of every network that has none of its own")
    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    candidate_dropout: float | None = Field(default=None, ge=0, lt=1)
    retain_dropout: float | None = Field(default=None, ge=0, lt=1)
    update_dropout: float | None = Field(default=None, ge=0, lt=1)
    output_dropout: float | None = Field(default=None, ge=0, lt=1)
    reference: bool = Field(default=False, description="padding taken for data, as published")


class Network(nn.Module):
    """linear -> relu -> dropout -> linear."""

    def __init__(self, width: int, hidden: int, output: int, dropout: float):
        super().__init__()
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, output)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        """[batch, inputs] to [batch, outputs]."""
        return self.second(self.dropout(functional.relu(self.first(values))))


class MFN(AlignedSystem):
    """System of LSTMs, delta-memory attention over two consecutive cell states, multi-view gated memory (section 3).

    Cells do not depend on the memory, so attention and proposals are computed for all steps at once; only the gates
    are left to the loop over time.
    """

    card = Card("MFN", "https://arxiv.org/abs/1802.00927", ROLES)
    Settings = MFNSettings

    def __init__(self, settings: MFNSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        sizes = {name: getattr(settings, f"{name}_hidden") for name in MODALITIES}
        self.cells = nn.ModuleDict({name: nn.LSTMCell(inputs[name].dimension, size) for name, size in sizes.items()})
        self.sizes = sizes
        whole, memory = sum(sizes.values()), settings.memory
        self.attention = self.network("attention", 2 * whole, 2 * whole)
        self.candidate = self.network("candidate", 2 * whole, memory)
        self.retain = self.network("retain", 2 * whole + memory, memory)
        self.update = self.network("update", 2 * whole + memory, memory)
        self.head = self.network("output", whole + memory, task.outputs)

    def network(self, name: str, width: int, output: int) -> Network:
        """A network around the memory, with the hidden width and dropout that the settings have under its name."""
        own = getattr(self.settings, f"{name}_dropout")
        hidden = getattr(self.settings, f"{name}_hidden")
        return Network(width, hidden, output, self.settings.dropout if own is None else own)

    @classmethod
    def tiny(cls) -> MFNSettings:
        """Settings for tests."""
        return MFNSettings(
            text_hidden=5, audio_hidden=3, vision_hidden=4, memory=4, attention_hidden=6, candidate_hidden=6,
            retain_hidden=5, update_hidden=5, output_hidden=6,
        )  # fmt: skip

    def forward(self, batch: Batch) -> Output:
        values, mask = self.aligned(batch)
        cells, hidden = [], []
        for name in MODALITIES:
            cell, last = run_cell(self.cells[name], values[name], mask)
            cells.append(cell)
            hidden.append(last)
        cell = torch.cat(cells, dim=2)
        both = torch.cat([functional.pad(cell, (0, 0, 1, 0))[:, :-1], cell], dim=2)
        attended = both * self.attention(both).softmax(dim=2)
        proposal = self.candidate(attended).tanh()
        memory = proposal.new_zeros(len(proposal), self.settings.memory)
        for step in range(proposal.shape[1]):
            seen = torch.cat([attended[:, step], memory], dim=1)
            moved = self.retain(seen).sigmoid() * memory + self.update(seen).sigmoid() * proposal[:, step]
            memory = torch.where(mask[:, step, None], moved, memory)
        state = torch.cat([*hidden, memory], dim=1)
        return Output(self.head(state), representation=state)


def run_cell(
    cell: Any, values: Float[Tensor, "batch steps width"], mask: Bool[Tensor, "batch steps"]
) -> tuple[Float[Tensor, "batch steps hidden"], Float[Tensor, "batch hidden"]]:
    """All cell states of an LSTMCell and its hidden state at each row's last real step.

    Gates are in PyTorch's order i, f, g, o; the inputs' share of them is one product for all steps.
    """
    gates = functional.linear(values, cell.weight_ih, cell.bias_ih + cell.bias_hh)
    hidden = memory = gates.new_zeros(len(values), cell.hidden_size)
    memories = []
    for step in range(values.shape[1]):
        enter, forget, fresh, leave = (gates[:, step] + functional.linear(hidden, cell.weight_hh)).chunk(4, dim=1)
        memory = forget.sigmoid() * memory + enter.sigmoid() * fresh.tanh()
        memories.append(memory)
        hidden = torch.where(mask[:, step, None], leave.sigmoid() * memory.tanh(), hidden)
    return torch.stack(memories, dim=1), hidden


_SHORT = {"l": "text", "a": "audio", "v": "vision"}
_NETWORKS = {"att1": "attention", "att2": "candidate", "gamma1": "retain", "gamma2": "update", "out": "head"}
PUBLISHED_NAMES = {
    **{f"lstm_{short}.": f"cells.{name}." for short, name in _SHORT.items()},
    **{
        f"{theirs}_fc{number}.": f"{ours}.{layer}."
        for theirs, ours in _NETWORKS.items()
        for number, layer in ((1, "first"), (2, "second"))
    },
}

PUBLISHED = {
    "mfn": mmsa(
        {"attention_dropout": 0.2},
        names=PUBLISHED_NAMES,
        mosi={
            "model": {
                "text_hidden": 256, "audio_hidden": 32, "vision_hidden": 256, "memory": 400, "attention_hidden": 32,
                "candidate_hidden": 64, "retain_hidden": 256, "update_hidden": 32, "output_hidden": 128,
                "candidate_dropout": 0.0, "retain_dropout": 0.7, "update_dropout": 0.5, "output_dropout": 0.0,
            },
            "training": {"batch_size": 128, "learning_rate": 0.002, "weight_decay": 0.0},
        },
        mosei={
            "model": {
                "text_hidden": 128, "audio_hidden": 32, "vision_hidden": 128, "memory": 128,
                "attention_hidden": 128, "candidate_hidden": 128, "retain_hidden": 256, "update_hidden": 256,
                "output_hidden": 128, "candidate_dropout": 0.5, "retain_dropout": 0.7, "update_dropout": 0.0,
                "output_dropout": 0.5,
            },
            "training": {"batch_size": 64, "learning_rate": 0.0005, "weight_decay": 0.0001},
        },
        sims={
            "model": {
                "text_hidden": 64, "audio_hidden": 16, "vision_hidden": 64, "memory": 64, "attention_hidden": 128,
                "candidate_hidden": 128, "retain_hidden": 64, "update_hidden": 64, "output_hidden": 64,
                "candidate_dropout": 0.0, "retain_dropout": 0.2, "update_dropout": 0.7, "output_dropout": 0.7,
            },
            "training": {"batch_size": 32, "learning_rate": 0.001, "weight_decay": 0.0},
        },
    ),
}  # fmt: skip
