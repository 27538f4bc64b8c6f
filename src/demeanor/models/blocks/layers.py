"""Building blocks that several systems share: sequences to vectors, absent modalities, small networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from demeanor.data.batch import Padded
from demeanor.data.errors import InputError
from demeanor.kernels.lstm import LSTM, kernel_for
from demeanor.kernels.packed_lstm import last_states


def zero_padding(padded: Padded) -> Padded:
    """The same stream with at least one step and with zeros in every padded step (zero padding).

    A batch in which nobody has the modality may have no step at all, and rubbish in the padding (even NaN) must not
    reach a sum that multiplies it by zero.
    """
    values, mask = padded.values, padded.mask
    if values.shape[1] == 0:
        values = values.new_zeros((values.shape[0], 1, values.shape[2]))
        mask = mask.new_zeros((mask.shape[0], 1))
    return Padded(values.masked_fill(~mask.unsqueeze(-1), 0), mask)


class MissingModalityEmbedding(nn.Module):
    """A learned vector that stands in for a modality that was not recorded."""

    def __init__(self, dimension: int):
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(dimension))

    def forward(
        self, values: Float[Tensor, "batch dimension"], present: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch dimension"]:
        return torch.where(present.unsqueeze(-1), values, self.vector.to(values.dtype))


class AbsentStep(nn.Module):
    """One learned step for rows that have none, so that every row has something to attend to."""

    def __init__(self, dimension: int):
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(dimension))

    def forward(self, padded: Padded) -> Padded:
        padded = zero_padding(padded)
        present = padded.present
        first = torch.where(present.unsqueeze(-1), padded.values[:, 0], self.vector.to(padded.values.dtype))
        values = torch.cat([first.unsqueeze(1), padded.values[:, 1:]], dim=1)
        mask = torch.cat([torch.ones_like(padded.mask[:, :1]), padded.mask[:, 1:]], dim=1)
        return Padded(values, mask)


LARGE = 1 << 15


def kept_entries(shape: Sequence[int], chance: float) -> tuple[Tensor, float]:
    """Which entries a dropout keeps, as int8 zeros and ones of this shape, and the scale that keeps their mean.

    One 64-bit draw serves 64 entries that are kept by the toss of a coin, and four otherwise, so that chances are
    multiples of 1/65536 (the scale is that of the chance used). Drawn on the CPU with torch's generator.

    The first has the shape [*shape].
    """
    count = math.prod(shape)
    if chance == 0.5:
        row = count // 8 + 1
        bits = torch.empty(row // 8 + 1, dtype=torch.int64).random_(-(2**63), None).view(torch.int8)[:row]
        coins = torch.stack([(bits >> place) & 1 for place in range(8)])
        return coins.view(-1)[:count].view(*shape), 2.0
    dropped = round(chance * 65536)
    drawn = torch.empty(count // 4 + 1, dtype=torch.int64).random_(-(2**63), None)
    retained = drawn.view(torch.int16)[:count] >= dropped - 32768
    return retained.view(torch.int8).view(*shape), 65536 / (65536 - dropped)


class QuickDropout(nn.Dropout):
    """Dropout for large activations on a CPU, where drawing and keeping the mask costs as much as a layer.

    The mask is kept as bytes, a quarter of the memory; see `kept_entries`. Elsewhere it is the ordinary dropout.
    """

    def forward(self, values: Tensor) -> Tensor:
        """[...] of any shape, which stays."""
        if not self.training or self.p in (0.0, 1.0) or values.device.type != "cpu" or values.numel() < LARGE:
            return super().forward(values)
        return dropped(values, self.p)


def dropped(values: Float[Tensor, "*any"], chance: float) -> Float[Tensor, "*any"]:
    """Values [...] on a CPU with each entry zero by this chance, the others scaled so that their mean stays."""
    return _Masked.apply(values, *kept_entries(values.shape, chance))


class _Masked(torch.autograd.Function):
    """values * kept * scale, remembering `kept` alone."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (values * mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return (gradient * mask).mul_(ctx.scale), None, None


