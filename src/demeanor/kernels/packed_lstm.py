"""A forward LSTM over real steps, with its gradient written out.

Sequences are sorted by length and laid out step by step, as torch packs them: at each step the rows that still run are
the first ones. One matrix product makes the input gates of all steps, and gradients of weights are one product each;
data, which nobody trains, get no gradient, and nothing is computed for padding. Hochreiter and Schmidhuber
1997, https://doi.org/10.1162/neco.1997.9.8.1735, with gates in torch's order i, f, g, o.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from demeanor.data.batch import Padded
from demeanor.kernels.linear import linear, rounded


def last_states(rnn: nn.LSTM, padded: Padded) -> Float[Tensor, "batch hidden"]:
    """State of a one-layer forward LSTM at the last real step of each row; zeros for a row without one.

    Autocast stops here: the steps write into memory of one kind, the weights'.
    """
    with torch.autocast(padded.values.device.type, enabled=False):
        return _last_states(rnn, padded)


def _last_states(rnn: nn.LSTM, padded: Padded) -> Tensor:
    lengths, order = padded.mask.sum(dim=1).sort(descending=True, stable=True)
    weight = rnn.get_parameter("weight_ih_l0")
    result = weight.new_zeros((len(lengths), rnn.hidden_size))
    if not int(lengths[0]):
        return result
    # Real steps by time, at each time the longest rows first: [N, 2] of time and place in the order.
    steps = torch.nonzero(padded.mask[order].t())
    running = torch.bincount(steps[:, 0]).tolist()
    taken = order[steps[:, 1]] * padded.values.shape[1] + steps[:, 0]
    taken = torch.cat([taken, taken[:1].expand(rounded(len(taken)) - len(taken))])  # as `linear` would do by a copy
    inputs = padded.values.flatten(0, 1).index_select(0, taken).to(weight.dtype)
    bias = rnn.get_parameter("bias_ih_l0") + rnn.get_parameter("bias_hh_l0")
    gates = linear(inputs, weight, bias)
    last = _LastState.apply(gates, rnn.get_parameter("weight_hh_l0"), running)
    return result.index_copy(0, order[: running[0]], last)


class _LastState(torch.autograd.Function):
    """Last states [B, D] of rows in order of length, the longest first.

    inputs: gates [N or more, 4 D] of all real steps without the recurrence, whose weight is [4 D, D]; running: how many
    rows each step has, never more than the one before.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, running: list[int]) -> Tensor:
        size, total = weight.shape[1], sum(running)
        gates = inputs.new_empty((total, 4 * size))
        cells, squashed, states = (inputs.new_empty((total, size)) for _ in range(3))
        blocks = [block.split(running) for block in gates.split(size, dim=1)]
        two = gates[:, : 2 * size].split(running)
        parts = zip(inputs[:total].split(running), gates.split(running), two, *blocks, strict=True)
        steps = zip(cells.split(running), squashed.split(running), states.split(running), strict=True)
        cell = state = inputs.new_zeros((running[0], size))
        back = weight.t()
        for (given, here, put_forget, put, forget, new, out), (next_cell, flat, next_state) in zip(
            parts, steps, strict=True
        ):
            count = len(here)
            torch.addmm(given, state[:count], back, out=here)
            put_forget.sigmoid_()
            new.copy_(new.tanh())  # in place it would take twice as long: no wide instructions over gaps
            out.sigmoid_()
            cell = torch.mul(forget, cell[:count], out=next_cell).addcmul_(put, new)
            state = torch.mul(torch.tanh(cell, out=flat), out, out=next_state)
        ctx.save_for_backward(weight, gates, cells, squashed, states)
        ctx.running, ctx.rows = running, len(inputs)
        return states[_last_rows(running)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, gates, cells, squashed, states = ctx.saved_tensors
        size, running, total = weight.shape[1], ctx.running, len(gates)
        before, first = _rows_before(running), running[0]
        put, forget, new, out = gates.split(size, dim=1)
        of_inputs = gates.new_empty((ctx.rows, 4 * size))
        of_inputs[total:] = 0
        of_gates = of_inputs[:total].view(total, 4, size)
        # What each gate's gradient is per unit of the cell's gradient (the output gate's: of the state's).
        torch.mul(new, put - put * put, out=of_gates[:, 0])
        of_gates[:first, 1] = 0
        torch.mul(cells[before], (forget - forget * forget)[first:], out=of_gates[first:, 1])
        torch.mul(put, 1 - new * new, out=of_gates[:, 2])
        torch.mul(squashed, out - out * out, out=of_gates[:, 3])
        through = out * (1 - squashed * squashed)
        of_state, of_cell = gradient.clone(), torch.zeros_like(gradient)  # of rows that ended, of those that run on
        rows = zip(
            of_inputs[:total].split(running), of_gates[:, :3].split(running), of_gates[:, 3].split(running),
            through.split(running), forget.split(running), strict=True,
        )  # fmt: skip
        for whole, of_three, of_out, passed, kept in reversed(list(rows)):
            down, cell_down = of_state[: len(whole)], of_cell[: len(whole)]
            of_out.mul_(down)
            cell_down.addcmul_(down, passed)
            of_three.mul_(cell_down[:, None])
            cell_down.mul_(kept)
            torch.mm(whole, weight, out=down)
        return of_inputs, of_inputs[first:total].t() @ states[before], None


def _last_rows(running: list[int]) -> Tensor:
    """[B] where the last step of each row is among all steps."""
    counts = torch.tensor(running)
    steps = (counts[:, None] > torch.arange(running[0])).sum(dim=0) - 1
    return (counts.cumsum(0) - counts)[steps] + torch.arange(running[0])


def _rows_before(running: list[int]) -> Tensor:
    """[N - B] where the step before is, of all steps but the first ones."""
    counts = torch.tensor(running)
    return torch.arange(running[0], int(counts.sum())) - counts[:-1].repeat_interleave(counts[1:])
