"""The context branch: which turns around an utterance, weighed how.

Wu, Zhang and Woodland 2021, https://arxiv.org/abs/2010.14102, call it the time-asynchronous branch (TAB): sentence
vectors of the turns around an utterance, side by side, under several weightings at once. See
docs/systems/tab_fusion.md#context-window, #model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from demeanor.data.batch import Batch, to_dialogues
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError


class ContextAttention(nn.Module):
    """H = ReLU(W_b x + b_b); A = softmax over slots of W_2 tanh(W_1 H); M = A H, dropped out and flattened head-major.

    slots     learns one vector per slot and adds it inside the ReLU, so that the branch knows which turn is the target
              and which came before; 0: published, the result does not depend on the order of the slots
    voices    learns one vector for turns of the target's own speaker and one for those of others, added there too
    rescaled  brings each sentence vector to mean 0 and deviation 1, whatever encoder it comes from (published: not)
    """

    def __init__(
        self,
        width: int,
        projection: int,
        attention: int,
        heads: int,
        dropout: float,
        slots: int = 0,
        rescaled: bool = False,
        voices: bool = False,
    ):
        super().__init__()
        self.rescaled = rescaled
        self.project = nn.Linear(width, projection)
        self.place = nn.Parameter(torch.zeros(slots, projection)) if slots else None
        self.voice = nn.Parameter(torch.zeros(2, projection)) if voices else None
        self.first = nn.Linear(projection, attention, bias=False)
        self.second = nn.Linear(attention, heads, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.dimension = heads * projection
        for layer in (self.first, self.second):
            nn.init.uniform_(layer.weight, -0.1, 0.1)

    def forward(
        self,
        windows: Float[Tensor, "batch slots width"],
        filled: Bool[Tensor, "batch slots"] | None,
        voices: Float[Tensor, "batch slots 2"] | None = None,
    ) -> tuple[Float[Tensor, "batch dimension"], Float[Tensor, "batch heads slots"]]:
        """Weighted turns and the weights. Without `filled` empty slots take part as ReLU(bias), as published.

        voices: (1, 0) for a turn of the target's speaker, (0, 1) for another's, zeros where one of them is unknown.
        """
        if self.rescaled:
            windows = nn.functional.layer_norm(windows, windows.shape[-1:])
        hidden = self.project(windows)
        if self.place is not None:
            hidden = hidden + self.place
        if self.voice is not None and voices is not None:
            hidden = hidden + voices @ self.voice
        hidden = hidden.relu()
        scores = self.second(self.first(hidden).tanh()).transpose(1, 2)
        if filled is not None:
            scores = scores.masked_fill(~filled[:, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=2)
        if filled is not None:
            weights = weights * filled[:, None].to(weights.dtype)
        return self.dropout(weights.to(hidden.dtype) @ hidden).flatten(1), weights


@dataclass(frozen=True)
class Window:
    """Slots first .. last - 1 of `total` in a stream, each `width` wide; the target's own is slot `before` of them."""

    total: int
    width: int
    before: int
    after: int
    start: int = 0

    @property
    def slots(self) -> int:
        """Turns of the window, the utterance's own included."""
        return self.before + 1 + self.after

    def cut(
        self, values: Float[Tensor, "batch dimension"]
    ) -> tuple[Float[Tensor, "batch slots width"], Bool[Tensor, "batch slots"]]:
        """Windows from a stream that holds them side by side, and which slots are not empty (all zero)."""
        slots = values.unflatten(1, (self.total, self.width))[:, self.start : self.start + self.slots]
        return slots, (slots != 0).any(dim=2)

    def gather(
        self, batch: Batch, values: Float[Tensor, "batch width"], present: Bool[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch slots width"], Bool[Tensor, "batch slots"]]:
        """Windows from the dialogues of the batch itself, and which slots have a turn with a sentence."""
        grid, mask = to_dialogues(batch, values)
        there = to_dialogues(batch, present)[0] & mask
        dialogue, turns, inside = self._places(batch, grid.shape[1])
        filled = inside & there[dialogue, turns]
        return grid[dialogue, turns] * filled.unsqueeze(-1).to(values.dtype), filled

    def voices(self, batch: Batch) -> Float[Tensor, "batch slots 2"]:
        """Who says the turn in each slot: (1, 0) the speaker of the target, (0, 1) another, zeros where unknown."""
        grid, mask = to_dialogues(batch, batch.speaker)
        dialogue, turns, inside = self._places(batch, grid.shape[1])
        who, target = grid[dialogue, turns], batch.speaker[:, None]
        known = inside & mask[dialogue, turns] & (who >= 0) & (target >= 0)
        return torch.stack([known & (who == target), known & (who != target)], dim=2).float()

    def _places(self, batch: Batch, longest: int) -> tuple[Tensor, Tensor, Bool[Tensor, "batch slots"]]:
        """Dialogue and turn that fill each slot, the turn within 0 .. longest - 1, and whether it really is there."""
        turns = batch.turn[:, None] + torch.arange(-self.before, self.after + 1, device=batch.device)
        safe = turns.clamp(0, longest - 1)
        return batch.dialogue[:, None], safe, turns == safe


def window_of(specification: InputSpecification, before: int | None, after: int | None, slots: int | None) -> Window:
    """The window to read out of a stream of windows; as wide as asked for, or InputError if the stream is narrower.

    The stream's maker tells how many turns it holds on each side; else it is centred and has `slots`, or 1.
    """
    recorded = specification.provenance.parameters
    left, right = recorded.get("before"), recorded.get("after")
    problems = []
    if isinstance(left, int) and isinstance(right, int):
        if slots not in (None, left + 1 + right):
            problems.append(f"slots {slots}: its maker tells of {left} turns before and {right} after")
    else:
        left = right = ((slots or 1) - 1) // 2
    total = left + 1 + right
    if specification.dimension % total:
        problems.append(f"{specification.dimension} values are no {total} slots of equal width")
    for name, wanted, there in (("before", before, left), ("after", after, right)):
        if wanted is not None and wanted > there:
            problems.append(f"{name} {wanted}: it holds {there}")
    if problems:
        raise InputError(
            f"context stream '{specification.stream}'", problems, "Make it with hf_context and wider `before`, `after`."
        )
    before = left if before is None else before
    return Window(total, specification.dimension // total, before, right if after is None else after, left - before)
