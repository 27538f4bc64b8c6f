"""Base of the systems whose text is either token ids through a fine-tuned encoder or frozen word states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Role, System
from demeanor.models.blocks.layers import zero_padding
from demeanor.models.blocks.subnets import as_published
from demeanor.models.blocks.text_encoder import TextEncoder, TextEncoderSettings

ROLES: Mapping[str, Role] = {
    "text": Role("text", kind="any", normalised=False, description="tokens (fine-tuned) or frozen word states"),
    "audio": Role("audio", description="frame features"),
    "vision": Role("vision", description="frame features"),
}
MODALITIES = ("text", "audio", "vision")


class EncodedSettings(TextEncoderSettings):
    """What every system with a text encoder can be told of it."""

    encoder_learning_rate: float = Field(default=5e-5, gt=0, description="of a fine-tuned encoder")
    reference: bool = Field(default=False, description="as published, padding taken for data and all")


class EncodedSystem(System):
    """`text_states` gives word states and their mask; `widths` the width of each modality as the system sees it."""

    settings: Any

    def __init__(self, settings: Any, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.encoder = TextEncoder(inputs["text"], settings.encoder, settings.finetune, settings.encoder_configuration)
        self.settings = settings.model_copy(update={"encoder_configuration": self.encoder.configuration})
        self.length_bucket = ("text",) if self.encoder.tokens else ()
        self.widths = {name: inputs[name].dimension for name in MODALITIES} | {"text": self.encoder.dimension}

    def text_states(self, batch: Batch) -> Padded:
        """As published, padded word states are data like any others."""
        states = Padded(*self.encoder(batch["text"]))
        if not self.settings.reference:
            return zero_padding(states)
        return as_published(states, None if self.encoder.tokens else self.inputs["text"].max_length)

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """The encoder's two groups with its own rate, then the rest as everywhere."""
        own = {id(value) for value in self.encoder.parameters()}
        rest = []
        for group in super().parameter_groups(learning_rate, weight_decay):
            rest.append({**group, "params": [value for value in group["params"] if id(value) not in own]})
        encoder = self.encoder.parameter_groups(self.settings.encoder_learning_rate, weight_decay)
        return [*(group for group in encoder if group["params"]), *rest]


#: Names of a published BERT -> ours, for `layers.load_renamed` with prefix "Model.".
TEXT_NAMES = {
    "text_model.model.pooler.": "",
    "text_model.model.embeddings.position_ids": "",
    "text_model.model.": "encoder.network.",
}
