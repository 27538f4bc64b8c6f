"""Settings of MMML; combinations that mean nothing are refused by name (docs/systems/mmml.md#q6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.models.mmml.fusion import LETTERS, FusionShape, Version, published_fused
from demeanor.models.mmml.words import Pooling
from demeanor.models.published import Published

MODALITIES = {letter: name for name, letter in LETTERS.items()}


class MMMLSettings(Settings):
    """Which encoders, what of them is trained, how they are joined, and how much context they read."""

    text_encoder: str = Field(default="", description="minilm, folder or hub name; empty: the one that made the tokens")
    audio_encoder: str = Field(default="small", description="folder, hub name, or 'small' (randomly initialised)")
    text_configuration: dict[str, Any] = Field(default_factory=dict, description="build from this, without weights")
    audio_configuration: dict[str, Any] = Field(default_factory=dict, description="build from this, without weights")
    pooling: Pooling | None = Field(default=None, description="of the text; None: mean, under `reference` pooler")
    freeze_feature_encoder: bool | None = Field(
        default=None, description="audio convolutions; None: frozen if pretrained"
    )
    tune_text: int | None = Field(default=None, ge=0, description="last layers that are trained; None: all")
    tune_audio: int | None = Field(default=None, ge=0, description="last layers that are trained; None: all")
    lora_rank: int = Field(default=0, ge=0, description="train low-rank adapters instead of the encoders (needs peft)")
    fusion: Literal["cc", "cme"] = "cme"
    version: Version | None = Field(default=None, description="of cme without context; None: v1")
    layers: int | None = Field(default=None, ge=1, description="cross-modality layers; None: 5")
    width: int | None = Field(default=None, ge=8, description="of those layers; None: of the widest encoder")
    heads: int | None = Field(default=None, ge=1, description="None: width / 64")
    inner: int | None = Field(default=None, ge=1, description="feed-forward width; None: 4 * width")
    mixer_layers: int | None = Field(default=None, ge=1, description="v3; None: 3 (published for Chinese: 2)")
    mixer_heads: int | None = Field(default=None, ge=1, description="v3; None: as `heads`")
    mixer_inner: int | None = Field(default=None, ge=1, description="v3; None: 4/3 of twice the width")
    fused: tuple[int, ...] = Field(default=(), description="hidden widths of the joint head; empty: as published")
    dropout: float = Field(default=0.3, ge=0, lt=1)
    tasks: str = Field(default="", description="heads that are trained, of M, T, A, V; empty: all there are")
    task_weights: dict[str, float] = Field(default_factory=dict, description="letter -> weight of its loss, else 1")
    text_length: int = Field(default=96, ge=3, description="tokens; published: 96 English, 64 Chinese")
    seconds: float = Field(default=6.0, gt=0, description="of audio, from its beginning")
    pretrained_rate: float = Field(default=1.0, gt=0, description="learning rate of pretrained encoders, as a factor")
    gradient_checkpointing: bool = Field(default=False, description="recompute instead of keeping activations")
    cache_gigabytes: float = Field(default=0.0, ge=0, description="main memory for outputs of frozen convolutions")
    context: Literal["stream", "dialogue"] = Field(
        default="stream",
        description="stream: roles *_context, where given; dialogue: the turns before, in whole dialogues",
    )
    text_context: int | None = Field(default=None, ge=1, description="dialogue: turns before that are read; None: 2")
    audio_context: int | None = Field(default=None, ge=1, description="dialogue: turns before that are heard; None: 1")
    reference: bool = False

    @model_validator(mode="after")
    def _meaningful(self) -> MMMLSettings:
        problems = []
        if self.fusion == "cc":
            without = ("version", "layers", "width", "heads", "inner", "mixer_layers", "mixer_heads", "mixer_inner")
            problems += [
                f"{name}: fusion 'cc' has no cross-modality layers"
                for name in without
                if getattr(self, name) is not None
            ]
        elif self.version != "v3":
            mixers = ("mixer_layers", "mixer_heads", "mixer_inner")
            problems += [f"{name}: only version 'v3' has mixers" for name in mixers if getattr(self, name) is not None]
        if len(set(self.tasks)) != len(self.tasks) or not set(self.tasks) <= {"M", *MODALITIES}:
            problems.append(f"tasks '{self.tasks}': each of M, T, A, V at most once")
        heads = self.tasks or "".join(["M", *MODALITIES])
        problems += [f"task_weights: there is no task '{name}'" for name in self.task_weights if name not in heads]
        if self.lora_rank and (self.tune_text is not None or self.tune_audio is not None):
            problems.append("lora_rank: adapters replace tuning, leave tune_text and tune_audio unset")
        if self.context == "stream":
            problems += [
                f"{name}: only `context: dialogue` counts turns, a context stream is as long as it was made"
                for name in ("text_context", "audio_context")
                if getattr(self, name) is not None
            ]
        if problems:
            raise InputError("settings of MMML", problems)
        return self


def fusion_shape(
    settings: MMMLSettings, widths: Mapping[str, int], width: int, outputs: int, context: bool
) -> FusionShape:
    """The shape of the fusion for encoders of these `widths`, defaults filled in. InputError for heads that do not
    divide a width."""
    heads = settings.heads or max(width // 64, 1)
    problems = [f"heads: {heads} do not divide the width {width}"] if width % heads else []
    mixer_heads = settings.mixer_heads or heads
    if settings.version == "v3" and (2 * width) % mixer_heads:
        problems.append(f"mixer_heads: {mixer_heads} do not divide twice the width {width}")
    if problems:
        raise InputError("settings of MMML", problems)
    return FusionShape(
        widths=widths,
        outputs=outputs,
        kind=settings.fusion,
        version=settings.version or "v1",
        context=context,
        width=width,
        layers=settings.layers or 5,
        heads=heads,
        inner=settings.inner or 4 * width,
        fused=settings.fused or published_fused(settings.fusion, context, widths, width),
        mixer_layers=settings.mixer_layers or 3,
        mixer_heads=mixer_heads,
        mixer_inner=settings.mixer_inner or 8 * width // 3,
        dropout=settings.dropout,
    )


def tiny_speech() -> dict[str, Any]:
    """Configuration of a speech encoder for tests: a frame is two steps."""
    return {
        "model_type": "data2vec-audio", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 24, "conv_dim": [8, 8], "conv_kernel": [2, 2], "conv_stride": [2, 1],
        "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5,
        "num_conv_pos_embedding_groups": 2, "apply_spec_augment": False, "mask_time_prob": 0.0,
        "layerdrop": 0.0, "vocab_size": 32,
    }  # fmt: skip


# The program's defaults and its README (docs/systems/mmml.md#task, #training, #results): five cross-modality layers,
# two utterances of words and one of sound before. `reference: true` under `model` is the original's arithmetic: silence
# as history, the oldest words of a long context, decay of biases and norms.
_STREAMS = {"text": "text.tokens", "audio": "audio.waveform"}
_TRAINING = {
    "seeds": (1, 11, 111), "epochs": 100, "patience": 8, "selection": "loss", "batch_size": 8, "learning_rate": 5e-6,
    "weight_decay": 1e-2, "clip_norm": None, "precision": "bfloat16",
}  # fmt: skip
_PLAIN: dict[str, Any] = {
    "streams": _STREAMS,
    "model": {
        "text_encoder": "roberta-base", "audio_encoder": "facebook/data2vec-audio-base", "layers": 5, "version": "v1",
        "pooling": "pooler",
    },
    "training": _TRAINING,
}  # fmt: skip
_DIALOGUE: dict[str, Any] = {
    "streams": _STREAMS,
    "model": {
        "audio_encoder": "facebook/data2vec-audio-large-960h", "layers": 5, "pooling": "pooler", "context": "dialogue",
        "text_context": 2, "audio_context": 1, "gradient_checkpointing": True,
    },
    "training": {**_TRAINING, "batch_size": 1},
}  # fmt: skip
# Of CH-SIMS its authors published the learning rate alone; the rest are the program's defaults.
_SIMS: dict[str, Any] = {
    "streams": _STREAMS,
    "model": {
        "audio_encoder": "TencentGameMate/chinese-hubert-base", "layers": 5, "version": "v1", "pooling": "pooler",
        "text_length": 64,
    },
    "training": {**_TRAINING, "learning_rate": 1e-5},
}  # fmt: skip
_SOURCE = "the defaults of MMML's program and its README, docs/systems/mmml.md#training"
PUBLISHED = {
    "mmml": Published(
        _SOURCE,
        {
            "mosi": _PLAIN, "mosei": _PLAIN, "sims": _SIMS, "mosi_dialogue": _DIALOGUE, "mosei_dialogue": _DIALOGUE,
        },
    )
}  # fmt: skip
