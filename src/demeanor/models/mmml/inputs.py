"""Rules for MMML's inputs: waveforms, transcripts, and what came before in the same dialogue.

docs/systems/mmml.md#layout to #context. `keep` says which end of an overlong context survives: the newest words
and sounds, or, as in the original, the oldest (docs/systems/mmml.md#q4).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from torch.nn import functional

from demeanor.features.context import Keep, join_tokens

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_RATE = 16_000
SECONDS = 6.0
TEXT_LENGTH = {"en": 96, "zh": 64}
SEPARATOR = "</s>"
VARIANCE_FLOOR = 1e-7
PCM_SCALE = 32768.0

#: (video, clip) of MOSI and MOSEI that the original leaves out (docs/systems/mmml.md#dropped-clips).
INVALID_CLIPS = frozenset(
    {
        ("3aIQUQgawaI", 12),
        ("94ULum9MYX0", 2),
        ("mRnEJOLkhp8", 24),
        ("aE-X_QdDaqQ", 3),
        ("94ULum9MYX0", 11),
        ("mRnEJOLkhp8", 26),
    }
)


def order_clips(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Rows of one split of a MOSI or MOSEI label.csv: invalid clips left out, by video and then clip as a number."""
    keys = list(zip(table["video_id"].astype(str), table["clip_id"].astype(int), strict=True))
    wanted = [row for row, mode in enumerate(table["mode"]) if mode == split and keys[row] not in INVALID_CLIPS]
    return table.iloc[sorted(wanted, key=lambda row: keys[row])]


def history(groups: Sequence[Hashable], length: int) -> list[list[int]]:
    """For each row, up to `length` rows just before it of the same group, oldest first; another group ends it."""
    past = []
    for row, group in enumerate(groups):
        start = row
        while start > 0 and row - start < length and groups[start - 1] == group:
            start -= 1
        past.append(list(range(start, row)))
    return past


def sentence_case(text: str) -> str:
    """First character as it is, the rest in lower case: MOSI's transcripts are in capitals."""
    return text[:1] + text[1:].lower()


def tokenise(
    tokenizer: Any, texts: Sequence[str], limit: int, keep: Keep = "oldest"
) -> tuple[Int[np.ndarray, "batch limit"], Int[np.ndarray, "batch limit"]]:
    """Ids and mask, both int64 and padded to `limit`; special tokens are added and survive the cut."""
    ids = np.full((len(texts), limit), tokenizer.pad_token_id, dtype=np.int64)
    mask = np.zeros((len(texts), limit), dtype=np.int64)
    for row, text in enumerate(texts):
        whole = join_tokens([np.asarray(tokenizer(text)["input_ids"], dtype=np.int64)], limit, keep)
        ids[row, : len(whole)] = whole
        mask[row, : len(whole)] = 1
    return ids, mask


def normalise_waveform(samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    """x <- (x - mean) / sqrt(var + 1e-7) in float32, with the population variance
    (docs/systems/mmml.md#audio-input)."""
    if len(samples) == 0:
        return samples.astype(np.float32)
    samples = samples.astype(np.float32)
    centred = samples - blocked_mean(samples)
    # The root in float64 and sums in blocks, as in the original's versions: its loader is met to the last bit.
    return centred / np.float32(np.sqrt(np.float64(blocked_mean(centred * centred)) + VARIANCE_FLOOR))


def blocked_mean(values: Float32[np.ndarray, " values"], block: int = 8192) -> np.float32:
    """Mean in float32, summed block by block as NumPy 1 reduces through its buffers."""
    total = np.float32(0.0)
    for start in range(0, len(values), block):
        total = np.float32(total + values[start : start + block].sum())
    return np.float32(total / np.float32(len(values)))


def cut_waveform(samples: np.ndarray, limit: int, keep: Keep = "oldest") -> np.ndarray:
    """samples [samples] at 16 kHz, cut to `limit` of them."""
    return samples[:limit] if keep == "oldest" else samples[max(len(samples) - limit, 0) :]


def prepare_waveforms(
    values: Tensor, mask: Bool[Tensor, "batch samples"], limit: int, keep: Keep = "oldest"
) -> tuple[Float[Tensor, "batch longest"], Int[Tensor, " batch"]]:
    """Raw waveforms [B, N] or [B, N, channels] to (normalised [B, longest], lengths [B]); zeros beyond the lengths.

    The same as `cut_waveform` and `normalise_waveform` row by row. 16-bit samples are scaled to [-1, 1), also where
    they come as floats: no float recording has a peak above 4.
    """
    samples = values.float()
    samples = samples.mean(dim=2) if samples.dim() == 3 else samples
    samples = samples.masked_fill(~mask, 0.0)
    lengths = mask.sum(dim=1)
    if samples.shape[1] > limit:
        if keep == "newest":
            steps = torch.arange(limit, device=samples.device) + (lengths - limit).clamp(min=0)[:, None]
            samples = samples.gather(1, steps)
        samples = samples[:, :limit]
        lengths = lengths.clamp(max=limit)
    samples = samples[:, : max(int(lengths.max()), 1)] if len(lengths) else samples
    peak = samples.abs().amax(dim=1, keepdim=True) if samples.shape[1] else samples.new_zeros((len(samples), 1))
    if not values.is_floating_point() or bool((peak > 4.0).any()):
        whole = torch.ones_like(peak, dtype=torch.bool) if not values.is_floating_point() else peak > 4.0
        samples = torch.where(whole, samples / PCM_SCALE, samples)
    inside = torch.arange(samples.shape[1], device=samples.device) < lengths[:, None]
    samples = torch.where(inside, samples, 0.0)
    count = lengths.clamp(min=1)[:, None]
    # Sums of 96 000 squares in float64: rows then do not depend on how long the batch is padded.
    mean = (samples.sum(dim=1, keepdim=True, dtype=torch.float64) / count).float()
    centred = torch.where(inside, samples - mean, 0.0)
    variance = (centred.square().sum(dim=1, keepdim=True, dtype=torch.float64) / count).float()
    return centred / torch.sqrt(variance + VARIANCE_FLOOR), lengths


def cut_tokens(
    ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"], limit: int, keep: Keep = "oldest"
) -> tuple[Int[Tensor, "batch kept"], Bool[Tensor, "batch kept"]]:
    """At most `limit` tokens per row; the first and the last token, special both, stay."""
    if ids.shape[1] <= limit:
        return ids, mask
    lengths = mask.sum(dim=1)
    shift = (lengths - limit).clamp(min=0)
    steps = torch.arange(limit, device=ids.device).expand(len(ids), -1)
    over = shift[:, None] > 0
    if keep == "oldest":
        source = torch.where(over & (steps == limit - 1), lengths[:, None] - 1, steps)
    else:
        source = torch.where(over & (steps > 0), steps + shift[:, None], steps)
    return ids.gather(1, source), steps < lengths.clamp(max=limit)[:, None]


def stacked(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """[B, T] arrays below each other, padded with zeros, and what belongs to them (masks [B, T] or lengths [B])."""
    longest = max(values.shape[1] for values, _ in parts)
    values = torch.cat([functional.pad(one, (0, longest - one.shape[1])) for one, _ in parts])
    others = [functional.pad(other, (0, longest - other.shape[1])) if other.dim() == 2 else other for _, other in parts]
    return values, torch.cat(others)
