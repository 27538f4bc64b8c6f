"""MMML's text branch alone: the encoder and the head T of the whole system, with or without what was said before.

docs/systems/mmml.md#text-encoder, #context: dropout and one linear layer over the pooled utterance and, beside it, the
pooled context. `reference` decays every parameter, as the original does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, Role, System
from demeanor.models.blocks.text_encoder import named_encoder
from demeanor.models.mmml.fusion import perceptron
from demeanor.models.mmml.inputs import Keep, cut_tokens, stacked
from demeanor.models.mmml.sources import build_encoder
from demeanor.models.mmml.words import Pooling, WordEncoder


class MMMLTextSettings(Settings):
    """Which encoder, how its states become one vector, and how much of it is trained (docs/systems/mmml.md)."""

    text_encoder: str = Field(default="", description="minilm, folder or hub name; empty: the one that made the tokens")
    text_configuration: dict[str, Any] = Field(default_factory=dict, description="build from this, without weights")
    pooling: Pooling | None = Field(default=None, description="None: mean, under `reference` pooler")
    tune_text: int | None = Field(default=None, ge=0, description="last layers that are trained; None: all")
    text_length: int = Field(default=96, ge=3, description="tokens")
    dropout: float = Field(default=0.3, ge=0, lt=1)
    pretrained_rate: float = Field(default=1.0, gt=0, description="learning rate of the encoder, as a factor")
    reference: bool = False


class MMMLText(System):
    """Tokens of an utterance and, where the stream is given, of the turns before, through one encoder."""

    card = Card(
        "MMML text only",
        "arXiv:2308.00264",
        {
            "text": Role("text", "tokens", description="token ids of a Hugging Face tokenizer, special ones included"),
            "text_context": Role(
                "text", "tokens", required=False, description="tokens of the turns before, as `hf_context_tokens` makes"
            ),
        },
    )
    Settings = MMMLTextSettings
    settings: MMMLTextSettings
    length_bucket = ("text",)

    def __init__(self, settings: MMMLTextSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.roles = [role for role in self.card.roles if role in inputs]
        name = settings.text_encoder or ("" if settings.text_configuration else named_encoder(inputs["text"]))
        network, configuration, _ = build_encoder("text encoder", name, settings.text_configuration)
        pooling: Pooling = settings.pooling or ("pooler" if settings.reference else "mean")
        self.words = WordEncoder(network, pooling, settings.tune_text)
        self.head = perceptron(len(self.roles) * self.words.dimension, (), task.outputs, settings.dropout)
        self.keep: Keep = "oldest" if settings.reference else "newest"
        self.settings = settings.model_copy(update={"text_encoder": name, "text_configuration": configuration})

    @classmethod
    def tiny(cls) -> MMMLTextSettings:
        """Settings for tests."""
        configuration = {
            "model_type": "bert", "vocab_size": 1000, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 128,
        }  # fmt: skip
        return MMMLTextSettings(text_configuration=configuration, dropout=0.1)

    def forward(self, batch: Batch) -> Output:
        limit = self.settings.text_length
        parts = [cut_tokens(batch[role].tokens, batch[role].mask, limit, self.keep) for role in self.roles]
        pooled = torch.cat(self.words(*stacked(parts)).pooled.split(len(batch)), dim=1)
        return Output(self.head(pooled), representation=pooled)

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """The encoder at its own rate, then the head; under `reference` biases and norms are decayed, too."""
        encoder = {id(value) for value in self.words.parameters()}
        groups = []
        for group in super().parameter_groups(learning_rate, weight_decay):
            decay = weight_decay if self.settings.reference else group["weight_decay"]
            for inside in (True, False):
                chosen: list[Tensor] = [value for value in group["params"] if (id(value) in encoder) == inside]
                rate = learning_rate * (self.settings.pretrained_rate if inside else 1.0)
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
        return [group for group in groups if group["params"]]
