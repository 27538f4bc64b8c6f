"""The recurrent cores of Multilogue-Net: one per modality and direction, run as one batched recurrence.

Multilogue-Net (https://arxiv.org/abs/2002.08267), sections 2 and 3 of the system's specification. Every product with
an input leaves the loop; the emotion chain, which nothing in the loop reads, follows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from demeanor.models.dialogue_layout import DialogueLayout
from demeanor.models.linked_recurrence import LinkedGru, flat_links
from demeanor.models.party_recurrence import PartyRecurrence

EmotionChain = Literal["party", "dialogue"]


class MultilogueCores(nn.Module):
    """Core number direction * modalities + modality; direction 0 reads forwards, 1 backwards.

    feature_sizes, context_sizes   width of u and of x for each modality
    dropout                        on g, on the speaker's new q and on e, after each step
    """

    def __init__(
        self,
        feature_sizes: Sequence[int],
        context_sizes: Sequence[int],
        context_size: int,
        party_size: int,
        emotion_size: int,
        directions: int = 2,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.modalities, self.directions = len(feature_sizes), directions
        self.context_size, self.party_size, self.emotion_size = context_size, party_size, emotion_size
        self.dropout = dropout
        cores = self.modalities * directions
        wide_context, wide_party, wide_emotion = 3 * context_size, 3 * party_size, 3 * emotion_size

        def one(bound: int, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-1 / math.sqrt(bound), 1 / math.sqrt(bound)))

        def every(bound: int, *shape: int) -> nn.Parameter:
            return one(bound, cores, *shape)

        self.context_from_input = nn.ParameterList(
            [one(context_size, wide_context, size) for _ in range(directions) for size in context_sizes]
        )
        self.context_from_speaker = every(context_size, wide_context, party_size)
        self.context_from_context = every(context_size, wide_context, context_size)
        self.context_input_bias = every(context_size, wide_context)
        self.context_bias = every(context_size, wide_context)
        self.party_from_input = nn.ParameterList(
            [one(party_size, wide_party, size) for _ in range(directions) for size in feature_sizes]
        )
        self.party_from_summary = every(party_size, wide_party, context_size)
        self.party_from_party = every(party_size, wide_party, party_size)
        self.party_input_bias = every(party_size, wide_party)
        self.party_bias = every(party_size, wide_party)
        self.emotion_from_party = every(emotion_size, wide_emotion, party_size)
        self.emotion_from_emotion = every(emotion_size, wide_emotion, emotion_size)
        self.emotion_input_bias = every(emotion_size, wide_emotion)
        self.emotion_bias = every(emotion_size, wide_emotion)
        self.score = every(context_size, context_size)

    def forward(
        self,
        layout: DialogueLayout,
        features: Sequence[Float[Tensor, "utterances dimension"]],
        contexts: Sequence[Float[Tensor, "utterances dimension"]],
        emotion_chain: EmotionChain = "party",
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Emotion [cores, rows, E], party [cores, rows, P] and context states [cores, rows, G] after each row.

        Context states are for inspection: they carry no gradient. The chain "party" links the emotions of each
        speaker (the paper's figure), "dialogue" those of the whole dialogue (the published code).

        Mixed precision stops here: long products of gates lose too much in it, and the loop gains nothing.
        """
        with torch.autocast(self.score.device.type, enabled=False):
            kind = self.score.dtype
            features, contexts = ([value.to(kind) for value in values] for values in (features, contexts))
            return self._run(layout, features, contexts, emotion_chain)

    def _run(
        self, layout: DialogueLayout, features: Sequence[Tensor], contexts: Sequence[Tensor], chain: EmotionChain
    ) -> tuple[Tensor, Tensor, Tensor]:
        links = flat_links(layout.same_party.repeat_interleave(self.modalities, dim=0))
        steps, first = layout.steps, layout.steps[0][1]
        context = self._project(layout, contexts, self.context_from_input, self.context_input_bias)
        party = self._project(layout, features, self.party_from_input, self.party_input_bias)
        parties, states = PartyRecurrence.apply(
            context, party, self.context_from_context, self.context_bias, self.score, self.party_from_summary,
            torch.cat([self.context_from_speaker, self.party_from_party], dim=1), self.party_bias,
            links, layout.real, self._keep(context, self.context_size), self._keep(context, self.party_size),
            layout.same_dialogue[first:], steps,
        )  # fmt: skip
        if chain == "dialogue":
            links = flat_links(layout.same_dialogue.expand(len(links), -1))
        inputs = torch.baddbmm(self.emotion_input_bias[:, None], parties, self.emotion_from_party.transpose(1, 2))
        keep = self._keep(context, self.emotion_size)
        emotions = LinkedGru.apply(inputs, self.emotion_from_emotion, self.emotion_bias, links, keep, steps)
        return emotions, parties, states

    def _project(
        self, layout: DialogueLayout, inputs: Sequence[Tensor], weights: nn.ParameterList, bias: Tensor
    ) -> Float[Tensor, "cores rows gates"]:
        """The gates' share of the inputs, for all rows of a core in one product."""
        gates = []
        for core, weight in enumerate(weights):
            direction, modality = divmod(core, self.modalities)
            values = inputs[modality]
            if layout.real is not None:
                values = functional.pad(values, (0, 0, 0, 1))
            gates.append(functional.linear(values.index_select(0, layout.source[direction]), weight, bias[core]))
        return torch.stack(gates)

    def _keep(self, like: Tensor, size: int) -> Tensor | None:
        """Inverted dropout for each row's new state, drawn ahead of the loop."""
        if not self.training or self.dropout == 0.0:
            return None
        kept = 1.0 - self.dropout
        return torch.empty((*like.shape[:2], size), dtype=like.dtype, device=like.device).bernoulli_(kept).div_(kept)

    def attention(self, layout: DialogueLayout, states: Tensor) -> Float[Tensor, "cores rows longest"]:
        """Prefix attention for explanation: how much the summary of a row's step weighs each earlier step.

        states as returned by `forward`. Entry [core, row, i] belongs to step i of that row's dialogue, in the order
        in which the core reads it; zero from the row's own step on.
        """
        scores = torch.einsum("crg,cg->cr", states, self.score)
        weights = scores.new_zeros((*scores.shape, layout.longest))
        history = scores.new_full((len(scores), layout.steps[0][1], layout.longest), -torch.inf)
        for step, (start, count) in enumerate(layout.steps):
            if step:
                weights[:, start : start + count] = torch.softmax(history[:, :count], dim=-1)
            history[:, :count, step] = scores[:, start : start + count]
        return weights
