"""MMML: fine-tuned text and speech encoders, cross-modality fusion, one loss per modality and for all together.

"Multimodal Multi-loss Fusion Network for Sentiment Analysis" (arXiv:2308.00264). `reference` switches to the original's
arithmetic where ours differs: silence as context instead of none, the oldest context kept, pooler, decay everywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.task import IGNORED, Task
from demeanor.models.base import Card, Output, Role, System, task_loss
from demeanor.models.blocks.text_encoder import named_encoder
from demeanor.models.mmml.dialogue import audio_history, text_history
from demeanor.models.mmml.frames import EncoderOutput
from demeanor.models.mmml.fusion import Fusion
from demeanor.models.mmml.inputs import SAMPLE_RATE, Keep, cut_tokens, prepare_waveforms, stacked
from demeanor.models.mmml.settings import MODALITIES, MMMLSettings, fusion_shape, tiny_speech
from demeanor.models.mmml.sources import PRESETS, SPEECH_TYPES, build_encoder
from demeanor.models.mmml.speech import SpeechEncoder
from demeanor.models.mmml.vision import FrameEncoder
from demeanor.models.mmml.words import Pooling, WordEncoder

logger = logging.getLogger(__name__)


TEXT = Role("text", "tokens", description="token ids of a Hugging Face tokenizer, special tokens included")
AUDIO = Role("audio", "samples", normalised=False, description="waveform at 16 kHz, 16-bit or float")
VISION = Role("vision", required=False, description="frame features; an addition to the published system")
PAPER = "arXiv:2308.00264"


class MMML(System):
    """Text and audio, optionally vision, optionally what was said before.

    `context: stream` reads it from streams of its own, if they are given (`demeanor.models.mmml.streams`); `context:
    dialogue` from the dialogue itself: every clip is encoded once and read again as its successor's past.
    """

    card = Card(
        "MMML",
        PAPER,
        {
            "text": TEXT,
            "audio": AUDIO,
            "text_context": Role(
                "text", "tokens", required=False, description="tokens of the turns before, as `hf_context_tokens` makes"
            ),
            "audio_context": Role(
                "audio", "samples", required=False, normalised=False, description="samples of before"
            ),
            "vision": VISION,
        },
    )
    over_dialogues = Card(
        "MMML with dialogue context", PAPER, {"text": TEXT, "audio": AUDIO, "vision": VISION}, batching="dialogue"
    )
    Settings = MMMLSettings
    settings: MMMLSettings

    def __init__(self, settings: MMMLSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.with_context = settings.context == "dialogue" or "text_context" in inputs or "audio_context" in inputs
        self.tasks = settings.tasks or "MTA" + "V" * ("vision" in inputs)
        self._check(settings, inputs)
        # A configuration beside a name is a bundle's: the pretrained weights, trained further, are about to be loaded.
        name = settings.text_encoder or ("" if settings.text_configuration else named_encoder(inputs["text"]))
        words, text_configuration, text_fetched = build_encoder("text encoder", name, settings.text_configuration)
        speech, audio_configuration, audio_fetched = build_encoder(
            "audio encoder", settings.audio_encoder, settings.audio_configuration, SPEECH_TYPES
        )
        text_known = bool(name)
        audio_known = settings.audio_encoder not in PRESETS
        if settings.lora_rank and not (text_known or audio_known):
            raise InputError("settings of MMML", ["lora_rank: no encoder is pretrained, there is nothing to adapt"])
        pooling: Pooling = settings.pooling or ("pooler" if settings.reference else "mean")
        freeze = audio_known if settings.freeze_feature_encoder is None else settings.freeze_feature_encoder
        lora = settings.lora_rank
        self.words = WordEncoder(words, pooling, settings.tune_text, lora if text_known else 0)
        self.speech = SpeechEncoder(
            speech,
            freeze,
            settings.tune_audio,
            lora if audio_known else 0,
            settings.cache_gigabytes,
            settings.reference,
        )
        widths = {"text": self.words.dimension, "audio": self.speech.dimension}
        width = settings.width or max(widths.values())
        if "vision" in inputs:
            self.frames = FrameEncoder(inputs["vision"].dimension, width, settings.dropout)
            widths["vision"] = width
        self.fusion = Fusion(fusion_shape(settings, widths, width, task.outputs, self.with_context))
        if settings.gradient_checkpointing:
            for network in (words, speech):
                # The older name warns from transformers 5.23 on, the newer one is not in those before.
                names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
                enable: Any = next(getattr(network, name) for name in names if hasattr(network, name))
                enable({"use_reentrant": False})
            if settings.fusion == "cme":
                self.fusion.stack.gradient_checkpointing = True
        self.padded = round(settings.seconds * SAMPLE_RATE)
        self.keep: Keep = "oldest" if settings.reference else "newest"
        self.pretrained = {"text": text_known, "audio": audio_known}
        self._unfetched = [
            what
            for what, known, fetched in (("text", text_known, text_fetched), ("audio", audio_known, audio_fetched))
            if known and not fetched
        ]
        self._loaded = False
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "_loaded", True))
        # What a bundle needs to be built again where the pretrained weights are not.
        self.settings = settings.model_copy(
            update={
                "text_encoder": name,
                "text_configuration": text_configuration,
                "audio_configuration": audio_configuration,
                "freeze_feature_encoder": freeze,
            }
        )

    @classmethod
    def card_of(cls, settings: MMMLSettings) -> Card:
        """Under `context: dialogue` there are no context streams, and batches are of whole dialogues."""
        return cls.over_dialogues if settings.context == "dialogue" else cls.card

    @classmethod
    def max_lengths(cls, settings: MMMLSettings) -> dict[str, int]:
        """Sound is read for so many seconds: a recording of ten minutes takes no more memory than one of six.

        As context only the last `seconds` of a turn are used (`reference`: the first). Up to 10 x `seconds` of it are
        kept for that: longer audio is truncated, at the default of six seconds to one minute.
        """
        limit = round(settings.seconds * SAMPLE_RATE)
        return {"audio": 10 * limit if settings.context == "dialogue" and not settings.reference else limit}

    @classmethod
    def tiny(cls, context: Literal["stream", "dialogue"] = "stream") -> MMMLSettings:
        """Settings for tests."""
        text = {
            "model_type": "bert", "vocab_size": 1000, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 128,
        }  # fmt: skip
        return cls.Settings(
            text_configuration=text,
            audio_configuration=tiny_speech(),
            layers=1,
            heads=2,
            inner=24,
            seconds=0.05,
            dropout=0.1,
            context=context,
        )

    def forward(self, batch: Batch) -> Output:
        current, previous = self._encode(batch)
        if "vision" in self.inputs:
            current["vision"] = self.frames(batch["vision"])
            if previous is not None:
                rows = torch.full((len(batch),), -1, device=batch.device)
                previous["vision"] = current["vision"].take(rows).rows(0, len(batch))
        heads, joined = self.fusion(current, previous)
        first = "M" if "M" in self.tasks else self.tasks[0]
        return Output(heads[first], {f"head_{letter}": value for letter, value in heads.items()}, joined)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Weighted sum over heads (docs/systems/mmml.md#training): a modality's own label where the corpus has one,
        only where present."""
        terms = {}
        for letter in self.tasks:
            target = batch.target
            if letter != "M":
                name = MODALITIES[letter]
                if self.task.kind == "regression":
                    target = batch.labels.get(name, target)
                unknown = IGNORED if self.task.kind == "classification" else float("nan")
                present = batch[name].present | self.settings.reference
                target = target.masked_fill(~(present if target.dim() == 1 else present[:, None]), unknown)
            terms[letter] = task_loss(self.task, output.auxiliary[f"head_{letter}"], target)
        total = sum(self.settings.task_weights.get(letter, 1.0) * value for letter, value in terms.items())
        return {"total": torch.as_tensor(total), **{f"loss_{letter}": value for letter, value in terms.items()}}

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """By default biases and norms are not decayed and pretrained encoders may learn slower."""
        encoders = {"text": self.words, "audio": self.speech}
        slow = {id(value) for name, part in encoders.items() if self.pretrained[name] for value in part.parameters()}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                rate = learning_rate * (self.settings.pretrained_rate if id(parameter) in slow else 1.0)
                decay = weight_decay if parameter.ndim > 1 or self.settings.reference else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        return [{"params": part, "lr": rate, "weight_decay": decay} for (rate, decay), part in groups.items()]

    def on_train_start(self, batches: Callable[[], Iterable[Batch]], examples: int) -> None:
        """Warn of encoders that are not pretrained; InputError if a bundle's configuration stands for weights not
        given."""
        if self._unfetched and not self._loaded:
            problems = [f"{what}_configuration comes from a bundle, without its weights" for what in self._unfetched]
            raise InputError(
                "settings of MMML", problems, "Remove it, or the encoder's name to start from random weights."
            )
        for what, known in self.pretrained.items():
            if not known and not self._loaded:
                logger.warning("The %s encoder is randomly initialised, not pretrained.", what)

    def _encode(self, batch: Batch) -> tuple[dict[str, EncoderOutput], dict[str, EncoderOutput] | None]:
        """Utterances and, with context, what came before; both as rows of one run of each encoder."""
        if self.settings.context == "dialogue":
            return self._encode_dialogues(batch)
        words = [cut_tokens(batch["text"].tokens, batch["text"].mask, self.settings.text_length)]
        sounds = [prepare_waveforms(batch["audio"].values, batch["audio"].mask, self.padded)]
        if self.with_context:
            # A context of one modality alone leaves the other's without a step.
            said, heard = (
                batch.inputs.get(f"{role}_context", Padded(batch[role].values[:, :1], batch[role].mask[:, :1] & False))
                for role in ("text", "audio")
            )
            words.append(cut_tokens(said.tokens, said.mask, self.settings.text_length, self.keep))
            sounds.append(prepare_waveforms(heard.values, heard.mask, self.padded, self.keep))
        text, audio = self.words(*stacked(words)), self.speech(*stacked(sounds), self.padded)
        rows = len(batch)
        current = {"text": text.rows(0, rows), "audio": audio.rows(0, rows)}
        if not self.with_context:
            return current, None
        return current, {"text": text.rows(rows, 2 * rows), "audio": audio.rows(rows, 2 * rows)}

    def _encode_dialogues(self, batch: Batch) -> tuple[dict[str, EncoderOutput], dict[str, EncoderOutput]]:
        settings, limit, rows = self.settings, self.settings.text_length, len(batch)
        said, heard = batch["text"], batch["audio"]
        before = text_history(batch, settings.text_context or 2, limit, self.keep, settings.reference)
        text = self.words(*stacked([cut_tokens(said.tokens, said.mask, limit), before]))
        history = audio_history(batch, settings.audio_context or 1, self.padded, self.keep, settings.reference)
        sounds = [prepare_waveforms(heard.values, heard.mask, self.padded)]
        if history.added is not None:
            sounds.append(prepare_waveforms(*history.added, self.padded, self.keep))
        audio = self.speech(*stacked(sounds), self.padded)
        current = {"text": text.rows(0, rows), "audio": audio.rows(0, rows)}
        return current, {"text": text.rows(rows, 2 * rows), "audio": audio.take(history.rows)}

    def _check(self, settings: MMMLSettings, inputs: Mapping[str, InputSpecification]) -> None:
        problems = []
        if self.with_context and settings.version is not None:
            problems.append("version: with context there is only one cme, leave it unset")
        problems += [
            f"tasks '{self.tasks}': there is no {MODALITIES[letter]} stream"
            for letter in self.tasks
            if letter in MODALITIES and MODALITIES[letter] not in inputs
        ]
        texts = [inputs[role] for role in ("text", "text_context") if role in inputs]
        known = {value.provenance.parameters.get("vocabulary_sha256") for value in texts} - {None}
        if len(known) > 1:
            streams = " and ".join(f"'{value.stream}'" for value in texts)
            problems.append(f"streams {streams} were made by different tokenizers, and one encoder reads both")
        for role, value in inputs.items():
            rate = value.provenance.rate
            if role.startswith("audio") and value.stream.endswith("waveform") and rate not in (None, SAMPLE_RATE):
                problems.append(
                    f"role '{role}': stream '{value.stream}' has {rate:g} samples a second, not {SAMPLE_RATE}"
                )
        if problems:
            raise InputError("settings of MMML", problems)
