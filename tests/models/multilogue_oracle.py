"""Multilogue-Net written straight from the equations: slow, plain, and the yardstick of the fast implementation.

docs/systems/multilogue_net.md#notation to #losses. One torch module per published cell, so that its state_dict has
the published names; tensors are time-first as there: features [T, B, D], qmask [T, B, P], umask [B, T].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

MODALITIES = ("t", "a", "v")


@dataclass
class Trace:
    """What a core went through, for comparison with golden numbers: lists over steps."""

    g: list[Tensor] = field(default_factory=list)
    q: list[Tensor] = field(default_factory=list)
    e: list[Tensor] = field(default_factory=list)
    c: list[Tensor] = field(default_factory=list)
    alpha: list[Tensor] = field(default_factory=list)


class SimpleAttention(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.scalar = nn.Linear(size, 1, bias=False)

    def forward(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """history [t, B, G] -> its weighted mean [B, G] and the weights [B, t]."""
        weights = torch.softmax(self.scalar(history), dim=0)
        return (weights * history).sum(dim=0), weights[..., 0].transpose(0, 1)


class Cell(nn.Module):
    """Section 2. select: pick each dialogue's speaker in a loop over the batch, as published, or by one gather."""

    def __init__(self, d_m: int, d_ctx: int, d_g: int, d_p: int, d_e: int, dropout: float, select: str):
        super().__init__()
        self.g_cell = nn.GRUCell(d_ctx + d_p, d_g)
        self.p_cell = nn.GRUCell(d_m + d_g, d_p)
        self.e_cell = nn.GRUCell(d_p, d_e)
        self.attention = SimpleAttention(d_g)
        self.dropout = nn.Dropout(dropout)
        self.select = select

    def of_speaker(self, q: Tensor, speaker: Tensor) -> Tensor:
        if self.select == "loop":
            return torch.stack([q[b, int(s)] for b, s in enumerate(speaker)])
        return q[torch.arange(len(speaker), device=q.device), speaker]

    def forward(self, u: Tensor, x: Tensor, qmask: Tensor, trace: Trace) -> Tensor:
        steps, batch, parties = qmask.shape
        g = u.new_zeros(batch, self.g_cell.hidden_size)
        q = u.new_zeros(batch, parties, self.p_cell.hidden_size)
        e = u.new_zeros(batch, self.e_cell.hidden_size)
        history: list[Tensor] = []
        for t in range(steps):
            speaker = qmask[t].argmax(dim=1)
            g = self.dropout(self.g_cell(torch.cat([x[t], self.of_speaker(q, speaker)], dim=1), g))
            if history:
                c, alpha = self.attention(torch.stack(history))
                trace.alpha.append(alpha)
                trace.c.append(c)
            else:
                c = torch.zeros_like(g)
            history.append(g)
            inputs = torch.cat([u[t], c], dim=1)
            new = torch.stack([self.dropout(self.p_cell(inputs, q[:, p])) for p in range(parties)], dim=1)
            speaks = qmask[t][..., None]
            q = (1 - speaks) * q + speaks * new
            e = self.dropout(self.e_cell(self.of_speaker(q, speaker), e))
            for name, value in (("g", g), ("q", q), ("e", e)):
                getattr(trace, name).append(value)
        return torch.stack(trace.e)


class Core(nn.Module):
    def __init__(self, *arguments):
        super().__init__()
        self.multilogue_cell = Cell(*arguments)

    def forward(self, u: Tensor, x: Tensor, qmask: Tensor, trace: Trace) -> Tensor:
        return self.multilogue_cell(u, x, qmask, trace)


def reverse(values: Tensor, umask: Tensor) -> Tensor:
    """Section 3: the first L_b steps backwards, zeros after them. values [T, B, ...]."""
    reversed_ = torch.zeros_like(values)
    for b, length in enumerate(umask.sum(dim=1).long().tolist()):
        reversed_[:length, b] = values[:length, b].flip(0)
    return reversed_


def bimodal(x: Tensor, y: Tensor, keys: Tensor | None = None) -> Tensor:
    """Section 4c for x, y [B, T, d]; keys [B, T] False where a turn may not be attended to."""
    scores = x @ y.transpose(1, 2)
    back = scores.transpose(1, 2)
    if keys is not None:
        scores, back = (value.masked_fill(~keys[:, None], -torch.inf) for value in (scores, back))
    return torch.cat([(scores.softmax(-1) @ y) * x, (back.softmax(-1) @ x) * y], dim=-1)