class Perceptron(nn.Module):
    """dropout -> linear -> relu -> linear -> relu -> linear: the head of the early fusion models."""

    def __init__(self, width: int, hidden: int, outputs: int, dropout: float):
        super().__init__()
        self.dropout = QuickDropout(dropout)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.third = nn.Linear(hidden, outputs)

    def forward(self, values: Tensor) -> Tensor:
        """[batch, inputs] to [batch, outputs]."""
        return self.behind(self.first(self.dropout(values)))

    def behind(self, values: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch outputs"]:
        """What follows the first layer's sums."""
        return self.third(functional.relu(self.second(functional.relu(values))))


class AttentionPooling(nn.Module):
    """Weighted mean over real steps with one learned score per step; zero for a row without any."""

    def __init__(self, dimension: int):
        super().__init__()
        self.score = nn.Linear(dimension, 1, bias=False)

    def forward(
        self, values: Float[Tensor, "batch time dimension"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dimension"]:
        scores = self.score(values).squeeze(-1).float().masked_fill(~mask, torch.finfo(torch.float32).min)
        weights = scores.softmax(dim=1) * mask
        return torch.einsum("bt,btd->bd", weights.to(values.dtype), values)


def statistics(
    values: Float[Tensor, "batch time dimension"], mask: Bool[Tensor, "batch time"]
) -> tuple[Float[Tensor, "batch dimension"], Float[Tensor, "batch dimension"]]:
    """Mean and standard deviation over real steps; the deviation of a single step is (nearly) zero."""
    weight = mask.unsqueeze(-1).to(values.dtype)
    count = weight.sum(dim=1).clamp(min=1.0)
    mean = (values * weight).sum(dim=1) / count
    variance = ((values - mean.unsqueeze(1)).square() * weight).sum(dim=1) / count
    return mean, (variance + 1e-6).sqrt()


class StatisticsEncoder(nn.Module):
    """Any sequence to one vector: mean, deviation and attention pooling, normalised, projected to `dimension`.

    Few parameters and no recurrence: made for corpora of some hundred clips. Absent rows get a learned vector.
    """

    def __init__(self, width: int, dimension: int, dropout: float):
        super().__init__()
        self.attention = AttentionPooling(width)
        self.project = nn.Sequential(
            nn.LayerNorm(3 * width), nn.Dropout(dropout), nn.Linear(3 * width, dimension), nn.GELU()
        )
        self.absence = MissingModalityEmbedding(dimension)

    def forward(self, padded: Padded) -> Float[Tensor, "batch dimension"]:
        padded = zero_padding(padded)
        values = padded.values.to(self.absence.vector.dtype)
        mean, deviation = statistics(values, padded.mask)
        pooled = torch.cat([mean, deviation, self.attention(values, padded.mask)], dim=1)
        return self.absence(self.project(pooled), padded.present)


#: Values per step from which on a recurrence's copies of its input are what it spends memory on.
WIDE = 256


class LastState(nn.Module):
    """State of a forward LSTM at the true end of each sequence; zero for a row without a step.

    On a CPU one layer over wide steps, such as word vectors, runs over real steps alone (kernels/packed_lstm.py), in
    half of the memory. Otherwise the recurrence runs densely over the batch's longest row and the state is gathered at
    each row's last real step: a forward LSTM never looks ahead, so the result is that of a packed sequence, and the
    dense kernel is faster.
    """

    def __init__(self, width: int, hidden: int, layers: int = 1, dropout: float = 0.0):
        super().__init__()
        self.rnn = LSTM(width, hidden, num_layers=layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)

    def forward(self, padded: Padded) -> Float[Tensor, "batch hidden"]:
        weight = next(self.rnn.parameters())
        wide = self.rnn.num_layers == 1 and self.rnn.input_size >= WIDE
        asked = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        if wide and weight.device.type == "cpu" and (asked == torch.float32 or not kernel_for(asked)):
            return last_states(self.rnn, Padded(padded.values.to(weight.dtype), padded.mask))
        padded = zero_padding(padded)
        states, _ = self.rnn(padded.values.to(weight.dtype))
        return last_step(states, padded.mask) * padded.present.unsqueeze(-1)


class TwoWayState(nn.Module):
    """Two bidirectional LSTMs with a layer normalisation between, their final states [forward 1, forward 2,
    backward 1, backward 2] side by side; rows without a step count as one step of zeros. Packed, because a backward
    pass over padding would see it."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.first = LSTM(width, hidden, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(2 * hidden)
        self.second = LSTM(2 * hidden, hidden, bidirectional=True, batch_first=True)

    def forward(self, padded: Padded) -> Float[Tensor, "batch four_hidden"]:
        padded = zero_padding(padded)
        lengths = padded.lengths.clamp(min=1).cpu()
        packed = pack_padded_sequence(padded.values, lengths, batch_first=True, enforce_sorted=False)
        states, (first, _) = self.first(packed)
        between = states._replace(data=self.norm(states.data))
        _, (second, _) = self.second(between)
        return torch.cat([first, second], dim=2).transpose(0, 1).flatten(1)


def last_step(values: Float[Tensor, "batch time dimension"], mask: Bool[Tensor, "batch time"]) -> Tensor:
    """[B, D] the last real step of each row; the first one of a row without any."""
    last = (mask.sum(dim=1) - 1).clamp(min=0)
    return values[torch.arange(len(last), device=last.device), last]


def our_name(published: str, names: Mapping[str, str], prefix: str = "") -> str | None:
    """Our name of a published weight, or None where it is left out; see `renamed`."""
    short = published.removeprefix(prefix)
    for key in names:
        if key.startswith("."):
            short = short.replace(key, names[key])
    start = max((key for key in names if short.startswith(key)), key=len, default=None)
    if start is None:
        return short
    return names[start] + short[len(start) :] if names[start] else None


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str], prefix: str = "") -> dict[str, Tensor]:
    """Published weights, of any shape [...], under our names.

    names maps the beginning of a published name (after `prefix`) to the beginning of ours; the longest match wins,
    and an empty one leaves the weight out. A key that begins with a dot is replaced wherever it occurs.
    """
    return {target: value for name, value in state.items() if (target := our_name(name, names, prefix)) is not None}


def load_renamed(module: nn.Module, state: Mapping[str, Tensor], names: Mapping[str, str], prefix: str = "") -> None:
    """Load weights kept under the names of a published implementation, see `renamed`.

    Weights that we do not have and parameters that stay unset are an error, except our learned absence vectors.

    `state` has the shapes [...] of our own state dict; InputError lists what has no place, or not its shape, or is
    lacking.
    """
    own = module.state_dict()
    loaded: dict[str, Tensor] = {}
    problems = []
    for name, value in state.items():
        target = our_name(name, names, prefix)
        if target is None:
            continue
        if target not in own:
            problems.append(f"'{name}' has no place ('{target}')")
        elif own[target].shape != value.shape:
            problems.append(f"'{name}' is {tuple(value.shape)}, '{target}' is {tuple(own[target].shape)}")
        else:
            loaded[target] = value
    unset = own.keys() - loaded.keys()
    problems += [f"'{name}' is not given" for name in sorted(unset) if not name.endswith("absence.vector")]
    if problems:
        raise InputError("published weights", problems)
    module.load_state_dict({**own, **loaded})
