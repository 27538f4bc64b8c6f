"""MMML's three audio-only programs as systems: log-mel pictures, openSMILE descriptors, raw waveforms.

docs/systems/mmml.md#audio-only. All minimise the squared error for regression. `reference` keeps the original's
quirks (docs/systems/mmml.md#q21), for which see each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.models.base import Card, Output, Role, System, task_loss
from demeanor.models.blocks.layers import MissingModalityEmbedding, zero_padding
from demeanor.models.mmml.audio_networks import DescriptorNetwork, SpectrogramNetwork, pad_to_multiple
from demeanor.models.mmml.inputs import SAMPLE_RATE, prepare_waveforms
from demeanor.models.mmml.settings import tiny_speech
from demeanor.models.mmml.sources import PRESETS, SPEECH_TYPES, build_encoder
from demeanor.models.mmml.speech import SpeechEncoder

PAPER = "arXiv:2308.00264"


class _AudioOnly(System):
    """What the three share: the loss, and one group for the optimiser under `reference`."""

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        if self.task.kind != "regression":
            return {"total": task_loss(self.task, output.prediction, batch.target)}
        target = batch.labels.get("audio", batch.target)
        known = ~torch.isnan(target)
        if not bool(known.any()):
            return {"total": output.prediction.sum() * 0.0}
        return {"total": (output.prediction[:, 0] - target)[known].square().mean()}

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        if not self.settings.reference:
            return super().parameter_groups(learning_rate, weight_decay)
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": trained, "lr": learning_rate, "weight_decay": weight_decay}]


class SpectrogramSettings(Settings):
    """How the steps of a stream become pictures."""

    channels: int = Field(default=2, ge=1, description="pictures side by side in a step: 256 columns are 2 x 128")
    reference: bool = Field(default=False, description="the whole padded picture counts, as in the original")


class SpectrogramAudio(_AudioOnly):
    """Log-mel pictures (`audio.spectrogram`) through a convolutional network."""

    card = Card(
        "MMML audio only, spectrogram",
        PAPER,
        {"audio": Role("audio", description="frames of `channels` x bands, for example audio.spectrogram")},
    )
    Settings = SpectrogramSettings

    def __init__(self, settings: SpectrogramSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        # Features that cannot be laid out as several pictures are one.
        self.channels = settings.channels if inputs["audio"].dimension % settings.channels == 0 else 1
        self.network = SpectrogramNetwork(self.channels, task.outputs)
        self.absence = MissingModalityEmbedding(self.network.classifier.in_features)

    @classmethod
    def tiny(cls) -> SpectrogramSettings:
        """The smallest that works, for tests."""
        return SpectrogramSettings(channels=1)

    def forward(self, batch: Batch) -> Output:
        audio = zero_padding(batch["audio"])
        picture = audio.values.float().unflatten(2, (self.channels, -1)).permute(0, 2, 3, 1)
        features = self.network.features(picture, None if self.settings.reference else audio.mask)
        features = self.absence(torch.relu(features), audio.present)
        return Output(self.network.classifier(features), representation=features)


class DescriptorSettings(Settings):
    """Sizes of the transformer over descriptors."""

    heads: int = Field(default=2, ge=1)
    inner: int = Field(default=512, ge=1)
    layers: int = Field(default=3, ge=1)
    frames: int = Field(default=600, ge=1, description="read from the beginning; 600 are the 6 s that were meant")
    reference: bool = Field(default=False, description="300 frames (3 s) and positions with their axes swapped")


class DescriptorAudio(_AudioOnly):
    """openSMILE's low-level descriptors (or any frames) through a Transformer."""

    card = Card(
        "MMML audio only, openSMILE",
        PAPER,
        {"audio": Role("audio", description="frames; published: ComParE_2016 with deltas, 130 columns")},
    )
    Settings = DescriptorSettings

    def __init__(self, settings: DescriptorSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        width = inputs["audio"].dimension
        self.network = DescriptorNetwork(
            width + -width % settings.heads,
            settings.heads,
            settings.inner,
            settings.layers,
            task.outputs,
            settings.reference,
        )

    @classmethod
    def tiny(cls) -> DescriptorSettings:
        """The smallest that works, for tests."""
        return DescriptorSettings(inner=16, layers=1)

    def forward(self, batch: Batch) -> Output:
        audio = zero_padding(batch["audio"])
        longest = 300 if self.settings.reference else self.settings.frames
        values = pad_to_multiple(audio.values[:, :longest].float(), self.settings.heads)
        prediction, states = self.network(values, audio.mask[:, :longest])
        return Output(prediction, representation=states[:, 0])


class RawSettings(Settings):
    """Which speech encoder, how much of the sound, and what of it is trained."""

    audio_encoder: str = Field(default="small", description="folder, hub name, or 'small' (randomly initialised)")
    audio_configuration: dict[str, Any] = Field(default_factory=dict, description="build from this, without weights")
    freeze_feature_encoder: bool | None = Field(
        default=None, description="audio convolutions; None: frozen if pretrained"
    )
    seconds: float = Field(default=6.0, gt=0)
    pretrained_rate: float = Field(default=1.0, gt=0, description="learning rate of a pretrained encoder, as a factor")
    whole_mean: bool = Field(default=False, description="no mask, padding enters the mean: the original on MOSI")
    reference: bool = Field(default=False, description="padded to the longest of the batch, frames counted as original")


class RawAudio(_AudioOnly):
    """A speech encoder, the mean of its valid frames, one linear layer."""

    card = Card(
        "MMML audio only, waveform",
        PAPER,
        {"audio": Role("audio", "samples", normalised=False, description="waveform at 16 kHz, 16-bit or float")},
    )
    Settings = RawSettings

    def __init__(self, settings: RawSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        network, configuration, _ = build_encoder(
            "audio encoder", settings.audio_encoder, settings.audio_configuration, SPEECH_TYPES
        )
        self.pretrained = settings.audio_encoder not in PRESETS
        freeze = self.pretrained if settings.freeze_feature_encoder is None else settings.freeze_feature_encoder
        self.speech = SpeechEncoder(network, freeze, reference=settings.reference)
        self.classifier = nn.Linear(self.speech.dimension, task.outputs)
        self.padded = round(settings.seconds * SAMPLE_RATE)
        self.settings = settings.model_copy(
            update={"audio_configuration": configuration, "freeze_feature_encoder": freeze}
        )

    @classmethod
    def max_lengths(cls, settings: RawSettings) -> dict[str, int]:
        return {"audio": round(settings.seconds * SAMPLE_RATE)}

    @classmethod
    def tiny(cls) -> RawSettings:
        """The smallest that works, for tests."""
        return RawSettings(audio_configuration=tiny_speech(), seconds=0.05)

    def forward(self, batch: Batch) -> Output:
        audio = batch["audio"]
        return self.score(*prepare_waveforms(audio.values, audio.mask, self.padded))

    def score(self, waveform: Tensor, lengths: Tensor) -> Output:
        """waveform [B, N] normalised, zeros beyond lengths [B]."""
        padded = waveform.shape[1] if self.settings.reference or self.settings.whole_mean else self.padded
        if self.settings.whole_mean:
            lengths = torch.full_like(lengths, padded)
        pooled = self.speech(waveform, lengths, padded).pooled
        return Output(self.classifier(pooled), representation=pooled)

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        groups = []
        slow = learning_rate * (self.settings.pretrained_rate if self.pretrained else 1.0)
        for part, rate in ((self.speech, slow), (self.classifier, learning_rate)):
            for decayed in (True, False):
                chosen = [
                    value
                    for value in part.parameters()
                    if value.requires_grad and (value.ndim > 1 or self.settings.reference) == decayed
                ]
                groups.append({"params": chosen, "lr": rate, "weight_decay": weight_decay if decayed else 0.0})
        return groups