class Oracle(nn.Module):
    """kind "cat" (both directions, rectifier, log-probabilities) or "reg" (forwards, 3 tanh);
    docs/systems/multilogue_net.md#directions, #fusion."""

    def __init__(
        self,
        kind: Literal["cat", "reg"],
        dims: dict[str, int],
        classes: int = 2,
        dropout_rec: float = 0.0,
        dropout: float = 0.0,
        dropout_emotion: float = 0.0,
        select: Literal["loop", "gather"] = "gather",
    ):
        super().__init__()
        self.kind, self.directions = kind, "fr" if kind == "cat" else "f"
        sizes = {"t": dims["D_text"], "a": dims["D_audio"], "v": dims["D_video"]}
        for m in MODALITIES:
            for d in "fr":
                arguments = (sizes[m], dims["D_ctx"], dims["D_g"], dims["D_p"], dims["D_e"], dropout_rec, select)
                self.add_module(f"multilogue_net_{d}_{m}", Core(*arguments))
        sides = len(self.directions)
        self.linear = nn.Linear(sides * dims["D_e"], sides * dims["D_h"])
        self.smax_fc = nn.Linear(9 * sides * dims["D_h"], classes if kind == "cat" else 1)
        self.dropout, self.dropout_emotion = nn.Dropout(dropout), nn.Dropout(dropout_emotion)
        self.traces: dict[str, Trace] = {}
        self.steps: dict[str, Tensor] = {}

    def forward(
        self, text: Tensor, audio: Tensor, video: Tensor, context: Tensor, qmask: Tensor, umask: Tensor,
        masked: bool = False,
    ) -> Tensor:  # fmt: skip
        """log-probabilities [T, B, C] or predictions [B, T]; masked: padding is never attended to."""
        steps, self.traces = {}, {}
        h: dict[str, Tensor] = {}
        for m, u in zip(MODALITIES, (text, audio, video), strict=True):
            sides = []
            for d in self.directions:
                trace = self.traces[f"{d}_{m}"] = Trace()
                core = getattr(self, f"multilogue_net_{d}_{m}")
                if d == "f":
                    e = core(u, context, qmask, trace)
                else:
                    e = reverse(core(*(reverse(value, umask) for value in (u, context, qmask)), trace), umask)
                sides.append(self.dropout_emotion(e))
            steps[f"linear_in_{m}"] = torch.cat(sides, dim=-1)
            steps[f"linear_out_{m}"] = self.linear(steps[f"linear_in_{m}"])
            state = torch.relu(steps[f"linear_out_{m}"]) if self.kind == "cat" else steps[f"linear_out_{m}"]
            h[m] = self.dropout(state).transpose(0, 1)
        keys = umask.bool() if masked else None
        pairs = {"at": ("t", "a"), "va": ("v", "a"), "tv": ("t", "v")}
        both = {name: bimodal(h[x], h[y], keys) for name, (x, y) in pairs.items()}
        fused = torch.cat([*both.values(), *h.values()], dim=-1)
        logits = self.smax_fc(fused)
        steps |= {f"bimodal_{name}": value.transpose(0, 1) for name, value in both.items()}
        steps |= {"fused": fused.transpose(0, 1), "logits": logits.transpose(0, 1)}
        self.steps = steps
        if self.kind == "reg":
            return 3 * torch.tanh(logits[..., 0])
        return functional.log_softmax(logits, dim=-1).transpose(0, 1)


def masked_nll(log_prob: Tensor, label: Tensor, umask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Section 6, over flattened log_prob [N, C], label [N], umask [N]."""
    picked = -log_prob[torch.arange(len(label)), label] * umask
    weights = umask if weight is None else umask * weight[label]
    return (picked if weight is None else picked * weight[label]).sum() / weights.sum()


def masked_mse(prediction: Tensor, target: Tensor, umask: Tensor) -> Tensor:
    """Section 6: targets are not masked, so that padded targets must be zero."""
    return ((umask * prediction - target) ** 2).sum() / umask.sum()


def loss_of(kind: str, output: Tensor, label: Tensor, umask: Tensor, weight: Tensor | None = None) -> Tensor:
    if kind == "reg":
        return masked_mse(output.reshape(-1), label.reshape(-1), umask.reshape(-1))
    return masked_nll(output.transpose(0, 1).flatten(0, 1), label.reshape(-1), umask.reshape(-1), weight)


def one_hot_speakers(parties: Sequence[Sequence[int]], count: int) -> Tensor:
    """Speakers of each dialogue -> qmask [T, B, P], zeros on padding."""
    qmask = torch.zeros(max(map(len, parties)), len(parties), count)
    for b, dialogue in enumerate(parties):
        for t, party in enumerate(dialogue):
            qmask[t, b, party] = 1
    return qmask
