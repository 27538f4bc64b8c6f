"""Multilogue-Net: who said what before, in three modalities, and what it does to how each utterance is meant.

Shenoy and Sardana 2020, "Multilogue-Net: A Context Aware RNN for Multi-modal Emotion Detection and Sentiment
Analysis in Conversation", https://arxiv.org/abs/2002.08267. For each modality and each direction of time a
recurrence keeps a context of the dialogue, a state per party and an emotion; pairwise attention compares the
modalities over the dialogue; a linear head reads all of it for each utterance.

By default the system differs from the published code in what follows (docs/systems/multilogue_net.md#differences
numbers the code's quirks); `reference: true` is the published behaviour, to the last digit.

* Attention leaves out padding (1). In the published code an utterance's output depends on how long the longest
  dialogue of its batch is: five steps of padding move log-probabilities by 0.08, in small cases by up to 1.0.
* Each modality's context reads that modality's own features, as in the paper's figure (2); the published code feeds
  text to all three. `context: text` is the published choice.
* Where speakers are known each has an emotion chain, as in the paper's figure (3); the published code runs one
  through the whole dialogue. `emotion_chain: dialogue` is the published choice. A dialogue with one speaker, or with
  unknown speakers only, is the same under both. Unknown speakers of a dialogue count as one further party.
* Any number of parties (13, 15): states follow links between a speaker's utterances. The published code maps
  speakers to two hard-coded slots, by name.
* Class weights come from the training labels, inverse to their frequency (6). The published tables are constants,
  which for all six emotions up-weight the more frequent class if label 1 means present.
* The regression reads both directions and rectifies like the classifier (11), is trained on the absolute error and
  is not bounded; `bounded: true` squashes it into the task's range. The published one reads forwards only, is
  trained on the squared error and ends in 3 tanh.
* The dropout of 0.65 on emotion states, in the published code the hidden sum dropout + 0.15, has a name (20).
* A modality that was not recorded contributes nothing: its recurrence sees zeros (the mean, features being
  standardised), its states are zero in attention and head, and nobody attends to them. The published code needs all
  three.
* Several labels at once have one head each on the same trunk ("multilabel"). The published code trains a network of
  its own for each emotion, which is one "classification" branch per emotion here.
* `causal: true` drops the backward direction and lets attention see the past alone: an earlier prediction never
  changes when the dialogue goes on. The published code has no such mode.
* Text may be token ids: then a sentence encoder is trained along, `encoder_learning_rate` apart. The published code
  reads vectors that were made before.
* What they are worth: on MOSI's utterance features (one speaker each, swap noise in validation, accuracy, three seeds)
  the default reaches .776 +- .009, with `context: text` .779, all of `reference` .777, `causal` .765: there they decide
  what may be said of a prediction, not how often it is right.
* Epochs are chosen on validation dialogues by the training loop; the published scripts choose on test (4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.data.task import IGNORED, Task
from demeanor.models.base import Card, Output, Role, System, masked_mean
from demeanor.models.blocks.layers import AttentionPooling, zero_padding
from demeanor.models.blocks.text_encoder import TextEncoder
from demeanor.models.multilogue.network import MODALITIES, MultilogueNetwork
from demeanor.models.multilogue.published import load_reference

#: Utterances that pass the sentence encoder at once: enough to fill the matrix products, few enough to pad little.
ENCODED_TOGETHER = 64


class MultilogueNetSettings(Settings):
    """Sizes of the states, the dropouts, and what is read of a dialogue."""

    context_size: int = Field(default=150, gt=0, description="width of the dialogue context (D_g)")
    party_size: int = Field(default=150, gt=0, description="width of a party's state (D_p)")
    emotion_size: int = Field(default=100, gt=0, description="width of the emotion state (D_e)")
    fused_size: int = Field(default=100, gt=0, description="width of a modality's state before fusion (D_h)")
    input_dropout: float = Field(default=0.0, ge=0, lt=1, description="on utterance vectors; not in the paper")
    recurrent_dropout: float = Field(default=0.1, ge=0, lt=1, description="on context, party and emotion, each step")
    emotion_dropout: float = Field(default=0.65, ge=0, lt=1, description="on emotion states")
    fused_dropout: float = Field(default=0.5, ge=0, lt=1, description="on the modalities' states before fusion")
    pooling: Literal["mean", "attention"] = Field(default="mean", description="of a stream's steps to one vector")
    context: Literal["own", "text"] = Field(default="own", description="what the dialogue contexts read")
    emotion_chain: Literal["party", "dialogue"] = "party"
    causal: bool = Field(default=False, description="no utterance sees a later one: for live use")
    bounded: bool = Field(default=False, description="squash a regression into the task's range")
    class_weights: Literal["balanced", "none"] | tuple[float, ...] = Field(
        default="balanced", description="of classification; balanced: inverse to frequency in the training labels"
    )
    encoder: str = Field(default="", description="of token streams: minilm, a folder, a hub id; empty: by provenance")
    encoder_configuration: dict[str, Any] = Field(
        default_factory=dict, description="filled in by the system itself: rebuilds the encoder without its weights"
    )
    finetune: bool = Field(default=True, description="train the sentence encoder of a token stream")
    encoder_learning_rate: float = Field(default=3e-5, gt=0, description="of a fine-tuned sentence encoder")
    reference: bool = Field(default=False, description="the published code's behaviour; overrides what it differs in")

    @model_validator(mode="after")
    def _consistent(self) -> MultilogueNetSettings:
        if self.reference and self.causal:
            raise ValueError("the published code has no causal mode: leave out either `reference` or `causal`")
        return self


class MultilogueNet(System):
    """Context, party and emotion states of every turn, per modality, fused pair by pair."""

    card = Card(
        "Multilogue-Net",
        "https://arxiv.org/abs/2002.08267",
        {
            "text": Role(
                "text", required=False, kind="any", description="sentence vectors, word states to pool, or token ids"
            ),
            "audio": Role("audio", required=False, description="functionals, or frame features to pool"),
            "vision": Role("vision", required=False, description="one vector per utterance, or frames to pool"),
        },
        batching="dialogue",
    )
    Settings = MultilogueNetSettings
    training_buffers = ("class_weights",)
    class_weights: Tensor

    def __init__(self, settings: MultilogueNetSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.modalities = tuple(name for name in MODALITIES if name in inputs)
        reference, regression = settings.reference, task.kind == "regression"
        by_text = reference or settings.context == "text"
        problems = []
        if not self.modalities:
            problems.append("it is given no stream; give at least one of text, audio, vision")
        elif by_text and "text" not in self.modalities:
            problems.append("the dialogue contexts are to read text, but there is no text stream; set `context: own`")
        if isinstance(settings.class_weights, tuple) and len(settings.class_weights) != task.outputs:
            problems.append(f"{len(settings.class_weights)} class weights for {task.outputs} classes")
        if problems:
            raise InputError(self.card.title, problems)
        sizes = {name: inputs[name].dimension for name in self.modalities}
        self.encoder: TextEncoder | None = None
        if "text" in self.modalities and inputs["text"].integer:
            self.encoder = TextEncoder(
                inputs["text"], settings.encoder, settings.finetune, settings.encoder_configuration
            )
            self.settings = settings.model_copy(update={"encoder_configuration": self.encoder.configuration})
            sizes["text"] = self.encoder.dimension
        self.context_of = {name: "text" if by_text else name for name in self.modalities}
        self.bounded = regression and (settings.bounded or reference)
        self.pooling = nn.ModuleDict(
            {name: AttentionPooling(sizes[name]) for name in self.modalities if settings.pooling == "attention"}
        )
        self.input_dropout = nn.Dropout(settings.input_dropout)
        self.network = MultilogueNetwork(
            sizes,
            {name: sizes[source] for name, source in self.context_of.items()},
            task.outputs,
            settings.context_size,
            settings.party_size,
            settings.emotion_size,
            settings.fused_size,
            bidirectional=not settings.causal and not (reference and regression),
            rectified=not (reference and regression),
            masked=not reference,
            causal=settings.causal,
            emotion_chain="dialogue" if reference else settings.emotion_chain,
            recurrent_dropout=settings.recurrent_dropout,
            emotion_dropout=settings.emotion_dropout,
            fused_dropout=settings.fused_dropout,
        )
        weights = torch.ones(2 if task.kind == "multilabel" else 1, task.outputs)
        if isinstance(settings.class_weights, tuple):
            weights[-1] = torch.tensor(settings.class_weights)
        self.register_buffer("class_weights", weights)

    @classmethod
    def tiny(cls) -> MultilogueNetSettings:
        """Settings for tests."""
        return MultilogueNetSettings(context_size=6, party_size=7, emotion_size=5, fused_size=4)

    def forward(self, batch: Batch) -> Output:
        """prediction [B, outputs]; representation [B, fused]: what the head reads."""
        vectors = {name: self.input_dropout(self.vector(name, batch)) for name in self.modalities}
        present = torch.stack([batch[name].present for name in self.modalities])
        layout = self.network.layout(batch.dialogue, batch.turn, batch.speaker)
        contexts = {name: vectors[source] for name, source in self.context_of.items()}
        prediction, fused = self.network(layout, vectors, contexts, present)
        if not self.network.masked:
            rows = batch.dialogue * layout.longest + batch.turn
            prediction, fused = prediction[rows], fused[rows]
        if self.bounded:
            low, high = self.task.low, self.task.high
            prediction = (low + high) / 2 + (high - low) / 2 * torch.tanh(prediction)
        return Output(prediction, representation=fused)

    def vector(self, name: str, batch: Batch) -> Float[Tensor, "batch dimension"]:
        """One vector per utterance; zeros where the modality is absent."""
        if name == "text" and self.encoder is not None:
            return self.encoded(self.encoder, batch[name])
        padded = zero_padding(batch[name])
        return self.pooled(name, padded.values.to(self.network.head.weight.dtype), padded.mask)

    def pooled(
        self, name: str, values: Float[Tensor, "batch time dimension"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dimension"]:
        """A stream's steps as one vector: by its attention, or their mean."""
        return self.pooling[name](values, mask) if name in self.pooling else masked_mean(values, mask)

    def encoded(self, encoder: TextEncoder, padded: Padded) -> Float[Tensor, "batch dimension"]:
        """Sentence vectors of token ids. Utterances of like length pass together: dialogues mix long and short."""
        lengths = padded.mask.sum(dim=1)
        order = torch.argsort(lengths, stable=True)
        vectors = []
        for rows in order.split(ENCODED_TOGETHER):
            longest = max(1, int(lengths[rows[-1]]))
            states, mask = encoder(Padded(padded.values[rows, :longest], padded.mask[rows, :longest]))
            vectors.append(self.pooled("text", states, mask))
        return torch.cat(vectors)[torch.argsort(order)]

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """docs/systems/multilogue_net.md#losses: weighted means over the labelled utterances."""
        prediction, target = output.prediction, batch.target
        if self.task.kind == "classification":
            return {
                "total": weighted_mean(
                    functional.cross_entropy(prediction, target.clamp(min=0), reduction="none"),
                    self.class_weights[0][target.clamp(min=0)] * (target != IGNORED),
                )
            }
        known = ~torch.isnan(target)
        target = torch.nan_to_num(target)
        if self.task.kind == "regression":
            errors = prediction[:, 0] - target
            return {"total": weighted_mean(errors.square() if self.settings.reference else errors.abs(), known)}
        errors = functional.binary_cross_entropy_with_logits(prediction, target, reduction="none")
        weights = torch.where(target > 0, self.class_weights[1], self.class_weights[0]) * known
        heads = [weighted_mean(errors[:, n], weights[:, n]) for n in range(self.task.outputs)]
        return {"total": torch.stack(heads).mean()}

    def on_train_start(self, batches: Callable[[], Iterable[Batch]], examples: int) -> None:
        """Count the training labels for `class_weights: balanced`."""
        if self.settings.class_weights != "balanced" or self.task.kind == "regression":
            return
        counts = torch.zeros_like(self.class_weights)
        for batch in batches():
            target = batch.target
            if self.task.kind == "classification":
                counts[0] += torch.bincount(target[target != IGNORED], minlength=self.task.outputs)
            else:
                counts[0] += (target == 0).sum(dim=0)
                counts[1] += (target == 1).sum(dim=0)
        over = 1 if self.task.kind == "classification" else 0
        share = counts.sum(dim=over, keepdim=True) / (counts.shape[over] * counts.clamp(min=1))
        self.class_weights.copy_(torch.where(counts > 0, share, torch.ones_like(share)))

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Biases are not decayed, also where those of several cores share a matrix; in the published code all are."""
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        groups = (
            []
            if self.encoder is None
            else self.encoder.parameter_groups(self.settings.encoder_learning_rate, weight_decay)
        )
        for name, parameter in self.named_parameters():
            if name.startswith("encoder."):
                continue
            decay = self.settings.reference or not name.endswith("bias")
            (decayed if decay else free).append(parameter)
        return [
            {"params": decayed, "lr": learning_rate, "weight_decay": weight_decay},
            {"params": free, "lr": learning_rate, "weight_decay": 0.0},
            *groups,
        ]

    def load_reference(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of a model that the published code trained (82 tensors).

        `state` [outputs, inputs] by published name; InputError for what does not fit.
        """
        load_reference(self.network, state)


def weighted_mean(values: Float[Tensor, " n"], weights: Tensor) -> Float[Tensor, ""]:
    """Zero, with a gradient, where all weights are zero. weights [n]."""
    weights = weights.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=torch.finfo(values.dtype).tiny)
