"""Self-MM's text branch alone (arXiv:2102.04830): its encoder and its head for text, trained on the corpus' own label.

Generated labels tell apart what modalities say of one utterance; with words alone there is nothing to generate.
docs/systems/self_mm.md#heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, Role, System
from demeanor.models.blocks.layers import MissingModalityEmbedding
from demeanor.models.blocks.pooled_text import PooledText, PooledTextSettings
from demeanor.models.blocks.pseudo_labels import Head


class SelfMMTextSettings(PooledTextSettings):
    """Names and defaults as those of Self-MM (docs/systems/self_mm.md#settings)."""

    text_dimension: int = Field(default=32, gt=0)
    text_dropout: float = Field(default=0.1, ge=0, lt=1)
    text_learning_rate: float = Field(default=5e-5, gt=0, description="of a fine-tuned encoder")


class SelfMMText(System):
    """Self-MM's text branch alone: an encoder, a projection, one regression head (docs/systems/self_mm.md)."""

    card = Card(
        "Self-MM text only",
        "https://arxiv.org/abs/2102.04830",
        {"text": Role("text", kind="any", normalised=False, description="tokens (fine-tuned) or frozen word states")},
        tasks=("regression",),
    )
    Settings = SelfMMTextSettings

    def __init__(self, settings: SelfMMTextSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.text = PooledText(inputs["text"], settings)
        self.settings = settings.model_copy(update={"encoder_configuration": self.text.configuration})
        self.length_bucket = ("text",) if self.text.tokens else ()
        self.absence = MissingModalityEmbedding(self.text.dimension)
        self.head = Head(self.text.dimension, settings.text_dimension, settings.text_dropout)

    @classmethod
    def tiny(cls) -> SelfMMTextSettings:
        """Settings for tests."""
        return SelfMMTextSettings(text_dimension=8)

    def forward(self, batch: Batch) -> Output:
        pooled = self.text.pooled(batch["text"])
        feature, prediction = self.head(self.absence(pooled, batch["text"].present))
        return Output(prediction, representation=feature)

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """The encoder's two groups with its own rate, then the head (docs/systems/self_mm.md#optimisation)."""
        groups = self.text.parameter_groups(self.settings.text_learning_rate, weight_decay)
        groups.append({"params": list(self.head.parameters()), "lr": learning_rate, "weight_decay": weight_decay})
        groups.append({"params": list(self.absence.parameters()), "lr": learning_rate, "weight_decay": 0.0})
        return [group for group in groups if group["params"]]
