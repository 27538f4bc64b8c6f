"""A Hugging Face speech encoder (data2vec, HuBERT, wav2vec 2.0) run over exactly the frames that count.

Numerically the published forward pass (docs/systems/mmml.md#speech-encoder), computed differently:

* the number of valid frames V follows from the number of samples, attention maps are never made
  (docs/systems/mmml.md#q1);
* rows end at the longest V of their group. The positional convolutions of data2vec leak from beyond V back into it,
  layer by layer, so they run over (layers - 1) * (kernel // 2) frames more: 36 for the published sizes, and what lies
  further away cannot reach frame V - 1. HuBERT has one such convolution over zeros, so no margin is needed at all;
* the frozen convolutional feature encoder is run without gradient and, where asked for, only once per clip.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.errors import InputError
from demeanor.models.mmml.feature_encoder import FeatureCache, encode_frames
from demeanor.models.mmml.frames import Convolutions, EncoderOutput, group_overhead, length_groups, valid_frames
from demeanor.models.mmml.sources import SPEECH_TYPES, add_adapters, freeze_lower

GROUP_FRAMES = 24
"""Frames of padding that one more group of rows may save before it pays, on a CPU."""
LARGEST_GROUP = 32
"""Rows that are encoded together in evaluation, where batches may be whole corpora."""


class SpeechEncoder(nn.Module):
    """Normalised waveforms to states of valid frames, with their mean as pooled vector.

    network        Data2VecAudioModel, HubertModel or Wav2Vec2Model
    freeze_feature_encoder  the convolutions are not trained (published: always)
    tuned          trained transformer layers, counted from the last; None: all
    memory         gigabytes of main memory for the outputs of a frozen feature encoder
    reference      V as the original counts it, see `valid_frames`
    """

    def __init__(
        self,
        network: nn.Module,
        freeze_feature_encoder: bool = True,
        tuned: int | None = None,
        lora_rank: int = 0,
        memory: float = 0.0,
        reference: bool = False,
    ):
        super().__init__()
        config: Any = network.config
        check_speech(config)
        self.network = network
        self.reference = reference
        self.dimension = int(config.hidden_size)
        self.convolutions = Convolutions(tuple(config.conv_kernel), tuple(config.conv_stride))
        encoder: Any = network.encoder
        stack = getattr(encoder.pos_conv_embed, "layers", None)
        self.margin = 0 if stack is None else (len(stack) - 1) * (config.conv_pos_kernel_size // 2)
        self.stable = bool(getattr(config, "do_stable_layer_norm", False))
        if lora_rank:
            self.network = add_adapters(network, lora_rank)
        below = [network.feature_projection, encoder.pos_conv_embed, encoder.layer_norm]
        self._frozen = freeze_lower(below, list(encoder.layers), tuned)
        feature_encoder: Any = network.feature_extractor
        self.feature_encoder_frozen = freeze_feature_encoder or bool(self._frozen) or bool(lora_rank)
        feature_encoder.requires_grad_(not self.feature_encoder_frozen)
        self.masks_spans = bool(getattr(config, "apply_spec_augment", True)) and config.mask_time_prob > 0
        if isinstance(getattr(network, "masked_spec_embed", None), nn.Parameter):
            # Without masked spans nothing reads it; with frozen layers below nothing may move it.
            trained = self.masks_spans and not self._frozen and not lora_rank
            network.masked_spec_embed.requires_grad_(trained)
        self.memory = FeatureCache(memory) if memory > 0 and self.feature_encoder_frozen else None

    def train(self, mode: bool = True) -> SpeechEncoder:
        """As torch's; frozen parts stay in evaluation."""
        super().train(mode)
        for module in self._frozen:
            module.eval()  # what is not trained gives the same in every epoch: no dropout
        return self

    def forward(
        self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"], padded: int
    ) -> EncoderOutput:
        """waveform normalised, zeros beyond `lengths`; `padded` is the fixed length that rows stand for (96 000)."""
        total = self.convolutions.frames(padded)
        valid = valid_frames(lengths, total, self.convolutions, self.reference)
        counts, given = valid.tolist(), lengths.tolist()
        rows = [row for row, count in enumerate(counts) if count > 0]
        same = None
        if not self.training:
            # Rows without any sample, which the original encodes as silence, are all equal: one is enough.
            empty = [row for row in rows if given[row] == 0]
            same, rows = empty[:1], [row for row in rows if given[row] > 0 or row in empty[:1]]
        longest = max([counts[row] for row in rows], default=1)
        hidden = torch.zeros((len(counts), longest, self.dimension), device=waveform.device)
        largest = len(rows) if torch.is_grad_enabled() else LARGEST_GROUP
        overhead = group_overhead(waveform.device, GROUP_FRAMES)
        parts, order = [], []
        for group in length_groups([counts[row] for row in rows], overhead, max(largest, 1)):
            chosen = [rows[n] for n in group]
            index = torch.tensor(chosen, device=waveform.device)
            samples = max([1, *(given[row] for row in chosen)])
            states = self._encode(waveform[index, :samples], valid[index], [counts[row] for row in chosen], padded)
            parts.append(functional.pad(states, (0, 0, 0, longest - states.shape[1])))
            order.append(index)
        if parts:
            joined = torch.cat(parts)
            hidden = hidden.to(joined.dtype).index_copy(0, torch.cat(order), joined)
        if same:
            silent = torch.tensor([n for n, count in enumerate(given) if count == 0], device=waveform.device)
            hidden = hidden.index_copy(0, silent, hidden[same].expand(len(silent), -1, -1))
        mask = torch.arange(longest, device=waveform.device) < valid[:, None]
        weight = mask[..., None].to(hidden.dtype)
        pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        return EncoderOutput(hidden, mask, pooled)

    def _encode(
        self, waveform: Float[Tensor, "batch samples"], valid: Int[Tensor, " batch"], counts: list[int], padded: int
    ) -> Float[Tensor, "batch frames dimension"]:
        network: Any = self.network
        frames = max(counts)
        total = self.convolutions.frames(padded)
        hidden = network.feature_projection(self._encode_frames(waveform, counts, padded))
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        mask = torch.arange(frames, device=waveform.device) < valid[:, None]
        if self.training and self.masks_spans and hasattr(network, "masked_spec_embed"):
            spans = masked_spans(valid, frames, network.config)
            hidden = torch.where(spans[..., None], network.masked_spec_embed.to(hidden.dtype), hidden)
        hidden = hidden * mask[..., None].to(hidden.dtype)
        around = functional.pad(hidden, (0, 0, 0, min(self.margin, max(total - frames, 0))))
        hidden = hidden + network.encoder.pos_conv_embed(around)[:, :frames]
        if not self.stable:
            hidden = network.encoder.layer_norm(hidden)
        hidden = network.encoder.dropout(hidden)
        # None where no key is masked lets the fastest attention kernels run.
        visible = None if min(counts) == frames else mask[:, None, None, :].expand(-1, 1, frames, -1)
        chance = float(getattr(network.config, "layerdrop", 0.0))
        for layer in network.encoder.layers:
            if layer.training and chance > 0.0 and float(torch.rand(())) < chance:
                continue
            hidden = layer(hidden, attention_mask=visible)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return network.encoder.layer_norm(hidden) if self.stable else hidden

    def _encode_frames(
        self, waveform: Float[Tensor, "batch samples"], counts: list[int], padded: int
    ) -> Float[Tensor, "batch frames channels"]:
        feature_encoder: Any = self.network.feature_extractor
        frames = max(counts)
        if not self.feature_encoder_frozen:
            return encode_frames(feature_encoder, waveform, frames, self.convolutions, padded)
        with torch.no_grad():
            if self.memory is None:
                return encode_frames(feature_encoder, waveform, frames, self.convolutions, padded)
            keys = self.memory.keys(waveform, counts, padded)
            cached = {row: self.memory.get(key) for row, key in enumerate(keys)}
            for row in [row for row, value in cached.items() if value is None]:
                # Alone: what is cached must not depend on the batch in which a sound was first heard.
                heard = torch.nonzero(waveform[row])
                samples = waveform[row : row + 1, : int(heard[-1]) + 1 if len(heard) else 1]
                (made,) = encode_frames(feature_encoder, samples, counts[row], self.convolutions, padded)
                self.memory.put(keys[row], made)
                cached[row] = made
            sequences = [value.to(waveform.device) for value in cached.values() if value is not None]
            return nn.utils.rnn.pad_sequence(sequences, batch_first=True)


