"""Settings of TAB fusion; combinations that mean nothing are refused by name."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.models.mmml.words import Pooling
from demeanor.models.published import Published


class TabFusionSettings(Settings):
    """What each branch reads, how the window is weighed, and which losses are added."""

    context: Literal["stream", "dialogue"] = Field(
        default="stream", description="stream: windows that hf_context made; dialogue: gathered from sentence vectors"
    )
    before: int | None = Field(
        default=None, ge=0, le=64, description="turns before; None: all that the stream holds, of a dialogue 3"
    )
    after: int | None = Field(default=None, ge=0, le=64, description="turns after, likewise; 0: the past alone")
    slots: int | None = Field(default=None, ge=1, description="of a context stream whose maker does not tell them")
    heads: int = Field(default=5, ge=1, description="weightings of the context window")
    projection: int = Field(default=64, ge=1, description="width of a turn inside the context branch")
    attention: int = Field(default=64, ge=1, description="width of the context attention")
    context_dropout: float = Field(default=0.5, ge=0, lt=1, description="on the weighted turns")
    hidden: int = Field(default=128, ge=1, description="width of the fusion layer")
    dropout: float = Field(default=0.3, ge=0, lt=1, description="around the fusion layer; the published one has none")
    encoder: str = Field(default="", description="of text tokens: minilm, a folder, a hub id; empty: by provenance")
    encoder_configuration: dict[str, Any] = Field(default_factory=dict, description="build from this, without weights")
    speech_encoder: str = Field(default="", description="of audio tokens: the folder that import-checkpoint wrote")
    speech_configuration: dict[str, Any] = Field(default_factory=dict, description="build from this, without weights")
    tune_text: int | None = Field(default=0, ge=0, description="trained layers from the last; 0: frozen; None: all")
    tune_speech: int | None = Field(default=0, ge=0, description="the same for the encoder of audio tokens")
    encoder_learning_rate: float = Field(default=1e-5, gt=0, description="of what is trained of the encoders")
    text_length: int | None = Field(default=None, ge=3, description="tokens, </s> kept; None: the encoder's positions")
    audio_length: int | None = Field(default=None, ge=3, description="tokens, </s> kept; None: the encoder's positions")
    pooling: Pooling | None = Field(default=None, description="of token states; None: mean, under `reference` first")
    feature_pooling: Literal["attention", "mean"] = Field(default="attention", description="of streams of features")
    loss: Literal["cross_entropy", "multi_margin"] | None = Field(
        default=None, description="of classification; None: cross_entropy, under `reference` multi_margin"
    )
    margin: float = Field(default=0.4, gt=0, description="of multi_margin")
    penalty: float = Field(default=0.0, ge=0, description="weight of ||A A^T - I||, 0.3 where it is published")
    class_weights: Literal["balanced", "none"] = Field(default="none", description="of the classification loss")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="of cross_entropy: spread over all classes")
    cached: bool = Field(default=True, description="run a frozen encoder once per utterance instead of every epoch")
    cache: str = Field(default="", description="folder that keeps frozen encoders' vectors from run to run")
    reference: bool = Field(default=False, description="the published code's behaviour where ours differs")

    @model_validator(mode="after")
    def _meaningful(self) -> TabFusionSettings:
        problems = []
        if self.cache and not self.cached:
            problems.append("cache: a folder is named, but `cached` is false")
        if self.slots is not None and self.slots % 2 == 0:
            problems.append(f"slots {self.slots}: a centred window has an odd number")
        if self.context == "dialogue" and self.slots is not None:
            problems.append("slots: windows are gathered from the dialogue, set `before` and `after`")
        if problems:
            raise InputError("settings of TAB fusion", problems)
        return self

    @property
    def margins(self) -> bool:
        """Is a classification trained with margins?"""
        return (self.loss or ("multi_margin" if self.reference else "cross_entropy")) == "multi_margin"

    def check(self, task: Task) -> list[str]:
        """What of these settings the task has no use for."""
        if task.kind == "classification":
            return []
        problems = []
        if self.loss == "multi_margin":
            problems.append(f"loss: multi_margin is for one of several classes, not for {task.kind}")
        if self.label_smoothing:
            problems.append(f"label_smoothing: there are no classes to spread a label over in {task.kind}")
        if self.class_weights != "none":
            problems.append(f"class_weights: there are no classes to balance in {task.kind}")
        return problems


PUBLISHED = {
    "tab_fusion": Published(
        "docs/systems/tab_fusion.md#training",
        {
            "iemocap": {
                "streams": {"text": "text.tokens", "audio": "audio.tokens", "context": "text.context"},
                "model": {
                    "encoder": "roberta-large", "speech_encoder": "speech", "audio_length": 1024, "text_length": 256,
                    "reference": True,
                },
                "training": {
                    "seeds": (1, 2, 3), "epochs": 100, "patience": 10, "selection": "loss", "batch_size": 16,
                    "learning_rate": 5e-5, "weight_decay": 0.0, "clip_norm": None,
                },
            }
        },
    )
}  # fmt: skip
