"""One modality alone: the yardstick that a fusion has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, Role, System
from demeanor.models.blocks.layer_mix import LayerMix, LayerStack
from demeanor.models.blocks.layers import StatisticsEncoder


class UnimodalSettings(Settings):
    """The width, and how the layers of an encoder are mixed where steps are layers."""

    hidden: int = Field(default=64, gt=0, description="width of the pooled representation")
    dropout: float = Field(default=0.2, ge=0, lt=1)
    layers: int = Field(
        default=0,
        ge=0,
        description="steps are so many layers of an encoder, mixed by learnt weights under a linear head (`hidden` is "
        "unused then); 0: statistics over steps of any number",
    )
    stacked: tuple[int, ...] = Field(
        default=(), description="of the `layers` those (from 0) that stand side by side; the rest is not read: no mix"
    )

    @model_validator(mode="after")
    def _layers_that_are_there(self) -> UnimodalSettings:
        wrong = [str(layer) for layer in self.stacked if not 0 <= layer < self.layers]
        if wrong:
            raise ValueError(f"stacked: there is no {', '.join(wrong)} among {self.layers} layers, counted from 0")
        return self


class Unimodal(System):
    """Mean, deviation and attention pooling of one stream, then a head; what is absent is a learned vector.

    With `layers`, one learnt mix of an encoder's layers and a linear head: a linear probe that chooses its layers. With
    `stacked` too, these layers side by side instead.
    """

    modality: Literal["text", "audio", "vision"]
    Settings = UnimodalSettings

    def __init__(self, settings: UnimodalSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        dimension = inputs[self.modality].dimension
        self.encoder: nn.Module
        if settings.stacked:
            self.encoder = LayerStack(settings.layers, settings.stacked, dimension)
        elif settings.layers:
            self.encoder = LayerMix(settings.layers, dimension)
        else:
            self.encoder = StatisticsEncoder(dimension, settings.hidden, settings.dropout)
        width = dimension * max(len(settings.stacked), 1) if settings.layers else settings.hidden
        self.head = nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(width, task.outputs))

    @classmethod
    def tiny(cls) -> UnimodalSettings:
        """Settings for tests."""
        return UnimodalSettings(hidden=8, dropout=0.1)

    def forward(self, batch: Batch) -> Output:
        representation = self.encoder(batch[self.modality])
        return Output(self.head(representation), representation=representation)


def _card(modality: Literal["text", "audio", "vision"]) -> Card:
    # Pretrained text vectors are on a useful scale already; frame features are in many units.
    role = Role(modality, normalised=modality != "text", description=f"any features of {modality}: steps or one vector")
    return Card(f"{modality.capitalize()} only", "", {modality: role})


class TextOnly(Unimodal):
    """What the words alone say."""

    modality = "text"
    card = _card("text")


class AudioOnly(Unimodal):
    """What the voice alone says."""

    modality = "audio"
    card = _card("audio")


class VisionOnly(Unimodal):
    """What the face alone says."""

    modality = "vision"
    card = _card("vision")
