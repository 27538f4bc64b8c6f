"""Any Hugging Face speech encoder: wav2vec 2.0, HuBERT, WavLM, data2vec-audio, the encoder of Whisper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from demeanor.data.provenance import Provenance
from demeanor.data.settings import Settings
from demeanor.features.base import SAMPLE_RATE, Clip, Extractor
from demeanor.features.hub import EncoderError, load_model, load_processor, resolve
from demeanor.features.text import by_length
from demeanor.features.whisper_layers import entering, states
from demeanor.kernels.halves import in_half

#: Families whose transformer treats padded frames as if they were not there, once the convolutions have run.
MASKED = {"wav2vec2", "hubert", "wavlm"}
WHISPER_SECONDS = 30
#: Samples of silence after a sound that is not padded to thirty seconds.
AFTER = 8000


class SpeechSettings(Settings):
    """`model`: a local folder or a hub id. `layers` of hidden states (0 is the input of the first, -1 the last) are
    summed with `weights`, or averaged without. A sound longer than `window` seconds is encoded piece by piece.

    `padded` gives Whisper the thirty seconds of its training, silence after the sound; without, it is given the sound
    and half a second of silence, which takes an eighth of the time for clips of four seconds.
    """

    model: str
    layers: tuple[int, ...] = Field(default=(-1,), min_length=1)
    weights: tuple[float, ...] = ()
    window: float = Field(default=30.0, gt=0.1, le=120.0)
    half: bool = False
    padded: bool = False

    @model_validator(mode="after")
    def _one_weight_per_layer(self) -> SpeechSettings:
        if self.weights and len(self.weights) != len(self.layers):
            raise ValueError(f"{len(self.weights)} weights for {len(self.layers)} layers")
        return self


class SpeechStates(Extractor):
    """`audio.frames`: hidden states of a pretrained speech encoder, [T, D] float32, about 50 frames per second.

    Convolutions run on each sound alone, because some of these models normalise over the whole of it; their
    transformers then run in batches of like length where padding cannot reach the values. A clip alone and in a
    batch agrees within 1e-5 (float32). Other layers than the last are computed for each sound alone. Absent where
    silent or shorter than one frame (25 ms).
    """

    name = "hf_speech"
    stream = "audio.frames"
    reads = frozenset({"audio"})
    unit = "frame"
    licence = "that of the model"
    batched = True
    settings_type: ClassVar[type[Settings]] = SpeechSettings
    #: Padded frames per pass of the transformer.
    budget: ClassVar[int] = 8000

    @property
    def version(self) -> str:
        return "2" if self._whisper else "1"

    @cached_property
    def config(self) -> Any:
        """The encoder's configuration."""
        return resolve(self.settings.model).config

    @property
    def dimension(self) -> int:
        return self._width

    @property
    def _width(self) -> int:
        return int(self.config.d_model if self._whisper else self.config.hidden_size)

    @property
    def _layers(self) -> int:
        return int(self.config.encoder_layers if self._whisper else self.config.num_hidden_layers)

    @property
    def _whisper(self) -> bool:
        return self.config.model_type == "whisper"

    @property
    def _stride(self) -> int:
        """Samples per frame."""
        if self._whisper:
            return 2 * 160
        return int(np.prod(self.config.conv_stride))

    @property
    def rate(self) -> float | None:
        return SAMPLE_RATE / self._stride

    @property
    def weights_sha256(self) -> str | None:
        """Hash of the encoder's weights."""
        return resolve(self.settings.model).weights_sha256

    def provenance(self) -> Provenance:
        """EncoderError where the model has no such layer."""
        count = self._layers
        if wrong := [str(layer) for layer in self.settings.layers if not -count - 1 <= layer <= count]:
            raise EncoderError(
                f"encoder '{self.settings.model}' has no layer {', '.join(wrong)}: `layers` are 0 (what enters the "
                f"first) to {count}, or -1 for the last."
            )
        return super().provenance()

    @cached_property
    def model(self) -> Any:
        """The encoder, loaded once; of Whisper its encoder alone."""
        if self._whisper:
            return load_model(self.settings.model, "WhisperModel").encoder
        return load_model(self.settings.model)

    @cached_property
    def processor(self) -> Any:
        """What scales samples for the encoder. EncoderError for one of another sampling rate than 16 kHz."""
        processor = load_processor(self.settings.model)
        if processor.sampling_rate != SAMPLE_RATE:
            raise EncoderError(f"encoder '{self.settings.model}' wants {processor.sampling_rate} Hz, not {SAMPLE_RATE}")
        return processor

    def extract(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        return self._states([clip.without_cache().audible for clip in clips])

    def _states(self, waveforms: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """[T, D] of each sound, [T, layers, D] where layers are kept apart."""
        pieces: list[np.ndarray] = []
        owners: list[int] = []
        for n, waveform in enumerate(waveforms):
            for piece in self._pieces(waveform):
                pieces.append(piece)
                owners.append(n)
        states = self._whisper_states(pieces) if self._whisper else self._convolutional_states(pieces)
        parts: list[list[np.ndarray]] = [[] for _ in waveforms]
        for owner, state in zip(owners, states, strict=True):
            parts[owner].append(state)
        return [np.concatenate(part) if part else self.absent for part in parts]

    def _pieces(self, waveform: np.ndarray | None) -> list[np.ndarray]:
        if waveform is None:
            return []
        size = int(min(self.settings.window, WHISPER_SECONDS if self._whisper else np.inf) * SAMPLE_RATE)
        cut = [waveform[start : start + size] for start in range(0, len(waveform), size)]
        return [piece for piece in cut if len(piece) >= 400]

    @property
    def _last_alone(self) -> bool:
        return self.settings.layers == (-1,) and self.settings.weights in ((), (1.0,))

    def _summed(self, **inputs: Tensor) -> Float[Tensor, "batch time ..."]:
        """The weighted sum of the model's hidden states: what enters each layer, and what leaves the last (after the
        final norm, where the model has one). They come from the call's own answer, so that threads cannot mix them."""
        if self._last_alone:
            return self.model(**inputs).last_hidden_state
        output = self.model(**inputs, output_hidden_states=True)
        return self._mixed([*output.hidden_states[:-1], output.last_hidden_state])

    def _mixed(self, hidden: Sequence[Float[Tensor, "batch time dimension"]]) -> Tensor:
        """The weighted sum of the chosen ones of all layers' states."""
        chosen = torch.stack([hidden[layer] for layer in self.settings.layers])
        weights = self.settings.weights or (1 / len(self.settings.layers),) * len(self.settings.layers)
        return torch.einsum("l,lbtd->btd", torch.tensor(weights, dtype=chosen.dtype, device=chosen.device), chosen)

    def _autocast(self) -> Any:
        return in_half(next(self.model.parameters()).device, self.settings.half)

    def _convolutional_states(self, pieces: list[np.ndarray]) -> list[np.ndarray]:
        together = self._last_alone and self.config.model_type in MASKED
        states: list[np.ndarray] = [self.absent] * len(pieces)
        lengths = [len(piece) // self._stride for piece in pieces]
        for group in by_length(lengths, self.budget if together else 1):
            with torch.inference_mode(), self._autocast():
                if together:
                    values = self._transformed([self._projected(pieces[n]) for n in group])
                else:
                    values = [self._alone(pieces[n]) for n in group]
            for n, value in zip(group, values, strict=True):
                states[n] = value.float().cpu().numpy()
        return states

    def _input(self, samples: np.ndarray) -> Float[Tensor, "1 samples"]:
        values = self.processor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_values"]
        return values.to(next(self.model.parameters()).device)

    def _alone(self, samples: np.ndarray) -> Float[Tensor, "frames ..."]:
        return self._summed(input_values=self._input(samples))[0]

    def _projected(self, samples: np.ndarray) -> Float[Tensor, "frames dimension"]:
        features = self.model.feature_extractor(self._input(samples)).transpose(1, 2)
        hidden = self.model.feature_projection(features)
        return (hidden[0] if isinstance(hidden, tuple) else hidden)[0]

    def _transformed(self, hidden: list[Tensor]) -> list[Tensor]:
        padded = torch.nn.utils.rnn.pad_sequence(hidden, batch_first=True)
        lengths = torch.tensor([len(one) for one in hidden], device=padded.device)
        mask = torch.arange(padded.shape[1], device=padded.device)[None, :] < lengths[:, None]
        states = self.model.encoder(hidden_states=padded, attention_mask=mask).last_hidden_state
        return [states[n, : len(one)] for n, one in enumerate(hidden)]

    def _whisper_states(self, pieces: list[np.ndarray]) -> list[np.ndarray]:
        found = []
        device = next(self.model.parameters()).device
        # Sounds of their own length go one by one: a batch would pad them again.
        together = 8 if self.settings.padded else 1
        for start in range(0, len(pieces), together):
            group = pieces[start : start + together]
            with torch.inference_mode(), self._autocast():
                if self.settings.padded:
                    inputs = self.processor(group, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
                    values = self._summed(input_features=inputs.to(device)).float().cpu().numpy()
                else:
                    values = self._mixed(self._unpadded(group[0], device)).float().cpu().numpy()
            # The rest is silence that was added.
            found += [value[: -(-len(piece) // self._stride)] for value, piece in zip(values, group, strict=True)]
        return found

    def _unpadded(self, samples: np.ndarray, device: Any) -> list[Float[Tensor, "1 time dimension"]]:
        """What enters each layer of Whisper's encoder and what leaves the last, of a sound as long as it is."""
        most = WHISPER_SECONDS * SAMPLE_RATE
        given = np.pad(samples, (0, min(-len(samples) % self._stride + AFTER, most - len(samples))))
        inputs = self.processor(
            [given], sampling_rate=SAMPLE_RATE, return_tensors="pt", padding="longest", truncation=False
        )["input_features"]
        return self._inside(entering(self.model, inputs.to(device)))

    def _inside(self, hidden: Float[Tensor, "1 time dimension"]) -> list[Float[Tensor, "1 time dimension"]]:
        """Of Whisper's layers what is asked for, from what enters the first."""
        return states(self.model, hidden, self._deepest)

    @property
    def _deepest(self) -> int:
        """Number of the last layer that is read."""
        count = self._layers + 1
        return max(layer % count for layer in self.settings.layers)

    def cost(self, clip: Clip) -> float:
        return (clip.end or 0.0) - clip.start
