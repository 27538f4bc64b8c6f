"""Batch: what a model sees at once. Utterances in rows; whole dialogues where a model asks for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

#: Utterances (or whole dialogues) that a trained model answers for at once, whatever it predicts or embeds.
EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Padded:
    """One stream of a batch, right-padded.

    values [B, T, D], float for features, integer for tokens and codes; mask [B, T], True on real steps. An absent
    modality is a row of False, an ordinary value: models read masks and never assume that a row has a step.
    """

    values: Tensor
    mask: Bool[Tensor, "batch time"]

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """Steps that are there, of each utterance."""
        return self.mask.sum(dim=1)

    @property
    def present(self) -> Bool[Tensor, " batch"]:
        """Which utterances have the modality at all."""
        return self.mask.any(dim=1)

    @property
    def tokens(self) -> Int[Tensor, "batch time"]:
        """The one column of a token stream."""
        return self.values[..., 0]

    def to(self, device: torch.device | str) -> Padded:
        """The same on another device."""
        return Padded(self.values.to(device, non_blocking=True), self.mask.to(device, non_blocking=True))

    def absent(self) -> Padded:
        """The same shape with no real step."""
        return Padded(torch.zeros_like(self.values), torch.zeros_like(self.mask))


@dataclass(frozen=True)
class Batch:
    """B utterances.

    inputs    role (text, audio, vision, ... as the system names them) -> Padded
    ids       utterance ids
    rows      [B] position of each utterance in the examples that the batch comes from (label banks use it)
    dialogue  [B] number of the dialogue within the batch, 0, 1, ...
    turn      [B] position within its dialogue as present here; rows of one dialogue are in turn order
    speaker   [B] party within the dialogue by first appearance, -1 where unknown
    labels    "target" and, where the corpus has them, "text", "audio", "vision" (see Task.targets); may be empty
    """

    inputs: Mapping[str, Padded]
    ids: tuple[str, ...]
    rows: Int[Tensor, " batch"]
    dialogue: Int[Tensor, " batch"]
    turn: Int[Tensor, " batch"]
    speaker: Int[Tensor, " batch"]
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, role: str) -> Padded:
        return self.inputs[role]

    @property
    def target(self) -> Tensor:
        """Labels of the task: numbers or class indices [batch], for several labels [batch, classes]; unknown is NaN or
        -1."""
        return self.labels["target"]

    @property
    def device(self) -> torch.device:
        """Where its tensors lie."""
        return self.rows.device

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device, labels and dialogue structure included."""
        return replace(
            self,
            inputs={role: padded.to(device) for role, padded in self.inputs.items()},
            labels={name: value.to(device, non_blocking=True) for name, value in self.labels.items()},
            **{name: getattr(self, name).to(device) for name in ("rows", "dialogue", "turn", "speaker")},
        )

    def without(self, roles: Iterable[str]) -> Batch:
        """The same batch as if these roles had not been recorded (modality dropout, ablation)."""
        dropped = set(roles)
        return replace(
            self,
            inputs={role: value.absent() if role in dropped else value for role, value in self.inputs.items()},
        )

    def stacked(self, dropped: Sequence[Collection[str]]) -> Batch:
        """S * B rows: for each entry of `dropped` in turn, all rows as if these roles had not been recorded.

        Copies of a dialogue are dialogues of their own.
        """
        copies, count = [self.without(roles) for roles in dropped], len(dropped)
        dialogues = int(self.dialogue.max()) + 1
        return Batch(
            inputs={
                role: Padded(
                    torch.cat([copy[role].values for copy in copies]), torch.cat([copy[role].mask for copy in copies])
                )
                for role in self.inputs
            },
            ids=self.ids * count,
            rows=self.rows.repeat(count),
            dialogue=torch.cat([self.dialogue + number * dialogues for number in range(count)]),
            turn=self.turn.repeat(count),
            speaker=self.speaker.repeat(count),
            labels={name: torch.cat([value] * count) for name, value in self.labels.items()},
        )


def to_dialogues(batch: Batch, values: Tensor) -> tuple[Tensor, Bool[Tensor, "dialogues turns"]]:
    """Lay utterance rows [B, ...] out as dialogues [dialogues, turns, ...] with their mask."""
    dialogues = int(batch.dialogue.max()) + 1
    turns = int(batch.turn.max()) + 1
    grid = values.new_zeros((dialogues, turns, *values.shape[1:]))
    grid[batch.dialogue, batch.turn] = values
    mask = torch.zeros((dialogues, turns), dtype=torch.bool, device=values.device)
    mask[batch.dialogue, batch.turn] = True
    return grid, mask


def from_dialogues(batch: Batch, grid: Tensor) -> Tensor:
    """The inverse of `to_dialogues`: [dialogues, turns, ...] back to utterance rows [B, ...]."""
    return grid[batch.dialogue, batch.turn]
