"""Statistics of a speech encoder's layers over what is spoken: cheaper than its frames, and better on few clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from demeanor.data.provenance import Provenance
from demeanor.data.settings import Settings
from demeanor.features.base import SAMPLE_RATE, Clip
from demeanor.features.hub import EncoderError
from demeanor.features.speech import SpeechSettings, SpeechStates
from demeanor.features.voice import detector_sha256, voice_spans
from demeanor.features.whisper_base import WHISPER_BASE
from demeanor.features.whisper_layers import attended


class StatisticsSettings(SpeechSettings):
    """As `hf_speech`. `layers` are averaged or weighted, or with `apart` a step each, for systems that learn how much
    of each they want; `spoken` leaves out what the voice activity detector calls silence.

    `read` is the states between the layers, or what the heads of a layer gather by attention (Whisper alone; `layers`
    then count from 1)."""

    model: str = WHISPER_BASE
    layers: tuple[int, ...] = Field(default=(3, 4, 5, 6), min_length=1)
    apart: bool = False
    spoken: bool = True
    read: Literal["states", "attention"] = "states"
    later: ClassVar[Mapping[str, Any]] = {"read": "states"}

    @model_validator(mode="after")
    def _attention_of_layers_alone(self) -> StatisticsSettings:
        if self.read == "attention" and self.padded:
            raise ValueError("read: attention is for sounds as long as they are; set padded: false")
        if self.read == "attention" and 0 in self.layers:
            raise ValueError("read: attention counts layers from 1, or from the last: -1")
        return self


class SpeechStatistics(SpeechStates):
    """`audio.speech`: mean and standard deviation over time of what is read, [1, 2 D] float32, or [layers, 2 D]
    with `apart`. Over voiced frames where there are any, else over all of them. Absent where silent."""

    name = "hf_speech_statistics"
    stream = "audio.speech"
    unit = "utterance"
    settings_type: ClassVar[type[Settings]] = StatisticsSettings

    @property
    def dimension(self) -> int:
        return 2 * self._width

    @property
    def rate(self) -> float | None:
        return None

    def provenance(self) -> Provenance:
        """EncoderError where the model has no such layer, or where its attention is not read."""
        if self.settings.read == "attention" and not self._whisper:
            raise EncoderError(f"encoder '{self.settings.model}' is no Whisper: of others only `read: states` is known")
        return super().provenance()

    def _inside(self, hidden: Any) -> Any:
        if self.settings.read == "attention":
            return attended(self.model, hidden, self._deepest)
        return super()._inside(hidden)

    def facts(self) -> dict[str, Any]:
        return {"voice": detector_sha256()} if self.settings.spoken else {}

    def extract(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        waveforms = [clip.without_cache().audible for clip in clips]
        statistics = []
        for waveform, states in zip(waveforms, self._states(waveforms), strict=True):
            if waveform is None or not len(states):
                statistics.append(self.absent)
                continue
            statistics.append(self._statistics(states[self._voiced(waveform, len(states))]))
        return statistics

    def _statistics(self, states: np.ndarray) -> np.ndarray:
        """[layers, 2 D] of [T, D] or [T, layers, D]."""
        layers = states[:, None] if states.ndim == 2 else states
        return np.concatenate([layers.mean(axis=0), layers.std(axis=0)], axis=-1).astype(np.float32)

    def _voiced(self, waveform: np.ndarray, count: int) -> np.ndarray:
        """Which of the frames [T] are within a span of voice; all of them where none is."""
        chosen = np.zeros(count, dtype=bool)
        if self.settings.spoken:
            step = self._stride / SAMPLE_RATE
            for span in voice_spans(waveform):
                chosen[int(span.start / step) : int(np.ceil(span.end / step))] = True
        return chosen if chosen.any() else np.ones(count, dtype=bool)

    def _mixed(self, hidden: Any) -> Any:
        """With `apart`: [batch, time, layers, D], each layer with its weight where there are any."""
        if not self.settings.apart:
            return super()._mixed(hidden)
        import torch

        chosen = torch.stack([hidden[layer] for layer in self.settings.layers], dim=2)
        if not self.settings.weights:
            return chosen
        weights = torch.tensor(self.settings.weights, dtype=chosen.dtype, device=chosen.device)
        return torch.einsum("l,btld->btld", weights, chosen)
