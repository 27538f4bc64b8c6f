"""The convolutional feature encoder of a speech model: only the frames that are read, and a cache of frozen ones."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from demeanor.models.mmml.frames import Convolutions


def encode_frames(
    extractor: nn.Module, waveform: Float[Tensor, "batch samples"], frames: int, convolutions: Convolutions, padded: int
) -> Float[Tensor, "batch frames channels"]:
    """The first `frames` frames of what `extractor` (of a Hugging Face speech model) gives for rows padded to `padded`.

    waveform holds zeros beyond each row's real samples and all real samples of every row. With layer normalisation
    (data2vec) frames are computed one by one, so samples that no wanted frame sees are left out. A first layer with
    group normalisation (HuBERT, wav2vec 2.0 base) takes its statistics over time, padding included
    (docs/systems/mmml.md#q10): those are sums over the real part and a constant for the rest, divided by the full
    number of positions.
    """
    layers = list(extractor.conv_layers)  # type: ignore[arg-type]
    wanted = convolutions.samples(frames)
    norm = getattr(layers[0], "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm):
        hidden = pad_or_trim(waveform, wanted)[:, None]
        for layer in layers:
            hidden = layer(hidden)
        return hidden.transpose(1, 2)

    kernel, stride = convolutions.kernels[0], convolutions.strides[0]
    # Every position that touches a real sample enters the statistics, also those that no whole frame reads.
    needed = min(max(wanted, waveform.shape[1] + kernel + stride), max(padded, wanted))
    hidden = layers[0].conv(pad_or_trim(waveform, needed)[:, None])
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))  # statistics are never taken in half precision
    positions = (padded - kernel) // stride + 1
    hidden = hidden[:, :, : max(positions, convolutions.after_first().samples(frames))]
    counted = hidden[:, :, :positions]
    rest = positions - counted.shape[2]
    bias = layers[0].conv.bias
    silence = torch.zeros_like(counted[:, :, :1]) if bias is None else bias.to(hidden.dtype)[None, :, None]
    mean = (counted.sum(dim=2, keepdim=True) + rest * silence) / positions
    variance = ((counted - mean).square().sum(dim=2, keepdim=True) + rest * (silence - mean).square()) / positions
    hidden = hidden[:, :, : convolutions.after_first().samples(frames)]
    hidden = (hidden - mean) * torch.rsqrt(variance + norm.eps)
    hidden = layers[0].activation(hidden * norm.weight[:, None] + norm.bias[:, None])
    for layer in layers[1:]:
        hidden = layer(hidden)
    return hidden.transpose(1, 2)


def pad_or_trim(waveform: Float[Tensor, "batch samples"], samples: int) -> Float[Tensor, "batch fitted"]:
    """Cut or pad with zeros to exactly `samples`."""
    if waveform.shape[1] >= samples:
        return waveform[:, :samples]
    return functional.pad(waveform, (0, samples - waveform.shape[1]))


class FeatureCache:
    """LRU cache in main memory: outputs of a frozen feature encoder by content of the waveform.

    Frozen and without dropout it gives the same for the same samples in every epoch. The key is the number of frames
    and two sums of products with fixed random odd 64-bit numbers, modulo 2^64: exact integer arithmetic, so it depends
    neither on padding nor on the other rows, and two different clips share a key with a chance below 2^-60.
    Threads may share a cache.
    """

    def __init__(self, gigabytes: float):
        self.room = int(gigabytes * 2**30)
        self.used = 0
        self.hits = 0
        self._cached: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self._multipliers = torch.zeros((2, 0), dtype=torch.int64)
        self._lock = Lock()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ |= state | {"_lock": Lock()}

    def keys(self, waveform: Float[Tensor, "batch samples"], counts: list[int], padded: int) -> list[tuple[int, ...]]:
        """A key per row: its samples' bits under two random sums modulo 2^64, with its length and the padded one."""
        samples = waveform.shape[1]
        with self._lock:
            if self._multipliers.shape[1] < samples:
                generator = torch.Generator().manual_seed(977)
                room = max(samples, padded)
                self._multipliers = torch.randint(-(2**62), 2**62, (room, 2), generator=generator).T * 2 + 1
            multipliers = self._multipliers[:, :samples].to(waveform.device)
        bits = waveform.contiguous().view(torch.int32).long()
        sums = (bits[:, None, :] * multipliers[None]).sum(dim=2)
        return [(padded, count, *row) for count, row in zip(counts, sums.tolist(), strict=True)]

    def get(self, key: tuple[int, ...]) -> Tensor | None:
        """Features [1, steps, dimension] that were computed before, or None."""
        with self._lock:
            frames = self._cached.get(key)
            if frames is not None:
                self._cached.move_to_end(key)
                self.hits += 1
            return frames

    def put(self, key: tuple[int, ...], frames: Float[Tensor, "frames channels"]) -> None:
        """Keep a copy of the frames; the least recently used make room. What is larger than the cache is not kept."""
        size = frames.numel() * frames.element_size()
        if size > self.room:
            return
        cached = frames.detach().cpu().clone()
        with self._lock:
            if key in self._cached:
                self._forget(key)
            while self.used + size > self.room:
                self._forget(next(iter(self._cached)))
            self._cached[key] = cached
            self.used += size

    def _forget(self, key: tuple[int, ...]) -> None:
        old = self._cached.pop(key)
        self.used -= old.numel() * old.element_size()

    def __len__(self) -> int:
        return len(self._cached)
