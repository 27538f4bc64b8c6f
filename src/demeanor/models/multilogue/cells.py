"""The recurrent cores of Multilogue-Net: one per modality and direction, run as one batched recurrence.

Multilogue-Net (https://arxiv.org/abs/2002.08267), docs/systems/multilogue_net.md#cells, #directions. Every product with
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

from demeanor.kernels.linked_gru import LinkedGru, flat_links
from demeanor.kernels.party_gru import PackedPlan, PartyRecurrence
from demeanor.models.multilogue.layout import DialogueLayout

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
        features: Sequence[Float[Tensor, "utterances _"]],
        contexts: Sequence[Float[Tensor, "utterances _"]],
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
        rows, cores = layout.rows, len(links)
        plan = PackedPlan(
            layout.steps, links, layout.same_dialogue + 1, layout.real,
            self._keep(cores, rows, self.context_size), self._keep(cores, rows, self.party_size),
        )  # fmt: skip
        parties, states = PartyRecurrence.apply(
            plan, self.context_input_bias, self.party_input_bias, self.context_from_context, self.context_bias,
            self.score, self.party_from_summary, torch.cat([self.context_from_speaker, self.party_from_party], dim=1),
            self.party_bias, *self._read(layout, contexts), *self.context_from_input,
            *self._read(layout, features), *self.party_from_input,
        )  # fmt: skip
        if chain == "dialogue":
            links = flat_links(layout.same_dialogue.expand(cores, -1))
        emotions = LinkedGru.apply(
            parties, self.emotion_from_party, self.emotion_input_bias, self.emotion_from_emotion, self.emotion_bias,
            links, self._keep(cores, rows, self.emotion_size), layout.steps,
        )  # fmt: skip
        return emotions, parties, states

    def _read(self, layout: DialogueLayout, inputs: Sequence[Tensor]) -> list[Tensor]:
        """What each core reads, in the order of its rows; padded rows read zeros."""
        if layout.real is not None:
            inputs = [functional.pad(values, (0, 0, 0, 1)) for values in inputs]
        return [values.index_select(0, source) for source in layout.source for values in inputs]

    def _keep(self, cores: int, rows: int, size: int) -> Tensor | None:
        """Inverted dropout for each row's new state, drawn ahead of the loop."""
        if not self.training or self.dropout == 0.0:
            return None
        return keep_mask((cores, rows, size), self.dropout, self.score)

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


def keep_mask(shape: tuple[int, ...], dropout: float, like: Tensor) -> Tensor:
    """Inverted dropout: 0 with probability `dropout`, else its complement's inverse.

    Compares 16 random bits instead of drawing a number for each entry, which takes a quarter of the time on a CPU;
    the probability is rounded to a multiple of 2^-16, and the scale goes by the rounded one.

    Has the shape [*shape].
    """
    levels = 1 << 16
    dropped = min(max(round(dropout * levels), 1), levels - 1)
    count = math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device)
    words.random_(torch.iinfo(torch.int64).min, None)
    bits = words.view(torch.int16)[:count].view(shape)
    return (bits >= dropped - levels // 2).to(like.dtype).mul_(levels / (levels - dropped))
