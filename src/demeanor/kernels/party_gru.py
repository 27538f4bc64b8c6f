"""The coupled recurrence of Multilogue-Net: dialogue context, prefix attention and party state.

Multilogue-Net (Shenoy and Sardana 2020, https://arxiv.org/abs/2002.08267), docs/systems/multilogue_net.md#cells.
At step t, with the speaker's old state q and the contexts g_1 .. g_{t-1} so far:

    g_t = GRU_g([x_t; q], g_{t-1})
    c_t = sum over i < t of softmax_i(w . g_i) g_i            (zero at the first step)
    q'  = GRU_p([u_t; c_t], q)                                the speaker's new state; listeners keep theirs

The attention has no query, so it is a running average. With L_t = log(sum of exp(w . g_i), i <= t),

    b_t = sigmoid(w . g_t - L_{t-1})       c_{t+1} = c_t + b_t (g_t - c_t)       L_t = logaddexp(L_{t-1}, w . g_t)

which costs the same at every step and cannot overflow, whatever the size of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from demeanor.kernels.linked_gru import Steps, followers, gru_backward, gru_forward, last_chunks_first, linked


@dataclass(frozen=True)
class PackedPlan:
    """Plan of a packed sequence: how C recurrent cores (modalities times directions) go through its R rows.

    links       speaker's previous row, from `flat_links`
    previous    dialogue's previous row plus one, zero where there is none
    real        False where a party's state stays as it was (padding); None: nowhere
    keep_*      inverted dropout of the new states, or None
    """

    steps: Steps
    links: Int[Tensor, "cores rows"]
    previous: Int[Tensor, " rows"]
    real: Bool[Tensor, " rows"] | None = None
    keep_context: Float[Tensor, "cores rows context"] | None = None
    keep_party: Float[Tensor, "cores rows party"] | None = None


def project(inputs: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor) -> Float[Tensor, "cores rows gates"]:
    """Input gates of all rows, one product per core, since cores read inputs of different width.

    For each core inputs [rows, width] and weights [gates, width]; bias [cores, gates].
    """
    gates = bias.new_empty((len(inputs), len(inputs[0]), bias.shape[1]))
    for core, (values, weight) in enumerate(zip(inputs, weights, strict=True)):
        torch.addmm(bias[core], values, weight.T, out=gates[core])
    return gates


class PartyRecurrence(torch.autograd.Function):
    """All steps of C cores over R packed rows.

    context_bias [C, 3 G], party_bias [C, 3 P]          input biases of GRU_g and GRU_p
    context_weight [C, 3 G, G], hidden_bias [C, 3 G]    recurrent part of GRU_g
    score [C, G]                                        w
    summary_weight [C, 3 P, G]                          the part of GRU_p that reads c_t
    speaker_weight [C, 3 G + 3 P, P]                    what reads q: GRU_g's input part, then GRU_p's recurrent part
    speaker_bias [C, 3 P]                               recurrent bias of GRU_p
    per_core                                            C each: x [R, X], its weight [3 G, X], u [R, U], its
                                                        weight [3 P, U]

    Returns q after each row [C, R, P] and, for inspection without a gradient, g [C, R, G].
    """

    @staticmethod
    def forward(
        ctx: Any, plan: PackedPlan, context_bias: Tensor, party_bias: Tensor, context_weight: Tensor,
        hidden_bias: Tensor, score: Tensor, summary_weight: Tensor, speaker_weight: Tensor, speaker_bias: Tensor,
        *per_core: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """q [C, R, P] and g [C, R, G]; what it takes stands above."""
        cores, size = score.shape
        x, x_weights, u, u_weights = (per_core[n * cores : (n + 1) * cores] for n in range(4))
        context_gates, party_gates = project(x, x_weights, context_bias), project(u, u_weights, party_bias)
        rows, context_width, party_size = len(x[0]), 3 * size, party_bias.shape[1] // 3
        links, real = plan.links, plan.real
        parties, contexts = score.new_zeros((cores, rows + 1, party_size)), score.new_zeros((cores, rows + 1, size))
        summaries, context_candidate = score.new_empty((2, cores, rows, size))
        party_candidate, shares = score.new_empty((cores, rows, party_size)), score.new_empty((cores, rows, 1))
        from_speaker_bias = torch.cat([torch.zeros_like(hidden_bias), speaker_bias], dim=1)[:, None]
        by_context, by_summary, by_speaker = (
            weight.transpose(1, 2) for weight in (context_weight, summary_weight, speaker_weight)
        )
        score_column, hidden_row = score[:, :, None], hidden_bias[:, None]
        first = plan.steps[0][1]
        state, summary = score.new_zeros((2, cores, first, size))
        total = score.new_full((cores, first, 1), -torch.inf)
        for start, count in plan.steps:
            here, after = slice(start, start + count), slice(start + 1, start + 1 + count)
            state, summary, total = state[:, :count], summary[:, :count], total[:, :count]
            speaker = linked(parties, links[:, here])
            from_speaker = torch.baddbmm(from_speaker_bias, speaker, by_speaker)
            hidden = torch.baddbmm(hidden_row, state, by_context)
            gates = context_gates[:, here].add_(from_speaker[..., :context_width])
            state = gru_forward(gates, hidden, state, context_candidate[:, here])
            if plan.keep_context is not None:
                state.mul_(plan.keep_context[:, here])
            contexts[:, after], summaries[:, here] = state, summary

            gates = party_gates[:, here].baddbmm_(summary, by_summary)
            party = gru_forward(gates, from_speaker[..., context_width:], speaker, party_candidate[:, here])
            if plan.keep_party is not None:
                party.mul_(plan.keep_party[:, here])
            parties[:, after] = party if real is None else torch.where(real[here, None], party, speaker)

            value = torch.bmm(state, score_column)
            share = torch.sigmoid(value - total, out=shares[:, here])
            summary = torch.lerp(summary, state, share)
            total = torch.logaddexp(total, value)
        ctx.plan = plan
        ctx.save_for_backward(
            context_weight, score, summary_weight, speaker_weight, parties, contexts, summaries,
            context_gates, party_gates, context_candidate, party_candidate, shares, *per_core,
        )  # fmt: skip
        found = contexts[:, 1:]
        ctx.mark_non_differentiable(found)
        return parties[:, 1:], found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of what `forward` took, in its shapes, from that of q [C, R, P]."""
        (
            context_weight, score, summary_weight, speaker_weight, parties, contexts, summaries,
            context_gates, party_gates, context_candidate, party_candidate, shares, *per_core,
        ) = ctx.saved_tensors  # fmt: skip
        plan: PackedPlan = ctx.plan
        cores, rows, party_size = gradient.shape
        size, party_width, first = score.shape[1], 3 * party_size, plan.steps[0][1]
        width, zeros = 3 * size, gradient.new_zeros
        passed_on, following = zeros((cores, rows + 1, party_size)), followers(plan.links)
        collected = Collected(ctx, (context_weight, score, summary_weight, speaker_weight), per_core)
        # Adjoints of g_t, c_{t+1} and L_t as later steps left them; dialogues that have ended stay at zero.
        late_state, late_summary, late_total = (zeros((cores, first, width)) for width in (size, size, 1))
        for low, high, chunk in last_chunks_first(plan.steps):
            speakers = linked(parties, plan.links[:, low:high])
            before = contexts.index_select(1, plan.previous[low:high])
            for_speaker_gates = gradient.new_empty((cores, high - low, width + party_width))
            for_context, for_party_hidden = for_speaker_gates[..., :width], for_speaker_gates[..., width:]
            for_features = gradient.new_empty((cores, high - low, party_width))
            for_context_hidden = gradient.new_empty((cores, high - low, width))
            for_values = gradient.new_empty((cores, high - low, 1))
            for start, count in chunk:
                here, near = slice(start, start + count), slice(start - low, start - low + count)
                speaker, share = speakers[:, near], shares[:, here]
                state = contexts[:, start + 1 : start + 1 + count]
                coming, held = linked(passed_on, following[:, here]).add_(gradient[:, here]), None
                if plan.real is not None:
                    held = coming.masked_fill(plan.real[here, None], 0)
                    coming = coming - held
                if plan.keep_party is not None:
                    coming.mul_(plan.keep_party[:, here])
                for_speaker = gru_backward(
                    coming, speaker, party_gates[:, here], party_candidate[:, here],
                    for_features[:, near], for_party_hidden[:, near],
                )  # fmt: skip

                carried, carried_total, passed = late_summary[:, :count], late_total[:, :count], 1 - share
                by_share = ((state - summaries[:, here]).mul_(carried)).sum(dim=-1, keepdim=True) * (share * passed)
                for_value = torch.addcmul(by_share, share, carried_total, out=for_values[:, near])
                carried_total.mul_(passed).sub_(by_share)
                for_state = torch.addcmul(late_state[:, :count], share, carried)
                for_state.addcmul_(for_value, score[:, None])
                carried.mul_(passed).baddbmm_(for_features[:, near], summary_weight)
                if plan.keep_context is not None:
                    for_state.mul_(plan.keep_context[:, here])
                direct = gru_backward(
                    for_state, before[:, near], context_gates[:, here], context_candidate[:, here],
                    for_context[:, near], for_context_hidden[:, near],
                )  # fmt: skip
                torch.baddbmm(direct, for_context_hidden[:, near], context_weight, out=late_state[:, :count])
                if held is not None:
                    for_speaker += held
                after = slice(start + 1, start + 1 + count)
                torch.baddbmm(for_speaker, for_speaker_gates[:, near], speaker_weight, out=passed_on[:, after])
            collected.add(
                slice(low, high), for_context, for_context_hidden, for_features, for_party_hidden, for_values,
                for_speaker_gates, before, contexts[:, low + 1 : high + 1], summaries[:, low:high], speakers,
            )  # fmt: skip
        return None, *collected.shared, *collected.per_core


