"""TETFN: text enhanced transformer fusion. Wang et al. 2023, https://doi.org/10.1016/j.patcog.2022.109259.

Crossmodal transformers as in MulT, but audio and vision meet through the text: the other modality first asks the text,
then the modality asks the answer. Labels of the single modalities are generated as in Self-MM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.kernels.lstm import LSTM
from demeanor.models.base import Card, Output
from demeanor.models.blocks.crossmodal import ENCODER_NAMES, CrossmodalEncoder, Projection
from demeanor.models.blocks.encoded_text import MODALITIES, ROLES, TEXT_NAMES, EncodedSettings, EncodedSystem
from demeanor.models.blocks.label_generation import FUSION
from demeanor.models.blocks.layers import AbsentStep, last_step, zero_padding
from demeanor.models.blocks.pseudo_labels import PseudoLabelMultitask, PseudoLabelSettings
from demeanor.models.blocks.subnets import head_names, model_input
from demeanor.models.published import mmsa


class TETFNSettings(PseudoLabelSettings, EncodedSettings):
    """Sizes of the recurrences and transformers."""

    audio_hidden: int = Field(default=32, gt=0, description="of the LSTM")
    vision_hidden: int = Field(default=64, gt=0)
    dimension: int = Field(default=40, gt=0)
    heads: int = Field(default=8, gt=0)
    levels: int = Field(default=2, gt=0, description="layers of every transformer")
    text_kernel: int = Field(default=5, gt=0)
    audio_kernel: int = Field(default=5, gt=0)
    vision_kernel: int = Field(default=5, gt=0, description="the original takes the audio's")
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    relu_dropout: float = Field(default=0.1, ge=0, lt=1)
    residual_dropout: float = Field(default=0.1, ge=0, lt=1)
    embedding_dropout: float = Field(default=0.1, ge=0, lt=1)


class ModalityEncoder(nn.Module):
    """LSTM (audio, vision) and convolution; absent rows get a learned step."""

    def __init__(self, width: int, hidden: int | None, dimension: int, kernel: int, reference: bool):
        super().__init__()
        self.rnn = LSTM(width, hidden, batch_first=True) if hidden else None
        self.project = Projection(hidden or width, dimension, kernel, reference)
        self.absence = AbsentStep(dimension)

    def forward(self, padded: Padded) -> Padded:
        if self.rnn is not None:
            states, _ = self.rnn(padded.values)
            padded = Padded(states, padded.mask)
        return self.absence(self.project(zero_padding(padded)))


class TETFN(PseudoLabelMultitask, EncodedSystem):
    """Text-enhanced transformers between modalities, over pseudo labels as in Self-MM."""

    card = Card("TETFN", "https://doi.org/10.1016/j.patcog.2022.109259", ROLES, tasks=("regression",))
    Settings = TETFNSettings

    def __init__(self, settings: TETFNSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        dimension = settings.dimension
        self.prepare = nn.ModuleDict(
            {
                name: ModalityEncoder(
                    self.widths[name],
                    None if name == "text" else getattr(settings, f"{name}_hidden"),
                    dimension,
                    getattr(settings, f"{name}_kernel"),
                    settings.reference,
                )
                for name in MODALITIES
            }
        )
        levels = settings.levels
        self.crossings = nn.ModuleDict(
            {
                name: self.stack(dimension, levels)
                for name in ("text_from_audio", "text_from_vision", "audio_from_text", "vision_from_text")
            }
        )
        for one, other in (("audio", "vision"), ("vision", "audio")):
            lower, upper = self.stack(dimension, 1, positions=True), self.stack(dimension, levels, positions=True)
            self.crossings[f"{one}_from_{other}"] = nn.ModuleDict({"lower": lower, "upper": upper})
        self.memories = nn.ModuleDict({name: self.stack(2 * dimension, levels) for name in MODALITIES})
        self.add_heads({FUSION: 6 * dimension, **dict.fromkeys(MODALITIES, dimension)})

    def stack(self, dimension: int, layers: int, positions: bool = False) -> CrossmodalEncoder:
        """A transformer with this model's heads and dropouts."""
        s = self.settings
        dropouts = (s.attention_dropout, s.relu_dropout, s.residual_dropout, s.embedding_dropout)
        return CrossmodalEncoder(dimension, s.heads, layers, *dropouts, positions=positions)

    @classmethod
    def tiny(cls) -> TETFNSettings:
        """Settings for tests."""
        return TETFNSettings(
            audio_hidden=4, vision_hidden=4, dimension=6, heads=2, levels=1, fusion_dimension=12, text_dimension=8,
            audio_dimension=6, vision_dimension=6,
        )  # fmt: skip

    def forward(self, batch: Batch) -> Output:
        streams = {"text": self.text_states(batch)} | {
            name: model_input(self, batch, name) for name in ("audio", "vision")
        }
        streams = {name: self.prepare[name](value) for name, value in streams.items()}
        pairs = {"text": ("audio", "vision"), "audio": ("text", "vision"), "vision": ("text", "audio")}
        last = []
        for name, others in pairs.items():
            crossed = torch.cat([self.crossed(name, other, streams).values for other in others], dim=2)
            memory = self.memories[name](Padded(crossed, streams[name].mask), causal=True)
            last.append(last_step(memory.values, memory.mask))
        states = {name: greatest(value) for name, value in streams.items()}
        return self.output_of({**states, FUSION: torch.cat(last, dim=1)})

    def crossed(self, name: str, other: str, streams: Mapping[str, Padded]) -> Padded:
        """name <- other; between audio and vision the other asks the text first."""
        crossing: Any = self.crossings[f"{name}_from_{other}"]
        if "text" in (name, other):
            return crossing(streams[name], streams[other], causal=True)
        attended = crossing["lower"](streams[other], streams["text"], causal=True)
        return crossing["upper"](streams[name], attended, causal=True)


