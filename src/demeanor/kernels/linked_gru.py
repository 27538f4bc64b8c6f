"""Recurrences over linked rows: many cores at once, any number of chains, gradients written out by hand.

The autograd engine would add one outer product per step to every recurrent weight. Written out, the backward pass
collects the gate gradients of many steps and adds them to each weight's gradient in one matrix product, and nothing
but gates and states is stored. Rows, steps and links are those of `DialogueLayout`; C cores (modality by direction)
share them and run as one batched product per step.

Cell convention: torch's GRUCell. Gates in the order reset, update, candidate; two bias vectors; the reset gate
applies after the recurrent product:

    r = sigmoid(a_r + h_r), z = sigmoid(a_z + h_z), n = tanh(a_n + r * h_n), new = (1 - z) * n + z * old
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

Steps = Sequence[tuple[int, int]]

CHUNK = 768
"""Rows whose gate gradients are collected before they meet the weights: enough for an efficient product, few enough
to stay in the cache."""


def flat_links(links: Int[Tensor, "cores rows"]) -> Int[Tensor, "cores rows"]:
    """Links as indices into states [cores * (1 + rows)], where row 0 of each core is the zero state."""
    cores, rows = links.shape
    return links + 1 + torch.arange(cores, device=links.device)[:, None] * (rows + 1)


def linked(states: Float[Tensor, "cores rows1 dimension"], links: Tensor) -> Float[Tensor, "cores n dimension"]:
    """The states that rows are linked to. links [cores, n]: rows of the flat states, as of `flat_links`."""
    size = states.shape[-1]
    return states.view(-1, size).index_select(0, links.reshape(-1)).view(*links.shape, size)


def followers(links: Int[Tensor, "cores rows"]) -> Int[Tensor, "cores rows"]:
    """The links the other way round: the one row that links to each row, or the zero state's.

    Gradients are fetched from there instead of being added to where they belong, which is slow and on a GPU in no
    fixed order.
    """
    cores, rows = links.shape
    base = torch.arange(cores, device=links.device)[:, None] * (rows + 1)
    following = base.repeat(1, rows + 1)
    following.view(-1)[links.reshape(-1)] = (base + torch.arange(1, rows + 1, device=links.device)).view(-1)
    return following[:, 1:]


def last_chunks_first(steps: Steps) -> Iterator[tuple[int, int, Steps]]:
    """Runs of steps of about CHUNK rows, the last first: (first row, row past the last, its steps, last first)."""
    chunk: list[tuple[int, int]] = []
    for start, count in reversed(steps):
        chunk.append((start, count))
        end = chunk[0][0] + chunk[0][1]
        if end - start >= CHUNK or start == 0:
            yield start, end, chunk
            chunk = []


def gru_forward(gates: Tensor, hidden: Tensor, old: Tensor, candidate: Tensor) -> Tensor:
    """New state [..., D] from input gates, which become r, z, n, and hidden gates, both [..., 3 D].

    candidate keeps h_n for the way back.
    """
    size = old.shape[-1]
    reset_update, new = gates[..., : 2 * size], gates[..., 2 * size :]
    reset_update.add_(hidden[..., : 2 * size]).sigmoid_()
    candidate.copy_(hidden[..., 2 * size :])
    new.addcmul_(gates[..., :size], candidate).tanh_()
    return torch.lerp(new, old, gates[..., size : 2 * size])


def gru_backward(
    gradient: Tensor, old: Tensor, gates: Tensor, candidate: Tensor, for_inputs: Tensor, for_hidden: Tensor
) -> Tensor:
    """Writes the gradients of input and hidden gates [..., 3 D]; returns the old state's direct share [..., D]."""
    size = old.shape[-1]
    reset, update, new = gates[..., :size], gates[..., size : 2 * size], gates[..., 2 * size :]
    direct = gradient * update
    flat = torch.addcmul(torch.ones((), dtype=new.dtype, device=new.device), new, new, value=-1)
    before_tanh = torch.mul(gradient - direct, flat, out=for_inputs[..., 2 * size :])
    before_reset = torch.mul(before_tanh, reset, out=for_hidden[..., 2 * size :])
    torch.mul(before_reset * candidate, 1 - reset, out=for_inputs[..., :size])
    torch.mul((old - new).mul_(direct), 1 - update, out=for_inputs[..., size : 2 * size])
    for_hidden[..., : 2 * size] = for_inputs[..., : 2 * size]
    return direct


class LinkedGru(torch.autograd.Function):
    """A GRU whose rows take their old state from the row that they are linked to.

    states [C, R, S] what is read; input_weight [C, 3 D, S], input_bias [C, 3 D], weight [C, 3 D, D], bias [C, 3 D];
    links [C, R] from `flat_links`; keep [C, R, D] inverted dropout of the new state, or None.
    Returns [C, R, D].
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, input_weight: Tensor, input_bias: Tensor, weight: Tensor, bias: Tensor,
        links: Tensor, keep: Tensor | None, steps: Steps,
    ) -> Tensor:  # fmt: skip
        """New states [C, R, D] from inputs [C, R, S]; the others as the class says."""
        cores, rows, _ = inputs.shape
        size = weight.shape[2]
        gates = torch.baddbmm(input_bias[:, None], inputs, input_weight.transpose(1, 2))
        states = inputs.new_zeros((cores, rows + 1, size))
        candidate = inputs.new_empty((cores, rows, size))
        transposed, bias_row = weight.transpose(1, 2), bias[:, None]
        for start, count in steps:
            here = slice(start, start + count)
            old = linked(states, links[:, here])
            hidden = torch.baddbmm(bias_row, old, transposed)
            new = gru_forward(gates[:, here], hidden, old, candidate[:, here])
            if keep is not None:
                new.mul_(keep[:, here])
            states[:, start + 1 : start + 1 + count] = new
        ctx.save_for_backward(inputs, input_weight, weight, links, keep, states, gates, candidate)
        ctx.steps = steps
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of what `forward` took, in its shapes, from that of its states [C, R, D]."""
        inputs, input_weight, weight, links, keep, states, gates, candidate = ctx.saved_tensors
        cores, rows, size = gradient.shape
        passed_on, following = gradient.new_zeros((cores, rows + 1, size)), followers(links)
        for_read = torch.empty_like(inputs)
        for_input_weight, for_weight = torch.zeros_like(input_weight), torch.zeros_like(weight)
        for_input_bias, for_bias = input_weight.new_zeros((2, cores, 3 * size))
        for low, high, chunk in last_chunks_first(ctx.steps):
            old = linked(states, links[:, low:high])
            for_inputs, for_hidden = gradient.new_empty((2, cores, high - low, 3 * size))
            for start, count in chunk:
                here, near = slice(start, start + count), slice(start - low, start - low + count)
                coming = linked(passed_on, following[:, here]).add_(gradient[:, here])
                if keep is not None:
                    coming.mul_(keep[:, here])
                direct = gru_backward(
                    coming, old[:, near], gates[:, here], candidate[:, here], for_inputs[:, near], for_hidden[:, near]
                )
                torch.baddbmm(direct, for_hidden[:, near], weight, out=passed_on[:, start + 1 : start + 1 + count])
            for_weight.baddbmm_(for_hidden.transpose(1, 2), old)
            for_bias += for_hidden.sum(dim=1)
            for_input_weight.baddbmm_(for_inputs.transpose(1, 2), inputs[:, low:high])
            for_input_bias += for_inputs.sum(dim=1)
            for_read[:, low:high] = torch.bmm(for_inputs, input_weight)
        return for_read, for_input_weight, for_input_bias, for_weight, for_bias, None, None, None
