"""Recurrences over linked rows: many cores at once, any number of chains, gradients written out by hand.

The autograd engine would add one outer product per step to every recurrent weight. Written out, the backward pass
keeps the gate gradients of all steps and takes each weight's gradient in one matrix product at the end, and nothing
but gates is stored. Rows, steps and links are those of `DialogueLayout`; C cores (modality by direction) share
them and run as one batched product per step.

Cell convention: torch's GRUCell. Gates in the order reset, update, candidate; two bias vectors; the reset gate
applies after the recurrent product:

    r = sigmoid(a_r + h_r), z = sigmoid(a_z + h_z), n = tanh(a_n + r * h_n), new = (1 - z) * n + z * old
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

Steps = Sequence[tuple[int, int]]


def flat_links(links: Int[Tensor, "cores rows"]) -> Int[Tensor, "cores rows"]:
    """Links as indices into states [cores * (1 + rows)], where row 0 of each core is the zero state."""
    cores, rows = links.shape
    return links + 1 + torch.arange(cores, device=links.device)[:, None] * (rows + 1)


def gru_forward(inputs: Tensor, hidden: Tensor, old: Tensor, gates: Tensor, candidate: Tensor) -> Tensor:
    """New state [..., D] from input and hidden gates [..., 3 D]; keeps r, z, n in `gates`, h_n in `candidate`."""
    size = old.shape[-1]
    torch.add(inputs, hidden, out=gates)
    reset_update, new = gates[..., : 2 * size], gates[..., 2 * size :]
    reset_update.sigmoid_()
    candidate.copy_(hidden[..., 2 * size :])
    torch.addcmul(inputs[..., 2 * size :], gates[..., :size], candidate, out=new)
    new.tanh_()
    return torch.lerp(new, old, gates[..., size : 2 * size])


def gru_backward(
    gradient: Tensor, old: Tensor, gates: Tensor, candidate: Tensor, for_inputs: Tensor, for_hidden: Tensor
) -> Tensor:
    """Writes the gradients of input and hidden gates [..., 3 D]; returns the old state's direct share [..., D]."""
    size = old.shape[-1]
    reset, update, new = gates[..., :size], gates[..., size : 2 * size], gates[..., 2 * size :]
    direct = gradient * update
    before_tanh = (gradient - direct) * (1 - new * new)
    before_update = direct * (1 - update)
    before_update.mul_(old - new)
    before_reset = before_tanh * reset
    for_hidden[..., 2 * size :] = before_reset
    before_reset.mul_(candidate).mul_(1 - reset)
    for_inputs[..., 2 * size :] = before_tanh
    for gates_gradient in (for_inputs, for_hidden):
        gates_gradient[..., :size] = before_reset
        gates_gradient[..., size : 2 * size] = before_update
    return direct


class LinkedGru(torch.autograd.Function):
    """A GRU whose rows take their old state from the row that they are linked to.

    inputs [C, R, 3 D] input gates with their bias; weight [C, 3 D, D]; bias [C, 3 D]; links [C, R] from
    `flat_links`; keep [C, R, D] inverted dropout of the new state, or None. Returns states [C, R, D].
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, links: Tensor, keep: Tensor | None, steps: Steps
    ) -> Tensor:
        cores, rows, width = inputs.shape
        size = width // 3
        states = inputs.new_zeros((cores, rows + 1, size))
        gates = torch.empty_like(inputs)
        candidate = inputs.new_empty((cores, rows, size))
        transposed, bias_row = weight.transpose(1, 2), bias[:, None]
        for start, count in steps:
            here = slice(start, start + count)
            old = _linked(states, links[:, here])
            hidden = torch.baddbmm(bias_row, old, transposed)
            new = gru_forward(inputs[:, here], hidden, old, gates[:, here], candidate[:, here])
            states[:, start + 1 : start + 1 + count] = new if keep is None else new * keep[:, here]
        ctx.save_for_backward(weight, links, keep, states, gates, candidate)
        ctx.steps = steps
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, links, keep, states, gates, candidate = ctx.saved_tensors
        cores, rows, size = gradient.shape
        old = _linked(states, links)
        for_states = gradient.new_zeros((cores, rows + 1, size))
        for_states[:, 1:] = gradient
        flat = for_states.view(-1, size)
        for_inputs, for_hidden = torch.empty_like(gates), torch.empty_like(gates)
        for start, count in reversed(ctx.steps):
            here = slice(start, start + count)
            coming = for_states[:, start + 1 : start + 1 + count]
            if keep is not None:
                coming = coming * keep[:, here]
            direct = gru_backward(
                coming, old[:, here], gates[:, here], candidate[:, here], for_inputs[:, here], for_hidden[:, here]
            )
            direct = torch.baddbmm(direct, for_hidden[:, here], weight)
            flat.index_add_(0, links[:, here].reshape(-1), direct.view(-1, size))
        return for_inputs, torch.bmm(for_hidden.transpose(1, 2), old), for_hidden.sum(dim=1), None, None, None


def _linked(states: Float[Tensor, "cores rows1 dimension"], links: Tensor) -> Float[Tensor, "cores n dimension"]:
    size = states.shape[-1]
    return states.view(-1, size).index_select(0, links.reshape(-1)).view(*links.shape, size)