def greatest(padded: Padded) -> Float[Tensor, "batch dimension"]:
    """Maximum over real steps."""
    least = torch.finfo(padded.values.dtype).min
    return padded.values.masked_fill(~padded.mask.unsqueeze(-1), least).amax(dim=1)


_SHORT = {"l": "text", "a": "audio", "v": "vision"}
PUBLISHED_NAMES = {
    **ENCODER_NAMES,
    **TEXT_NAMES,
    **{f"{theirs}_model.rnn.": f"prepare.{ours}.rnn." for theirs, ours in (("audio", "audio"), ("video", "vision"))},
    "audio_model.conv.": "prepare.audio.project.convolution.",
    "video_model.conv.": "prepare.vision.project.convolution.",
    "proj_l.": "prepare.text.project.convolution.",
    **{f"trans_{x}_with_{y}.": f"crossings.{_SHORT[x]}_from_{_SHORT[y]}." for x in _SHORT for y in _SHORT if x != y},
    **{f"trans_{x}_with_{y}.version": "" for x in _SHORT for y in _SHORT},
    **{
        f"trans_{x}_with_{y}.{level}_mha.{left_out}": ""
        for x, y in ("av", "va")
        for level in ("lower", "upper")
        for left_out in ("version", "embed_positions.")
    },
    **{
        f"trans_{x}_with_{y}.{level}_mha.": f"crossings.{_SHORT[x]}_from_{_SHORT[y]}.{level}."
        for x, y in ("av", "va")
        for level in ("lower", "upper")
    },
    **{f"trans_{x}_mem.": f"memories.{name}." for x, name in _SHORT.items()},
    **{f"trans_{x}_mem.version": "" for x in _SHORT},
    **head_names("fusion", "heads.fusion"),
    **head_names("text", "heads.text"),
    **head_names("audio", "heads.audio"),
    **head_names("video", "heads.vision"),
}

PUBLISHED = {
    "tetfn": mmsa(
        {"encoder_learning_rate": 5e-05},
        training={"batch_size": 16, "gradient_accumulation": 4, "learning_rate": 0.001, "weight_decay": 0.001},
        fine_tunes=True,
        names=PUBLISHED_NAMES,
        source="not in MMSA 2.2.1: our own choice",
        mosi={},
        mosei={},
        sims={},
    ),
}  # fmt: skip
