"""The coupled recurrence of Multilogue-Net: dialogue context, prefix attention and party state.

Multilogue-Net (Shenoy and Sardana 2020, https://arxiv.org/abs/2002.08267), section 2 of the system's specification.
At step t, with the speaker's old state q and the contexts g_1 .. g_{t-1} so far:

    g_t = GRU_g([x_t; q], g_{t-1})
    c_t = sum over i < t of softmax_i(w . g_i) g_i            (zero at the first step)
    q'  = GRU_p([u_t; c_t], q)                                the speaker's new state; listeners keep theirs

The attention has no query, so it is a running average. With L_t = log(sum of exp(w . g_i), i <= t),

    b_t = sigmoid(w . g_t - L_{t-1})       c_{t+1} = c_t + b_t (g_t - c_t)       L_t = logaddexp(L_{t-1}, w . g_t)

which costs the same at every step and cannot overflow, whatever the size of the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from demeanor.models.linked_recurrence import Steps, _linked, gru_backward, gru_forward


class PartyRecurrence(torch.autograd.Function):
    """All steps of C cores over R packed rows.

    context        [C, R, 3 G] context gates from x_t, with their input bias
    features       [C, R, 3 P] party gates from u_t, with their input bias
    context_weight [C, 3 G, G], context_bias [C, 3 G]   recurrent part of GRU_g
    score          [C, G]                               w
    summary_weight [C, 3 P, G]                          the part of GRU_p that reads c_t
    speaker_weight [C, 3 G + 3 P, P]                    what reads q: GRU_g's input part, then GRU_p's recurrent part
    party_bias     [C, 3 P]                             recurrent bias of GRU_p
    links          [C, R]                               `flat_links` of the speaker's previous row
    real           [R] or None                          False where q stays as it was (padding)
    keep_context   [C, R, G] or None, keep_party [C, R, P] or None: inverted dropout of the new states
    previous       [R - n_1] row before each row after the first step

    Returns q after each row [C, R, P] and, for inspection without a gradient, g [C, R, G].
    """

    @staticmethod
    def forward(
        ctx: Any,
        context: Tensor,
        features: Tensor,
        context_weight: Tensor,
        context_bias: Tensor,
        score: Tensor,
        summary_weight: Tensor,
        speaker_weight: Tensor,
        party_bias: Tensor,
        links: Tensor,
        real: Tensor | None,
        keep_context: Tensor | None,
        keep_party: Tensor | None,
        previous: Tensor,
        steps: Steps,
    ) -> tuple[Tensor, Tensor]:
        cores, rows, context_width = context.shape
        size, party_size = context_width // 3, features.shape[2] // 3
        new = context.new_empty
        parties = context.new_zeros((cores, rows + 1, party_size))
        contexts, summaries = new((cores, rows, size)), new((cores, rows, size))
        context_gates, party_gates = torch.empty_like(context), torch.empty_like(features)
        context_candidate, party_candidate = new((cores, rows, size)), new((cores, rows, party_size))
        shares = new((cores, rows, 1))
        speaker_bias = torch.cat([torch.zeros_like(context_bias), party_bias], dim=1)[:, None]
        by_context, by_summary, by_speaker = (
            weight.transpose(1, 2) for weight in (context_weight, summary_weight, speaker_weight)
        )
        score_column, context_bias = score[:, :, None], context_bias[:, None]
        first = steps[0][1]
        state, summary = context.new_zeros((cores, first, size)), context.new_zeros((cores, first, size))
        total = context.new_full((cores, first, 1), -torch.inf)
        for start, count in steps:
            here = slice(start, start + count)
            state, summary, total = state[:, :count], summary[:, :count], total[:, :count]
            speaker = _linked(parties, links[:, here])
            gates = torch.baddbmm(speaker_bias, speaker, by_speaker)
            hidden = torch.baddbmm(context_bias, state, by_context)
            inputs = gates[..., :context_width] + context[:, here]
            state = gru_forward(inputs, hidden, state, context_gates[:, here], context_candidate[:, here])
            if keep_context is not None:
                state = state * keep_context[:, here]
            contexts[:, here], summaries[:, here] = state, summary

            inputs = torch.baddbmm(features[:, here], summary, by_summary)
            party = gru_forward(
                inputs, gates[..., context_width:], speaker, party_gates[:, here], party_candidate[:, here]
            )
            if keep_party is not None:
                party = party * keep_party[:, here]
            if real is not None:
                party = torch.where(real[here, None], party, speaker)
            parties[:, start + 1 : start + 1 + count] = party

            value = torch.bmm(state, score_column)
            share = torch.sigmoid(value - total)
            shares[:, here] = share
            summary = torch.lerp(summary, state, share)
            total = torch.logaddexp(total, value)
        ctx.save_for_backward(
            context_weight, score, summary_weight, speaker_weight, links, real, keep_context, keep_party, previous,
            parties, contexts, summaries, context_gates, party_gates, context_candidate, party_candidate, shares,
        )  # fmt: skip
        ctx.steps = steps
        ctx.mark_non_differentiable(contexts)
        return parties[:, 1:], contexts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (
            context_weight, score, summary_weight, speaker_weight, links, real, keep_context, keep_party, previous,
            parties, contexts, summaries, context_gates, party_gates, context_candidate, party_candidate, shares,
        ) = ctx.saved_tensors  # fmt: skip
        cores, rows, party_size = gradient.shape
        size, first = contexts.shape[2], ctx.steps[0][1]
        context_width = 3 * size
        zeros = gradient.new_zeros
        speakers = _linked(parties, links)
        before = torch.cat([zeros((cores, first, size)), contexts.index_select(1, previous)], dim=1)
        for_parties = zeros((cores, rows + 1, party_size))
        for_parties[:, 1:] = gradient
        flat = for_parties.view(-1, party_size)
        for_speaker_gates = gradient.new_empty((cores, rows, context_width + 3 * party_size))
        for_context, for_party_hidden = for_speaker_gates[..., :context_width], for_speaker_gates[..., context_width:]
        for_features, for_context_hidden = torch.empty_like(party_gates), torch.empty_like(context_gates)
        for_values = torch.empty_like(shares)
        # Adjoints of g_t, c_{t+1} and L_t as later steps left them; dialogues that have ended stay at zero.
        late_state, late_summary, late_total = (zeros((cores, first, width)) for width in (size, size, 1))
        for start, count in reversed(ctx.steps):
            here = slice(start, start + count)
            speaker, state, share = speakers[:, here], contexts[:, here], shares[:, here]
            coming = for_parties[:, start + 1 : start + 1 + count]
            held = None
            if real is not None:
                held = torch.where(real[here, None], 0.0, coming)
                coming = torch.where(real[here, None], coming, 0.0)
            if keep_party is not None:
                coming = coming * keep_party[:, here]
            for_speaker = gru_backward(
                coming, speaker, party_gates[:, here], party_candidate[:, here],
                for_features[:, here], for_party_hidden[:, here],
            )  # fmt: skip

            carried, carried_total = late_summary[:, :count], late_total[:, :count]
            passed = 1 - share
            by_share = (carried * (state - summaries[:, here])).sum(dim=-1, keepdim=True) * (share * passed)
            for_value = torch.addcmul(by_share, share, carried_total, out=for_values[:, here])
            carried_total.mul_(passed).sub_(by_share)
            for_state = torch.addcmul(late_state[:, :count], share, carried)
            for_state.addcmul_(for_value, score[:, None])
            carried.mul_(passed).baddbmm_(for_features[:, here], summary_weight)
            if keep_context is not None:
                for_state = for_state * keep_context[:, here]
            direct = gru_backward(
                for_state, before[:, here], context_gates[:, here], context_candidate[:, here],
                for_context[:, here], for_context_hidden[:, here],
            )  # fmt: skip
            torch.baddbmm(direct, for_context_hidden[:, here], context_weight, out=late_state[:, :count])
            for_speaker = torch.baddbmm(for_speaker, for_speaker_gates[:, here], speaker_weight)
            if held is not None:
                for_speaker += held
            flat.index_add_(0, links[:, here].reshape(-1), for_speaker.view(-1, party_size))
        return (
            for_context,
            for_features,
            torch.bmm(for_context_hidden.transpose(1, 2), before),
            for_context_hidden.sum(dim=1),
            torch.bmm(for_values.transpose(1, 2), contexts)[:, 0],
            torch.bmm(for_features.transpose(1, 2), summaries),
            torch.bmm(for_speaker_gates.transpose(1, 2), speakers),
            for_party_hidden.sum(dim=1),
            *[None] * 6,
        )
