"""TAB fusion: what is said, how it sounds, and what is said around it.

Three branches by name, each of which can be left out with its stream: `text`, a RoBERTa over the utterance's tokens;
`audio`, a RoBERTa ("speech-BERT") over its vq-wav2vec tokens (Siriwardhana et al. 2020,
https://arxiv.org/abs/2008.06682); `context`, sentence vectors of the turns around it under several attentions (Wu,
Zhang and Woodland 2021, https://arxiv.org/abs/2010.14102). One hidden layer reads them side by side. A stream of
features in place of tokens (HuBERT states, functionals, sentence vectors) is averaged instead of encoded.

By default it differs from the published code in what follows; `reference: true` is the published forward pass and loss,
to the last digit. Numbers are those of docs/systems/tab_fusion.md#differences.

* The context is the dialogue's, all its turns, centred, and `after: 0` never sees a later one (3, 4); empty slots are
  masked, sentence vectors rescaled, and a learned vector per slot tells the target from its neighbours.
* Cross-entropy instead of margins; dropout around the fusion layer; token states are averaged (12).
* Cut utterances keep their last token, and how many were cut is said (6). Padding is masked (5).
* A frozen encoder neither drops out (9) nor runs twice on an utterance. `tune_text` and `tune_speech` count layers from
  the last, so none can be mistaken for the other's (13); what lies below, embeddings too, is frozen.
* Where text or sound was not recorded, a learned vector takes the branch's place; an empty window gives zeros.
* Epochs, splits, seeds and metrics are the training loop's (7, 8, 10, 14).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.task import IGNORED, Task
from demeanor.models.base import Card, Output, Role, System, masked_mean, task_loss
from demeanor.models.blocks.layers import MissingModalityEmbedding, zero_padding
from demeanor.models.blocks.text_encoder import named_encoder
from demeanor.models.mmml.words import Pooling
from demeanor.models.tab_fusion.branches import FeatureBranch, TokenBranch
from demeanor.models.tab_fusion.context import ContextAttention, Window, window_of
from demeanor.models.tab_fusion.fairseq import load_fusion
from demeanor.models.tab_fusion.losses import margin_loss, penalty
from demeanor.models.tab_fusion.settings import TabFusionSettings

PAPER = "https://arxiv.org/abs/2010.14102"
#: In the order in which the fusion layer reads them.
ROLES = ("text", "audio", "context")
#: Turns of a dialogue that are read on each side where the settings do not say.
TURNS = 3
TEXT = Role("text", "any", required=False, description="token ids, word states or a sentence vector")
AUDIO = Role("audio", "any", required=False, description="ids of speech codes, speech states or functionals")


class TabFusion(System):
    """Three branches and one hidden layer; where the windows of the context come from is a setting.

    `context: stream` reads a stream whose windows an extractor has put side by side. `context: dialogue` gathers them
    from the batch's dialogues out of any stream of sentence vectors, and two learned vectors tell the turns of the
    speaker from those of the others. Neighbours are the turns that are in the batch: those with a label where an
    unlabelled turn is not trained on.
    """

    card = Card(
        "TAB fusion",
        PAPER,
        {
            "text": TEXT,
            "audio": AUDIO,
            "context": Role(
                "text", required=False, normalised=False, description="sentence vectors of the turns around"
            ),
        },
    )
    over_dialogues = Card(
        "TAB fusion over dialogues",
        PAPER,
        {
            "text": TEXT,
            "audio": AUDIO,
            "context": Role("text", required=False, description="one sentence vector per turn, or states to pool"),
        },
        batching="dialogue",
    )
    Settings = TabFusionSettings
    settings: TabFusionSettings
    training_buffers = ("class_weights",)
    class_weights: Tensor

    def __init__(self, settings: TabFusionSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        #: Only a batch of dialogues tells who says the turns of a window.
        self.speaker_embeddings = settings.context == "dialogue" and not settings.reference
        problems = settings.check(task)
        if not inputs:
            problems.append("it is given no stream; give at least one of text, audio, context")
        if problems:
            raise InputError("settings of TAB fusion", problems)
        self.roles = tuple(role for role in ROLES if role in inputs)
        branches = {role: self._branch(role) for role in self.roles if role != "context"}
        self.branches = nn.ModuleDict(branches)
        widths = {role: branch.dimension for role, branch in branches.items()}
        if "context" in inputs:
            self.window = self._window(settings, inputs["context"])
            self.context = ContextAttention(
                self.window.width,
                settings.projection,
                settings.attention,
                settings.heads,
                settings.context_dropout,
                slots=0 if settings.reference else self.window.slots,
                rescaled=not settings.reference,
                voices=self.speaker_embeddings,
            )
            widths["context"] = self.context.dimension
        self.absences = nn.ModuleDict({role: MissingModalityEmbedding(widths[role]) for role in self.branches})
        self.dropout = nn.Dropout(0.0 if settings.reference else settings.dropout)
        self.fuse = nn.Linear(sum(widths.values()), settings.hidden)
        self.answer = nn.Linear(settings.hidden, task.outputs, bias=False)
        self.register_buffer("class_weights", torch.ones(task.outputs))
        self.settings = self._complete(settings)

    @classmethod
    def card_of(cls, settings: TabFusionSettings) -> Card:
        """Under `context: dialogue` the context is a sentence vector per turn, and batches are of whole dialogues."""
        return cls.over_dialogues if settings.context == "dialogue" else cls.card

    @classmethod
    def tiny(cls, context: Literal["stream", "dialogue"] = "stream") -> TabFusionSettings:
        """Settings for tests."""
        tiny = {
            "model_type": "roberta", "vocab_size": 60, "hidden_size": 12, "num_hidden_layers": 2, "pad_token_id": 1,
            "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 34, "type_vocab_size": 1,
        }  # fmt: skip
        window: dict[str, Any] = {"before": 1, "after": 1} if context == "dialogue" else {"slots": 3}
        return cls.Settings(
            context=context, hidden=10, projection=6, attention=5, heads=2, speech_configuration=tiny, **window
        )

    def forward(self, batch: Batch) -> Output:
        """prediction [B, outputs]; auxiliary "attention" [B, heads, slots]; representation: what the fusion reads."""
        vectors: list[Tensor] = []
        auxiliary: dict[str, Tensor] = {}
        for role in self.roles:
            if role == "context":
                windows, filled = self.windows(batch)
                voices = self.window.voices(batch) if self.speaker_embeddings else None
                vector, auxiliary["attention"] = self.context(
                    windows, None if self.settings.reference else filled, voices
                )
            else:
                vector = self.absences[role](self.branches[role](batch[role]), batch[role].present)
            vectors.append(vector)
        together = torch.cat(vectors, dim=1)
        hidden = self.fuse(self.dropout(together)).relu()
        return Output(self.answer(self.dropout(hidden)), auxiliary, together)

    def windows(self, batch: Batch) -> tuple[Float[Tensor, "batch slots width"], Bool[Tensor, "batch slots"]]:
        """Sentence vectors of the turns around each utterance, and which of them there are."""
        padded = zero_padding(batch["context"])
        vectors = masked_mean(padded.values.float(), padded.mask)
        if self.settings.context == "dialogue":
            return self.window.gather(batch, vectors, padded.present)
        return self.window.cut(vectors)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """docs/systems/tab_fusion.md#losses; with `penalty`, of the rows that have a context."""
        target, prediction = batch.target, output.prediction
        if self.task.kind != "classification":
            main = task_loss(self.task, prediction, target)
        elif self.settings.margins:
            main = margin_loss(prediction, target, self.settings.margin, self.class_weights)
        else:
            main = task_loss(self.task, prediction, target, self.class_weights, self.settings.label_smoothing)
        if not self.settings.penalty or "attention" not in output.auxiliary:
            return {"total": main}
        weights = output.auxiliary["attention"]
        present = weights.detach().sum(dim=(1, 2)) > 0
        term = penalty(weights, present)
        return {"total": main + self.settings.penalty * term, "task": main, "penalty": term}

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Encoders learn at a rate of their own, under `reference` at the same one; biases and norms do not decay."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                slow = ".encoder." in name and not self.settings.reference
                rate = self.settings.encoder_learning_rate if slow else learning_rate
                decay = weight_decay if parameter.ndim > 1 or self.settings.reference else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        return [{"params": part, "lr": rate, "weight_decay": decay} for (rate, decay), part in groups.items()]

    def on_train_start(self, batches: Callable[[], Iterable[Batch]], examples: int) -> None:
        """Say what is cut, refuse tokens of another codebook, count the labels for `class_weights: balanced`."""
        for branch in self.branches.values():
            branch.inspect(batches)  # type: ignore[operator]
        if self.settings.class_weights == "none":
            return
        counts = torch.zeros_like(self.class_weights)
        for batch in batches():
            target = batch.target
            counts += torch.bincount(target[target != IGNORED], minlength=self.task.outputs)
        share = counts.sum() / (len(counts) * counts.clamp(min=1))
        self.class_weights.copy_(torch.where(counts > 0, share, torch.ones_like(share)))

    def load_reference(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of a model that the published code trained; InputError for what has no place or is missing.

        Branches that this system was built without are left out; the fusion layer then does not fit either. `state` has
        matrices [outputs, inputs] by published name.
        """
        load_fusion(self, state, [role for role in ROLES if role not in self.roles])

    def _branch(self, role: str) -> FeatureBranch | TokenBranch:
        settings, specification = self.settings, self.inputs[role]
        if not specification.integer:
            return FeatureBranch(specification, "mean" if settings.reference else settings.feature_pooling)
        text = role == "text"
        configuration = settings.encoder_configuration if text else settings.speech_configuration
        name = settings.encoder if text else settings.speech_encoder
        if not name and not configuration:
            if not text:
                raise InputError(
                    "settings of TAB fusion",
                    ["speech_encoder: the audio stream holds tokens, and no encoder is named to read them"],
                    "Name the folder that `demeanor import-checkpoint tab_fusion` wrote, or give a stream of features.",
                )
            name = named_encoder(specification)
        pooling: Pooling = settings.pooling or ("first" if settings.reference else "mean")
        return TokenBranch(
            role,
            specification,
            name,
            configuration,
            pooling,
            settings.tune_text if text else settings.tune_speech,
            settings.text_length if text else settings.audio_length,
            settings.cached,
            settings.cache,
            not settings.reference,
        )

    def _window(self, settings: TabFusionSettings, specification: InputSpecification) -> Window:
        if settings.context == "dialogue":
            before, after = (TURNS if wanted is None else wanted for wanted in (settings.before, settings.after))
            return Window(0, specification.dimension, before, after)
        return window_of(specification, settings.before, settings.after, settings.slots)

    def _complete(self, settings: TabFusionSettings) -> TabFusionSettings:
        """What a bundle needs to be built again where neither the pretrained weights nor the cache are."""
        known: dict[str, Any] = {"cache": ""}
        for role, field in (("text", "encoder_configuration"), ("audio", "speech_configuration")):
            if role in self.branches and isinstance(branch := self.branches[role], TokenBranch):
                known[field] = branch.configuration
        return settings.model_copy(update=known)
