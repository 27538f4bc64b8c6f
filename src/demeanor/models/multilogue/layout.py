"""Where every utterance of a batch stands in a recurrence over dialogues.

A recurrence visits packed rows: step by step, and within a step only the dialogues that are still running, the
longest first (the idea of torch's PackedSequence). No arithmetic is spent on padding: 128 dialogues of eight
utterances on average cost eight utterances each, also where one of them has 98. Who follows whom (the previous
utterance of the dialogue, the previous one of the same speaker) is a link from row to row, so the number of parties
is free and no state of a silent listener is ever touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

NONE = -1
"""Link of a row without a predecessor."""


@dataclass(frozen=True)
class DialogueLayout:
    """U utterances of D dialogues as R packed rows, once per direction of time.

    steps          (first row, number of rows) of each step
    source         [directions, R] utterance that stands in a row; U (one past the last) on a padded row
    position       [directions, U] row of each utterance
    same_party     [directions, R] row of the speaker's previous utterance, NONE where there is none
    same_dialogue  [R] row of the dialogue's previous utterance, NONE at its first; alike for all directions
    real           [R] False on padded rows, or None where every row is real
    lengths        [D] utterances of each dialogue
    dialogue, turn [U] as in the batch
    """

    steps: tuple[tuple[int, int], ...]
    source: Int[Tensor, "directions rows"]
    position: Int[Tensor, "directions utterances"]
    same_party: Int[Tensor, "directions rows"]
    same_dialogue: Int[Tensor, " rows"]
    real: Bool[Tensor, " rows"] | None
    lengths: Int[Tensor, " dialogues"]
    dialogue: Int[Tensor, " utterances"]
    turn: Int[Tensor, " utterances"]

    @classmethod
    def of(
        cls,
        dialogue: Int[Tensor, " utterances"],
        turn: Int[Tensor, " utterances"],
        speaker: Int[Tensor, " utterances"],
        bidirectional: bool = True,
        padded: bool = False,
    ) -> DialogueLayout:
        """Lay out a batch; `speaker` is any whole number per party, -1 (unknown) is a party of its own.

        padded: every dialogue runs as long as the longest, as the reference does. Padded rows belong to party 0
        without updating it (docs/systems/multilogue_net.md#d24: an empty speaker mask reads party 0).
        The links are worked out on the CPU, where they cost one look at the device per batch instead of many.
        """
        device = dialogue.device
        dialogue, turn, speaker = dialogue.cpu(), turn.cpu(), speaker.cpu()
        utterances = len(dialogue)
        lengths = torch.bincount(dialogue)
        longest = int(lengths.max())
        running = torch.full_like(lengths, longest) if padded else lengths
        rank = torch.empty_like(lengths)
        rank[torch.argsort(running, descending=True, stable=True)] = torch.arange(len(lengths))
        counts = (running[None, :] > torch.arange(longest)[:, None]).sum(dim=1)
        starts = torch.cumsum(counts, dim=0) - counts
        rows = int(counts.sum())

        forward = starts[turn] + rank[dialogue]
        positions = [forward]
        if bidirectional:
            positions.append(starts[lengths[dialogue] - 1 - turn] + rank[dialogue])
        position = torch.stack(positions)
        source = torch.full((len(positions), rows), utterances)
        for direction, row in enumerate(positions):
            source[direction, row] = torch.arange(utterances)

        same_dialogue = torch.full((rows,), NONE)
        step = torch.repeat_interleave(torch.arange(longest), counts)
        later = torch.nonzero(step > 0)[:, 0]
        same_dialogue[later] = later - counts[step[later] - 1]
        same_party = torch.full((len(positions), rows), NONE)
        before, after = _neighbours(dialogue, turn, speaker)
        same_party[0, forward[after]] = forward[before]
        if bidirectional:
            same_party[1, position[1][before]] = position[1][after]
        real = None
        if padded and rows > utterances:
            real = source[0] < utterances
            _link_padding(same_party, same_dialogue, real, position, dialogue, turn, speaker, starts, rank, lengths)
        return cls(
            steps=tuple(zip(starts.tolist(), counts.tolist(), strict=True)),
            source=source.to(device),
            position=position.to(device),
            same_party=same_party.to(device),
            same_dialogue=same_dialogue.to(device),
            real=None if real is None else real.to(device),
            lengths=lengths,
            dialogue=dialogue.to(device),
            turn=turn.to(device),
        )

    @property
    def rows(self) -> int:
        """Rows of a direction."""
        return self.source.shape[1]

    @property
    def directions(self) -> int:
        """One, or two where dialogues are also read backwards."""
        return self.source.shape[0]

    @property
    def longest(self) -> int:
        """Turns of the longest dialogue."""
        return len(self.steps)

    @cached_property
    def buckets(self) -> tuple[tuple[Tensor, Tensor, Bool[Tensor, "dialogues turns"]], ...]:
        """Dialogues of similar length (at most twice as long as one another), for what compares all turns with all.

        For each bucket: the utterances in it, their cells in the flattened [dialogues, turns] grid, and which
        cells are real. Each utterance is in exactly one bucket.
        """
        device = self.dialogue.device
        dialogue, turn = self.dialogue.cpu(), self.turn.cpu()
        size = torch.ceil(torch.log2(self.lengths.clamp(min=1).double())).long()
        buckets = []
        for value in torch.unique(size).tolist():
            members = torch.nonzero(size == value)[:, 0]
            place = torch.full_like(self.lengths, NONE)
            place[members] = torch.arange(len(members))
            chosen = torch.nonzero(place[dialogue] != NONE)[:, 0]
            turns = int(self.lengths[members].max())
            cells = place[dialogue[chosen]] * turns + turn[chosen]
            mask = torch.arange(turns)[None, :] < self.lengths[members][:, None]
            buckets.append((chosen.to(device), cells.to(device), mask.to(device)))
        return tuple(buckets)


def _neighbours(dialogue: Tensor, turn: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs (utterance, next utterance of the same speaker in the same dialogue)."""
    order = torch.argsort(turn, stable=True)
    order = order[torch.argsort(speaker[order], stable=True)]
    order = order[torch.argsort(dialogue[order], stable=True)]
    before, after = order[:-1], order[1:]
    together = (dialogue[before] == dialogue[after]) & (speaker[before] == speaker[after])
    return before[together], after[together]


def _link_padding(
    same_party: Tensor,
    same_dialogue: Tensor,
    real: Tensor,
    position: Tensor,
    dialogue: Tensor,
    turn: Tensor,
    speaker: Tensor,
    starts: Tensor,
    rank: Tensor,
    lengths: Tensor,
) -> None:
    """Padded rows pass on the state of party 0: from one to the next, the first from the party's last utterance."""
    same_party[:, ~real] = same_dialogue[~real]
    first = lengths < len(starts)
    padding = starts[lengths[first]] + rank[first]
    for direction in range(len(position)):
        last = torch.full_like(lengths, NONE)
        order = torch.argsort(turn, descending=direction == 1, stable=True)
        order = order[speaker[order] == 0]
        for utterance in order.tolist():
            last[dialogue[utterance]] = position[direction, utterance]
        same_party[direction, padding] = last[first]
