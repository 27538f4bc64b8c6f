"""EF-LSTM: early fusion, one LSTM over all modalities. Williams et al. 2018, https://aclanthology.org/W18-3302."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn
from torch.nn import functional

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.kernels.lstm import LSTM
from demeanor.models.base import Card, Output
from demeanor.models.blocks.aligned import AlignedSystem
from demeanor.models.blocks.layers import last_step
from demeanor.models.blocks.subnets import ROLES
from demeanor.models.published import mmsa


class EFLSTMSettings(Settings):
    """Sizes of the LSTM."""

    hidden: int = Field(default=64, gt=0)
    layers: int = Field(default=2, gt=0)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    reference: bool = Field(
        default=False, description="normalised over the time axis of a fixed length, padding taken for data"
    )


class EFLSTM(AlignedSystem):
    """normalisation -> LSTM -> last step -> dropout -> linear, relu -> dropout -> linear.

    The original normalises each *time step* over batch and features, which ties it to one length and lets rows see
    each other; here every step's features are normalised by themselves.
    """

    card = Card("EF-LSTM", "https://aclanthology.org/W18-3302", ROLES)
    Settings = EFLSTMSettings

    def __init__(self, settings: EFLSTMSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        width = sum(inputs[name].dimension for name in ROLES)
        self.norm: nn.Module
        if settings.reference:
            self.norm = nn.BatchNorm1d(inputs["text"].max_length or 50)
        else:
            self.norm = nn.LayerNorm(width)
        dropout = settings.dropout if settings.layers > 1 else 0.0
        self.recurrent = LSTM(width, settings.hidden, settings.layers, batch_first=True, dropout=dropout)
        self.project = nn.Linear(settings.hidden, settings.hidden)
        self.head = nn.Linear(settings.hidden, task.outputs)

    @classmethod
    def tiny(cls) -> EFLSTMSettings:
        """Settings for tests."""
        return EFLSTMSettings(hidden=8)

    def forward(self, batch: Batch) -> Output:
        values, mask = self.together(batch)
        states, _ = self.recurrent(self.norm(values))
        last = last_step(states, mask)
        chance = self.settings.dropout
        last = functional.dropout(last, chance, self.training)
        hidden = functional.dropout(functional.relu(self.project(last)), chance, self.training)
        return Output(self.head(hidden), representation=hidden)


PUBLISHED_NAMES = {"lstm.": "recurrent.", "linear.": "project.", "out.": "head."}

PUBLISHED = {
    "ef_lstm": mmsa(
        names=PUBLISHED_NAMES,
        mosi={
            "model": {"hidden": 128, "layers": 4, "dropout": 0.5},
            "training": {"batch_size": 32, "learning_rate": 0.001, "weight_decay": 0.005},
        },
        mosei={
            "model": {"hidden": 256, "layers": 2, "dropout": 0.4},
            "training": {"batch_size": 128, "learning_rate": 0.005, "weight_decay": 0.0001},
        },
        sims={
            "model": {"hidden": 32, "layers": 3, "dropout": 0.5},
            "training": {"batch_size": 128, "learning_rate": 0.0005, "weight_decay": 0.001},
        },
    ),
}  # fmt: skip