class Collected:
    """Gradients of everything that all steps read, in the order of PartyRecurrence's arguments."""

    def __init__(self, ctx: Any, weights: Sequence[Tensor], per_core: Sequence[Tensor]):
        context_weight, score, summary_weight, speaker_weight = (torch.zeros_like(weight) for weight in weights)
        cores, size, party_size = *score.shape, speaker_weight.shape[2]
        context_bias, hidden_bias = score.new_zeros((2, cores, 3 * size))
        party_bias, speaker_bias = score.new_zeros((2, cores, 3 * party_size))
        self.shared = (
            context_bias, party_bias, context_weight, hidden_bias, score, summary_weight, speaker_weight, speaker_bias,
        )  # fmt: skip
        self.values = per_core
        wanted = ctx.needs_input_grad[-len(per_core) :]
        self.per_core = [
            torch.zeros_like(value) if wish else None for value, wish in zip(per_core, wanted, strict=True)
        ]

    def add(
        self, rows: slice, for_context: Tensor, for_context_hidden: Tensor, for_features: Tensor,
        for_party_hidden: Tensor, for_values: Tensor, for_speaker_gates: Tensor,
        before: Tensor, contexts: Tensor, summaries: Tensor, speakers: Tensor,
    ) -> None:  # fmt: skip
        """Adds what `rows`, a chunk of n rows, give to the weights' gradients.

        for_context, for_context_hidden [C, n, 3 G], for_features, for_party_hidden [C, n, 3 P], for_values [C, n, 1],
        for_speaker_gates [C, n, 3 G + 3 P]; before, contexts, summaries [C, n, G], speakers [C, n, P].
        """
        (
            context_bias, party_bias, context_weight, hidden_bias, score, summary_weight, speaker_weight, speaker_bias,
        ) = self.shared  # fmt: skip
        context_bias += for_context.sum(dim=1)
        party_bias += for_features.sum(dim=1)
        context_weight.baddbmm_(for_context_hidden.transpose(1, 2), before)
        hidden_bias += for_context_hidden.sum(dim=1)
        score += torch.bmm(for_values.transpose(1, 2), contexts)[:, 0]
        summary_weight.baddbmm_(for_features.transpose(1, 2), summaries)
        speaker_weight.baddbmm_(for_speaker_gates.transpose(1, 2), speakers)
        speaker_bias += for_party_hidden.sum(dim=1)
        cores = len(score)
        for core in range(cores):
            for gates, first in ((for_context[core], core), (for_features[core], 2 * cores + core)):
                for_values_in, for_weight = self.per_core[first], self.per_core[first + cores]
                if for_weight is not None:
                    for_weight.addmm_(gates.T, self.values[first][rows])
                if for_values_in is not None:
                    for_values_in[rows] += gates @ self.values[first + cores]
