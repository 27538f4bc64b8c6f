"""LSTMs under autocast: on every processor, with the warning once, and in one place for all systems."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from demeanor.data.batch import Padded
from demeanor.kernels.lstm import LSTM, kernel_for
from demeanor.kernels.packed_lstm import last_states
from demeanor.models import SYSTEMS, find_system
from demeanor.models.blocks.layers import WIDE, LastState
from tests.models.examples import build, example_batch

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor without half-precision recurrences, whatever this one has."""
    ordinary = nn.LSTM.forward

    def forward(self, *given):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")
        return ordinary(self, *given)

    monkeypatch.setattr(nn.LSTM, "forward", forward)
    kernel_for.cache_clear()
    yield
    kernel_for.cache_clear()


@pytest.mark.parametrize("kind", HALVES, ids=str)
def test_without_a_kernel_it_runs_in_float32_and_says_so_once(kind: torch.dtype, no_kernel, caplog) -> None:
    torch.manual_seed(0)
    layer, values = LSTM(5, 4, batch_first=True, bidirectional=True), torch.randn(3, 6, 5)
    expected, (state, cell) = layer(values)
    packed = pack_padded_sequence(values, torch.tensor([6, 2, 4]), batch_first=True, enforce_sorted=False)
    plain = layer(packed)[0].data
    with caplog.at_level(logging.WARNING), torch.autocast("cpu", dtype=kind):
        found, (found_state, found_cell) = layer(values)
        again = layer(values, (torch.zeros(2, 3, 4, dtype=kind), torch.zeros(2, 3, 4, dtype=kind)))[0]
        from_packed = layer(packed)[0].data
    for one, other in ((found, expected), (found_state, state), (found_cell, cell), (again, expected)):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(from_packed, plain)
    told = [record.message for record in caplog.records]
    assert len(told) == 1
    assert str(kind).removeprefix("torch.") in told[0]
    assert "float32" in told[0]


@pytest.mark.parametrize("kind", HALVES, ids=str)
def test_this_processor_runs_it_there_and_back(kind: torch.dtype) -> None:
    """With a kernel or without one; what comes in may be in half precision already."""
    torch.manual_seed(0)
    layer, values = LSTM(5, 4, num_layers=2, batch_first=True), torch.randn(3, 6, 5, requires_grad=True)
    expected = layer(values)[0]
    with torch.autocast("cpu", dtype=kind):
        found = layer(values.to(kind))[0]
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.02)
    found.float().sum().backward()
    assert torch.isfinite(values.grad).all()
    assert all(torch.isfinite(weight.grad).all() for weight in layer.parameters())


def test_the_trial_draws_nothing_from_the_generator() -> None:
    kernel_for.cache_clear()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    kernel_for(torch.bfloat16)
    assert torch.equal(torch.rand(1), expected)


def test_the_recurrence_over_real_steps_stays_in_the_kind_of_its_weights(no_kernel) -> None:
    torch.manual_seed(0)
    module = LastState(WIDE, 4)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rows = Padded(torch.randn(2, 3, WIDE), mask)
    expected = module(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for found in (module(rows), last_states(module.rnn, Padded(rows.values.bfloat16().float(), mask))):
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_system_has_an_lstm_of_its_own(name: str) -> None:
    system = build(name, find_system(name).card.tasks[0])
    bare = [place for place, part in system.named_modules() if isinstance(part, nn.LSTM) and type(part) is not LSTM]
    assert not bare, f"{bare}: take demeanor.kernels.lstm.LSTM, which runs under autocast on any processor"


@pytest.mark.parametrize("name", ["ef_lstm", "misa", "contextual_lstm", "tetfn", "lf_dnn"])
def test_systems_with_recurrences_train_without_a_kernel(name: str, no_kernel) -> None:
    """One system of each way of using an LSTM: dense, packed, over dialogues, before a convolution, the last state."""
    system = build(name, find_system(name).card.tasks[0])
    batch = example_batch(system)
    system.on_train_start(lambda: [batch], len(batch))
    system.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = system.loss(system(batch), batch)["total"]
    loss.backward()
    recurrent = [weight for part in system.modules() if isinstance(part, LSTM) for weight in part.parameters()]
    assert recurrent
    assert all(torch.isfinite(weight.grad).all() for weight in recurrent if weight.grad is not None)
    assert any(weight.grad is not None and bool(weight.grad.any()) for weight in recurrent)
