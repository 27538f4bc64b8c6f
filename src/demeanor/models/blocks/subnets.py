"""The sub-networks of the early fusion models: time means through a small MLP, words through an LSTM.

Zadeh et al. 2017, https://arxiv.org/abs/1707.07250, section 3.1; docs/systems/mmsa.md#subnets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch, Padded
from demeanor.data.settings import Settings
from demeanor.models.base import Role, System, masked_mean
from demeanor.models.blocks.layers import LastState, MissingModalityEmbedding, zero_padding

ROLES: Mapping[str, Role] = {
    "text": Role("text", normalised=False, description="frozen word states"),
    "audio": Role("audio", description="frame features"),
    "vision": Role("vision", description="frame features"),
}


class SubnetSettings(Settings):
    """What LF-DNN, TFN, LMF and their multi-task forms share. Sizes: those of LF-DNN in MMSA on MOSI, which its number
    of parameters (597,171) gives away."""

    text_hidden: int = Field(default=128, gt=0, description="of the LSTM over words")
    audio_hidden: int = Field(default=16, gt=0)
    vision_hidden: int = Field(default=128, gt=0)
    text_output: int = Field(default=256, gt=0)
    fusion_hidden: int = Field(default=128, gt=0)
    text_dropout: float = Field(default=0.2, ge=0, lt=1, description="on the last state; the original's is always 0")
    audio_dropout: float = Field(default=0.2, ge=0, lt=1)
    vision_dropout: float = Field(default=0.2, ge=0, lt=1)
    fusion_dropout: float = Field(default=0.2, ge=0, lt=1)
    reference: bool = Field(default=False, description="padding taken for data, as published")


class PresentBatchNorm(nn.BatchNorm1d):
    """Batch normalisation whose statistics come from the rows that have the modality.

    A training batch with fewer than two such rows has no statistics of its own and uses the running ones, where the
    original stops with an error.
    """

    def forward(  # type: ignore[override]
        self, values: Float[Tensor, "batch dimension"], present: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch dimension"]:
        if not self.training:
            return super().forward(values)
        if int(present.sum()) < 2:
            return functional.batch_norm(
                values, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        if bool(present.all()):
            return super().forward(values)
        normalised = values.clone()
        normalised[present] = super().forward(values[present])
        return normalised


class FrameNetwork(nn.Module):
    """Time mean -> batch normalisation -> dropout -> three linear layers with relu; absent rows: a learned vector."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.norm = PresentBatchNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.third = nn.Linear(hidden, hidden)
        self.absence = MissingModalityEmbedding(hidden)

    def forward(self, padded: Padded) -> Float[Tensor, "batch hidden"]:
        values = self.norm(masked_mean(padded.values, padded.mask), padded.present)
        for layer in (self.first, self.second, self.third):
            values = functional.relu(layer(self.dropout(values) if layer is self.first else values))
        return self.absence(values, padded.present)


class WordNetwork(nn.Module):
    """Last state of an LSTM -> dropout -> linear layer; absent rows: a learned vector."""

    def __init__(self, width: int, hidden: int, output: int, dropout: float):
        super().__init__()
        self.recurrent = LastState(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(hidden, output)
        self.absence = MissingModalityEmbedding(output)

    def forward(self, padded: Padded) -> Float[Tensor, "batch output"]:
        return self.absence(self.project(self.dropout(self.recurrent(padded))), padded.present)


class SubnetSystem(System):
    """Base of LF-DNN, TFN and LMF: three sub-networks, `states` gives their outputs."""

    settings: Any
    length_bucket = ("text",)  # nearly all the work is the recurrence over words; frames are averaged

    def add_subnets(self, text_output: int) -> None:
        """Make `text`, `audio` and `vision`, the three sub-networks; the text's output has this width."""
        settings = self.settings
        dropout = 0.0 if settings.reference else settings.text_dropout
        self.text = WordNetwork(self.inputs["text"].dimension, settings.text_hidden, text_output, dropout)
        for name in ("audio", "vision"):
            hidden, dropout = (getattr(settings, f"{name}_{key}") for key in ("hidden", "dropout"))
            setattr(self, name, FrameNetwork(self.inputs[name].dimension, hidden, dropout))

    def states(self, batch: Batch) -> dict[str, Float[Tensor, "batch _"]]:
        """One vector per modality and utterance."""
        # The recurrence over words looks at real steps alone: no need to clean the largest stream for it.
        text = model_input(self, batch, "text") if self.settings.reference else batch["text"]
        streams = {"text": text, **{name: model_input(self, batch, name) for name in ("audio", "vision")}}
        return {name: getattr(self, name)(stream) for name, stream in streams.items()}

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """As published, every parameter is decayed; by default biases and normalisations are not."""
        if not self.settings.reference:
            return super().parameter_groups(learning_rate, weight_decay)
        return [{"params": list(self.parameters()), "lr": learning_rate, "weight_decay": weight_decay}]

    @classmethod
    def tiny(cls) -> Any:
        """Settings for tests."""
        sizes = {"text_hidden": 6, "audio_hidden": 4, "vision_hidden": 5, "text_output": 6, "fusion_hidden": 8}
        return cls.Settings.model_validate(sizes)


def model_input(system: System, batch: Batch, role: str) -> Padded:
    """A stream as the system is to see it: real steps, or padding taken for data where it is to be as published."""
    if getattr(system.settings, "reference", False):
        return as_published(zero_padding(batch[role]), system.inputs[role].max_length)
    return zero_padding(batch[role])


def as_published(padded: Padded, max_length: int | None) -> Padded:
    """Zeros up to the corpus-wide length (`max_length`, where it is set), and every step taken for a real one."""
    values = padded.values if padded.values.shape[1] else zero_padding(padded).values
    if max_length is not None and values.shape[1] < max_length:
        values = functional.pad(values, (0, 0, 0, max_length - values.shape[1]))
    return Padded(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))


#: Names of MMSA's sub-networks -> ours, for `layers.load_renamed` with prefix "Model.".
SUBNET_NAMES = {
    "text_subnet.rnn.": "text.recurrent.rnn.",
    "text_subnet.linear_1.": "text.project.",
    **{
        f"{theirs}_subnet.{layer}.": f"{ours}.{name}."
        for theirs, ours in (("audio", "audio"), ("video", "vision"))
        for layer, name in (("norm", "norm"), ("linear_1", "first"), ("linear_2", "second"), ("linear_3", "third"))
    },
}


def head_names(theirs: str, ours: str) -> dict[str, str]:
    """post_<theirs>_layer_1.. -> <ours>.first.., the names of a Perceptron."""
    layers = ("first", "second", "third")
    return {f"post_{theirs}_layer_{number}.": f"{ours}.{layer}." for number, layer in enumerate(layers, 1)}
