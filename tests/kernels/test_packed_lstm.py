"""The LSTM over real steps against torch's own, run over each row by itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from demeanor.data.batch import Padded
from demeanor.kernels.packed_lstm import last_states
from demeanor.models.blocks.layers import WIDE, LastState


def padded(lengths: list[int], width: int) -> Padded:
    """Rows of these lengths with NaN in the padding, which must reach nothing."""
    longest = max(*lengths, 1)
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    values = torch.randn(len(lengths), longest, width).masked_fill(~mask[..., None], float("nan"))
    return Padded(values.requires_grad_(), mask)


def one_by_one(rnn: nn.LSTM, rows: Padded) -> torch.Tensor:
    found = []
    for values, mask in zip(rows.values, rows.mask, strict=True):
        states, _ = rnn(values[mask][None]) if mask.any() else (torch.zeros(1, 1, rnn.hidden_size), None)
        found.append(states[0, -1])
    return torch.stack(found)


@pytest.mark.parametrize("lengths", [[3, 5, 0, 1, 5], [4, 4], [1, 1], [0, 6, 2], [7, 6, 5, 4, 3, 2, 1], [1] * 70 + [9]])
def test_states_and_gradients_are_those_of_each_row(lengths: list[int]) -> None:
    torch.manual_seed(0)
    rnn, rows = nn.LSTM(9, 7, batch_first=True), padded(lengths, 9)
    weights = torch.randn(len(lengths), 7)
    found, expected = last_states(rnn, rows), one_by_one(rnn, rows)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    asked = [rows.values, *rnn.parameters()]
    for own, theirs in zip(
        torch.autograd.grad((found * weights).sum(), asked),
        torch.autograd.grad((expected * weights).sum(), asked),
        strict=True,
    ):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-6)


def test_nobody_has_a_step() -> None:
    assert torch.equal(last_states(nn.LSTM(3, 4), padded([0, 0], 3)), torch.zeros(2, 4))


def test_wide_and_narrow_steps_give_the_same_as_torch() -> None:
    """Which of the two ways is taken is a matter of memory, not of numbers."""
    torch.manual_seed(0)
    for width in (WIDE, WIDE - 1):
        module = LastState(width, 8).eval()
        rows = padded([5, 0, 2], width)
        with torch.inference_mode():
            torch.testing.assert_close(module(rows), one_by_one(module.rnn, rows), rtol=1e-5, atol=1e-6)


def test_the_data_are_not_given_a_gradient_unless_asked() -> None:
    module = LastState(WIDE, 8)
    rows = padded([5, 2], WIDE)
    module(Padded(rows.values.detach(), rows.mask)).sum().backward()
    assert module.rnn.weight_ih_l0.grad is not None
    module(rows).sum().backward()
    assert torch.isfinite(rows.values.grad).all()
