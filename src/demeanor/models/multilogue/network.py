"""Multilogue-Net as a network: utterance vectors of whole dialogues in, one output per utterance.

Multilogue-Net (https://arxiv.org/abs/2002.08267), docs/systems/multilogue_net.md#cells to #fusion. It knows neither
batches nor tasks; `multilogue_net.MultilogueNet` does.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from demeanor.models.multilogue.attention import pairs_of, pairwise, pairwise_of_dialogues, sides_of
from demeanor.models.multilogue.cells import EmotionChain, MultilogueCores
from demeanor.models.multilogue.layout import DialogueLayout

MODALITIES = ("text", "audio", "vision")


class MultilogueNetwork(nn.Module):
    """Recurrent cores, a linear map that the modalities share, pairwise attention, and a linear head.

    feature_sizes   modality -> width of its utterance vectors, in the order of MODALITIES
    context_sizes   modality -> width of what its dialogue context reads
    rectified       whether the shared linear map is followed by a rectifier
    masked          whether attention leaves out padding and absent modalities; without it every dialogue runs on
                    to the longest of the batch and its padding is attended to, as in the published code
    """

    def __init__(
        self,
        feature_sizes: Mapping[str, int],
        context_sizes: Mapping[str, int],
        outputs: int,
        context_size: int = 150,
        party_size: int = 150,
        emotion_size: int = 100,
        fused_size: int = 100,
        bidirectional: bool = True,
        rectified: bool = True,
        masked: bool = True,
        causal: bool = False,
        emotion_chain: EmotionChain = "party",
        recurrent_dropout: float = 0.0,
        emotion_dropout: float = 0.0,
        fused_dropout: float = 0.0,
    ):
        super().__init__()
        self.modalities = tuple(name for name in MODALITIES if name in feature_sizes)
        self.pairs = pairs_of(self.modalities)
        self.rectified, self.masked, self.causal, self.emotion_chain = rectified, masked, causal, emotion_chain
        self.bidirectional = bidirectional
        directions = 1 + bidirectional
        self.cores = MultilogueCores(
            [feature_sizes[name] for name in self.modalities],
            [context_sizes[name] for name in self.modalities],
            context_size,
            party_size,
            emotion_size,
            directions,
            recurrent_dropout,
        )
        size = directions * fused_size
        self.emotion_dropout, self.fused_dropout = nn.Dropout(emotion_dropout), nn.Dropout(fused_dropout)
        self.shared = nn.Linear(directions * emotion_size, size)
        self.head = nn.Linear(size * (len(self.modalities) + 2 * len(self.pairs)), outputs)

    def layout(self, dialogue: Tensor, turn: Tensor, speaker: Tensor) -> DialogueLayout:
        """How rows go through dialogues; all three [rows] of whole numbers."""
        return DialogueLayout.of(dialogue, turn, speaker, self.bidirectional, padded=not self.masked)

    def forward(
        self,
        layout: DialogueLayout,
        features: Mapping[str, Float[Tensor, "utterances _"]],
        contexts: Mapping[str, Float[Tensor, "utterances _"]],
        present: Bool[Tensor, "modalities utterances"] | None = None,
    ) -> tuple[Float[Tensor, "rows outputs"], Float[Tensor, "rows fused"]]:
        """Outputs and what the head reads.

        Rows are the utterances; without masking they are all cells of the padded [dialogues, turns] grid.
        present: where a modality was recorded; everywhere if None. What was not recorded contributes zeros.
        """
        emotions, _, _ = self.cores(
            layout,
            [features[name] for name in self.modalities],
            [contexts[name] for name in self.modalities],
            self.emotion_chain,
        )
        states = self.states(self.in_order(layout, emotions))
        if self.masked:
            if present is None:
                present = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
            states = states * present[..., None]
        return self.fuse(layout, states, present)

    def in_order(self, layout: DialogueLayout, emotions: Tensor) -> Float[Tensor, "modalities rows emotion"]:
        """Both directions side by side, in the order of the utterances or of the padded grid.

        emotions [cores, rows, emotion], cores of one direction side by side.
        """
        sides = emotions.unflatten(0, (layout.directions, len(self.modalities)))
        if self.masked:
            ordered = [side.index_select(1, layout.position[n]) for n, side in enumerate(sides)]
            return torch.cat(ordered, dim=-1)
        dialogues, turns = len(layout.lengths), layout.longest
        ordered = [sides[0].unflatten(1, (turns, dialogues)).transpose(1, 2).flatten(1, 2)]
        if layout.directions == 2:
            # Reversing back leaves zeros on padding (docs/systems/multilogue_net.md#directions).
            grid = torch.zeros_like(ordered[0])
            cells = layout.dialogue * turns + layout.turn
            ordered.append(grid.index_copy(1, cells, sides[1].index_select(1, layout.position[1])))
        return torch.cat(ordered, dim=-1)

    def states(self, emotions: Tensor) -> Float[Tensor, "modalities rows size"]:
        """The shared layer's states of emotions [modalities, rows, emotion]."""
        states = self.shared(self.emotion_dropout(emotions))
        return self.fused_dropout(torch.relu(states) if self.rectified else states)

    def fuse(self, layout: DialogueLayout, states: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Prediction [rows, outputs] and what the head read [rows, fused]; states [modalities, rows, size], present
        [modalities, rows]."""
        parts = list(states)
        if self.pairs:
            if self.masked:
                assert present is not None
                both = pairwise_of_dialogues(states, present, self.pairs, layout, self.causal)
            else:
                grid = states.unflatten(1, (len(layout.lengths), layout.longest))
                both = pairwise(*sides_of(grid, self.pairs)).flatten(1, 2)
            parts = [*both, *parts]
        fused = torch.cat(parts, dim=-1)
        return self.head(fused), fused
