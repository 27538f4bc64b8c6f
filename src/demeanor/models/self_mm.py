"""Self-MM: self-supervised multi-task learning, https://arxiv.org/abs/2102.04830 (Yu et al., AAAI 2021).

A fusion head and three unimodal heads; the unimodal heads learn labels that are generated from distances to class
centres while training (blocks/label_generation.py). docs/systems/self_mm.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, Role
from demeanor.models.blocks.label_generation import FUSION, MODALITIES, MODES
from demeanor.models.blocks.layers import LastState, MissingModalityEmbedding
from demeanor.models.blocks.pooled_text import PooledText, PooledTextSettings
from demeanor.models.blocks.pseudo_labels import PseudoLabelMultitask, PseudoLabelSettings
from demeanor.models.published import mmsa


class SelfMMSettings(PseudoLabelSettings, PooledTextSettings):
    """Defaults: the published setting for MOSI (docs/systems/self_mm.md#settings, as MMSA ships it)."""

    audio_hidden: int = Field(default=16, gt=0)
    vision_hidden: int = Field(default=32, gt=0)
    layers: int = Field(default=1, gt=0, description="of the recurrent encoders")
    audio_output: int = Field(default=16, gt=0)
    vision_output: int = Field(default=32, gt=0)
    recurrent_dropout: float = Field(default=0.0, ge=0, lt=1, description="on the last state of audio and vision")
    text_learning_rate: float = Field(default=5e-5, gt=0, description="of a fine-tuned encoder")
    audio_learning_rate: float | None = Field(default=None, gt=0, description="None: the training's own")
    vision_learning_rate: float | None = Field(default=None, gt=0, description="None: the training's own")
    other_learning_rate: float | None = Field(default=None, gt=0, description="None: the training's own")
    text_weight_decay: float | None = Field(default=None, ge=0, description="None: the training's own")
    audio_weight_decay: float | None = Field(default=None, ge=0, description="None: the training's own")
    vision_weight_decay: float | None = Field(default=None, ge=0, description="None: the training's own")
    other_weight_decay: float | None = Field(default=None, ge=0, description="None: the training's own")
    reference: bool = Field(
        default=False,
        description="published defects: empty classes give NaN, unimodal heads are decayed while they learn nothing",
    )


class SequenceEncoder(nn.Module):
    """LSTM over the true length, dropout, projection (docs/systems/self_mm.md#frame-encoder); absent rows get a learned
    vector."""

    def __init__(self, width: int, hidden: int, output: int, layers: int, dropout: float):
        super().__init__()
        self.recurrent = LastState(width, hidden, layers)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(hidden, output)
        self.absence = MissingModalityEmbedding(output)

    def forward(self, padded) -> Float[Tensor, "batch output"]:
        return self.absence(self.project(self.dropout(self.recurrent(padded))), padded.present)


#: Names of the published state dict -> ours, for `layers.load_renamed` with prefix "Model.".
PUBLISHED_NAMES = {
    "text_model.model.pooler.": "",
    "text_model.model.embeddings.position_ids": "",
    "text_model.model.": "text.network.",
    **{f"{theirs}_model.rnn.": f"{ours}.recurrent.rnn." for theirs, ours in (("audio", "audio"), ("video", "vision"))},
    **{f"{theirs}_model.linear_1.": f"{ours}.project." for theirs, ours in (("audio", "audio"), ("video", "vision"))},
    **{
        f"post_{'video' if mode == 'vision' else mode}_layer_{number}.": f"heads.{mode}.{layer}."
        for mode in MODES
        for number, layer in enumerate(("first", "second", "third"), 1)
    },
}


class SelfMM(PseudoLabelMultitask):
    """Three vectors and their fusion; the unimodal heads learn labels that the model itself generates."""

    card = Card(
        "Self-MM",
        "https://arxiv.org/abs/2102.04830",
        {
            "text": Role("text", kind="any", normalised=False, description="tokens (fine-tuned) or frozen word states"),
            "audio": Role("audio", description="frame features"),
            "vision": Role("vision", description="frame features"),
        },
        tasks=("regression",),
    )
    Settings = SelfMMSettings

    def __init__(self, settings: SelfMMSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.text = PooledText(inputs["text"], settings)
        self.settings = settings.model_copy(update={"encoder_configuration": self.text.configuration})
        self.length_bucket = ("text",) if self.text.tokens else ()
        self.text_absence = MissingModalityEmbedding(self.text.dimension)
        self.audio, self.vision = (
            SequenceEncoder(
                inputs[name].dimension,
                getattr(settings, f"{name}_hidden"),
                getattr(settings, f"{name}_output"),
                settings.layers,
                settings.recurrent_dropout,
            )
            for name in ("audio", "vision")
        )
        widths = {"text": self.text.dimension, "audio": settings.audio_output, "vision": settings.vision_output}
        widths = {FUSION: sum(widths.values()), **widths}
        self.add_heads(widths)

    @classmethod
    def tiny(cls) -> SelfMMSettings:
        """Settings for tests."""
        return SelfMMSettings(
            audio_hidden=6, vision_hidden=6, audio_output=5, vision_output=5,
            fusion_dimension=12, text_dimension=8, audio_dimension=6, vision_dimension=6,
        )  # fmt: skip

    def forward(self, batch: Batch) -> Output:
        text = self.text_absence(self.text.pooled(batch["text"]), batch["text"].present)
        states = {"text": text, "audio": self.audio(batch["audio"]), "vision": self.vision(batch["vision"])}
        states[FUSION] = torch.cat([states[mode] for mode in MODALITIES], dim=1)
        return self.output_of(states)

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Five groups (docs/systems/self_mm.md#optimisation). By default the unimodal heads are not decayed: in the
        first two epochs they have no loss yet, and Adam's coupled decay would shrink them to nothing
        (docs/systems/self_mm.md#d18)."""
        settings = self.settings

        def decay(name: str) -> float:
            own = getattr(settings, f"{name}_weight_decay")
            return weight_decay if own is None else own

        groups = self.text.parameter_groups(settings.text_learning_rate, decay("text"))
        for name in ("audio", "vision"):
            rate = getattr(settings, f"{name}_learning_rate") or learning_rate
            module = getattr(self, name)
            groups.append({"params": list(module.parameters()), "lr": rate, "weight_decay": decay(name)})
        rate = settings.other_learning_rate or learning_rate
        decayed = MODES if settings.reference else (FUSION,)
        heads = [value for mode in decayed for value in self.heads[mode].parameters()]
        groups.append({"params": heads, "lr": rate, "weight_decay": decay("other")})
        rest = [value for mode in MODES if mode not in decayed for value in self.heads[mode].parameters()]
        groups.append({"params": [*rest, *self.text_absence.parameters()], "lr": rate, "weight_decay": 0.0})
        return [group for group in groups if group["params"]]


PUBLISHED = {
    "self_mm": mmsa(
        {
            "audio_hidden": 16, "audio_output": 16, "vision_output": 32, "fusion_dimension": 128,
            "vision_dimension": 32, "vision_dropout": 0.0, "text_learning_rate": 5e-05,
            "other_learning_rate": 0.001,
        },
        training={"gradient_accumulation": 4, "drop_remainder": True, "learning_rate": 0.001},
        fine_tunes=True,
        names=PUBLISHED_NAMES,
        source="MMSA's config_regression.json, docs/systems/self_mm.md#settings (for SIMSv2 its H of 3 as well)",
        mosi={
            "model": {
                "vision_hidden": 32, "text_dimension": 32, "audio_dimension": 16, "fusion_dropout": 0.0,
                "text_dropout": 0.1, "audio_dropout": 0.1, "label_limit": 3.0, "audio_learning_rate": 0.005,
                "vision_learning_rate": 0.005, "text_weight_decay": 0.001, "audio_weight_decay": 0.001,
                "vision_weight_decay": 0.001, "other_weight_decay": 0.001,
            },
            "training": {"batch_size": 16, "weight_decay": 0.001},
        },
        mosei={
            "model": {
                "vision_hidden": 32, "text_dimension": 32, "audio_dimension": 16, "fusion_dropout": 0.1,
                "text_dropout": 0.0, "audio_dropout": 0.0, "label_limit": 3.0, "audio_learning_rate": 0.005,
                "vision_learning_rate": 0.0001, "text_weight_decay": 0.001, "audio_weight_decay": 0.0,
                "vision_weight_decay": 0.0, "other_weight_decay": 0.01,
            },
            "training": {"batch_size": 32, "weight_decay": 0.01},
        },
        sims={
            "model": {
                "vision_hidden": 64, "text_dimension": 64, "audio_dimension": 16, "fusion_dropout": 0.0,
                "text_dropout": 0.1, "audio_dropout": 0.1, "label_limit": 1.0, "audio_learning_rate": 0.005,
                "vision_learning_rate": 0.005, "text_weight_decay": 0.001, "audio_weight_decay": 0.01,
                "vision_weight_decay": 0.01, "other_weight_decay": 0.001,
            },
            "training": {"batch_size": 32, "weight_decay": 0.001},
        },
        simsv2={
            "model": {
                "vision_hidden": 64, "text_dimension": 64, "audio_dimension": 32, "fusion_dropout": 0.0,
                "text_dropout": 0.0, "audio_dropout": 0.1, "label_limit": 3.0, "audio_learning_rate": 0.001,
                "vision_learning_rate": 0.001, "text_weight_decay": 0.01, "audio_weight_decay": 0.0,
                "vision_weight_decay": 0.0, "other_weight_decay": 0.001,
            },
            "training": {"batch_size": 16, "weight_decay": 0.001},
        },
    ),
}  # fmt: skip