def masked_spans(valid: Int[Tensor, " batch"], frames: int, config: Any) -> Tensor:
    """SpecAugment over time (arXiv:1904.08779): [B, T] True in random spans of valid frames, drawn as tensors.

    Per row about mask_time_prob * V / mask_time_length spans, at least mask_time_min_masks, without repeated starts.
    Rows shorter than one span keep all their frames.
    """
    length = int(config.mask_time_length)
    starts = (valid - length + 1).clamp(min=0)
    wanted = (config.mask_time_prob * valid / length + torch.rand((), device=valid.device)).long()
    wanted = torch.minimum(wanted.clamp(min=int(config.mask_time_min_masks)), starts)
    score = torch.rand((len(valid), frames), device=valid.device)
    score = score.masked_fill(torch.arange(frames, device=valid.device) >= starts[:, None], 2.0)
    chosen = score.argsort(dim=1).argsort(dim=1) < wanted[:, None]
    covered = functional.max_pool1d(functional.pad(chosen.float(), (length - 1, 0))[:, None], length, stride=1)
    return covered[:, 0] > 0


def check_speech(config: Any) -> None:
    """InputError for architectures whose forward pass is another one, by name."""
    problems = []
    if config.model_type not in SPEECH_TYPES:
        problems.append(f"'{config.model_type}' is not among {', '.join(SPEECH_TYPES)}")
    elif getattr(config, "add_adapter", False):
        problems.append("an adapter after the encoder (add_adapter) is not supported")
    elif getattr(config, "conv_pos_batch_norm", False):
        problems.append("batch normalisation of positions (conv_pos_batch_norm) is not supported")
    if problems:
        raise InputError("audio encoder", problems)
