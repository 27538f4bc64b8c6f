"""Graph-MFN: memory fusion by a dynamic graph of modalities. Zadeh et al. 2018, https://aclanthology.org/P18-1208.

MFN whose memory reads a graph instead of an attention (section 4 of the paper). Its vertices are the three modalities,
the three pairs, the triple and the output; every edge has an efficacy between 0 and 1 that the modalities of the moment
decide on. In MMSA the vertices' networks are neither trained nor saved (docs/systems/mmsa.md#d3); here they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from jaxtyping import Float
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
from demeanor.models.mfn import Network, run_cell

PAIRS = tuple(itertools.combinations(MODALITIES, 2))
#: Edges: two into each pair, three modalities and three pairs into the triple, all seven into the output.
EDGES = 2 * len(PAIRS) + (len(MODALITIES) + len(PAIRS)) + (len(MODALITIES) + len(PAIRS) + 1)


class GraphMFNSettings(Settings):
    """Sizes of the three LSTMs, of the graph and of the memory."""

    text_hidden: int = Field(default=128, gt=0)
    audio_hidden: int = Field(default=16, gt=0)
    vision_hidden: int = Field(default=64, gt=0)
    vertex: int = Field(default=32, gt=0, description="width of every vertex of the graph")
    memory: int = Field(default=64, gt=0)
    hidden: int = Field(default=64, gt=0, description="of every network")
    dropout: float = Field(default=0.3, ge=0, lt=1)
    reference: bool = Field(default=False, description="padding taken for data, as published")


class DynamicFusionGraph(nn.Module):
    """Two consecutive cell states of every modality [B, T, 2 H_m] -> the output vertex [B, T, vertex]."""

    def __init__(self, sizes: Mapping[str, int], vertex: int, hidden: int, dropout: float):
        super().__init__()
        self.singles = nn.ModuleDict({name: nn.Linear(2 * size, vertex) for name, size in sizes.items()})
        self.efficacies = Network(3 * vertex, hidden, EDGES, dropout)
        self.pairs = nn.ModuleDict({"_".join(pair): Network(2 * vertex, hidden, vertex, dropout) for pair in PAIRS})
        self.triple = Network(6 * vertex, hidden, vertex, dropout)
        self.output = Network(7 * vertex, hidden, vertex, dropout)

    def forward(self, cells: Mapping[str, Float[Tensor, "batch time _"]]) -> Float[Tensor, "batch time vertex"]:
        singles = {name: layer(cells[name]) for name, layer in self.singles.items()}
        joined = torch.cat(list(singles.values()), dim=2)
        efficacy = iter(self.efficacies(joined).sigmoid().split(1, dim=2))
        pairs = [
            self.pairs["_".join(pair)](torch.cat([next(efficacy) * singles[name] for name in pair], dim=2))
            for pair in PAIRS
        ]
        below = [*singles.values(), *pairs]
        triple = self.triple(torch.cat([next(efficacy) * value for value in below], dim=2))
        return self.output(torch.cat([next(efficacy) * value for value in [*below, triple]], dim=2))


class GraphMFN(AlignedSystem):
    """LSTMs by modality, the graph over their consecutive cell states, a gated memory over the graph's output."""

    card = Card("Graph-MFN", "https://aclanthology.org/P18-1208", ROLES)
    Settings = GraphMFNSettings

    def __init__(self, settings: GraphMFNSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        sizes = {name: getattr(settings, f"{name}_hidden") for name in MODALITIES}
        self.cells = nn.ModuleDict({name: nn.LSTMCell(inputs[name].dimension, size) for name, size in sizes.items()})
        hidden, dropout, memory = settings.hidden, settings.dropout, settings.memory
        self.graph = DynamicFusionGraph(sizes, settings.vertex, hidden, dropout)
        self.candidate = Network(settings.vertex, hidden, memory, dropout)
        self.retain = Network(settings.vertex + memory, hidden, memory, dropout)
        self.update = Network(settings.vertex + memory, hidden, memory, dropout)
        self.head = Network(sum(sizes.values()) + memory, hidden, task.outputs, dropout)

    @classmethod
    def tiny(cls) -> GraphMFNSettings:
        """Settings for tests."""
        return GraphMFNSettings(text_hidden=5, audio_hidden=3, vision_hidden=4, vertex=5, memory=4, hidden=16)

    def forward(self, batch: Batch) -> Output:
        values, mask = self.aligned(batch)
        both, last = {}, []
        for name in MODALITIES:
            cell, hidden = run_cell(self.cells[name], values[name], mask)
            both[name] = torch.cat([functional.pad(cell, (0, 0, 1, 0))[:, :-1], cell], dim=2)
            last.append(hidden)
        # Cells do not depend on the memory: the graph runs over all steps at once, only the gates over time.
        fused = self.graph(both)
        proposal = self.candidate(fused).tanh()
        memory = proposal.new_zeros(len(proposal), self.settings.memory)
        for step in range(proposal.shape[1]):
            seen = torch.cat([fused[:, step], memory], dim=1)
            moved = self.retain(seen).sigmoid() * memory + self.update(seen).sigmoid() * proposal[:, step]
            memory = torch.where(mask[:, step, None], moved, memory)
        state = torch.cat([*last, memory], dim=1)
        return Output(self.head(state), representation=state)
