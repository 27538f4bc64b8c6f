"""Linear layers by convolution: the same weights, numbers and names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from demeanor.kernels import linear as products
from demeanor.kernels.linear import OneDNNLinear, linear, mkl_is_slow, use_onednn_linear


@pytest.fixture(params=[(True, 1), (True, 2), (False, 2)], ids=["slow products, one thread", "slow", "quick"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Both kinds of processor, whichever this is."""
    slow, threads = request.param
    monkeypatch.setattr(products, "mkl_is_slow", lambda: slow)
    monkeypatch.setattr(products, "WORTHWHILE", 1)
    monkeypatch.setattr(products, "LARGE", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield slow
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(5,), (3, 4, 5), (1, 5), (16, 5), (0, 5), (2, 0, 5)])
@pytest.mark.parametrize("biased", [True, False])
def test_linear_is_linear(machine: bool, shape: tuple[int, ...], biased: bool) -> None:
    torch.manual_seed(0)
    values, weight = torch.randn(shape, requires_grad=True), torch.randn(7, 5, requires_grad=True)
    bias = torch.randn(7, requires_grad=True) if biased else None
    asked = [values, weight, *([bias] if biased else [])]
    found, expected = linear(values, weight, bias), functional.linear(values, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for own, theirs in zip(
        torch.autograd.grad(found.square().sum(), asked),
        torch.autograd.grad(expected.square().sum(), asked),
        strict=True,
    ):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)


def test_other_kinds_of_numbers_are_left_to_torch(machine: bool) -> None:
    values, weight = torch.randn(3, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    assert torch.equal(linear(values, weight), functional.linear(values, weight))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(values.float(), weight.float()).dtype == torch.bfloat16


def test_steps_laid_out_otherwise_in_memory(machine: bool) -> None:
    torch.manual_seed(0)
    values, weight = torch.randn(6, 5, 4).transpose(1, 2), torch.randn(5, 7).t()
    torch.testing.assert_close(linear(values, weight), functional.linear(values, weight), rtol=1e-5, atol=1e-6)


def test_modules_through_onednn_keep_weights_names_and_numbers(machine: bool) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 6), nn.Sequential(nn.ReLU(), nn.Linear(6, 3, bias=False))).eval()
    attention = nn.MultiheadAttention(6, 2)
    module.add_module("attention", attention)
    values = torch.randn(4, 5)
    before, names = module[1](module[0](values)), {name: id(value) for name, value in module.named_parameters()}
    use_onednn_linear(module)
    assert isinstance(module[0], OneDNNLinear) == machine
    assert isinstance(module[1][1], OneDNNLinear) == machine
    assert not module[0].training
    assert {name: id(value) for name, value in module.named_parameters()} == names
    torch.testing.assert_close(module[1](module[0](values)), before, rtol=1e-5, atol=1e-6)
    assert type(attention.out_proj) is not OneDNNLinear  # its weights are used without calling it


def test_small_products_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    values, weight = torch.randn(3, 5), torch.randn(7, 5)
    assert torch.equal(linear(values, weight), functional.linear(values, weight))


def test_intel_keeps_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """On Intel's processors both libraries are equally fast, and nothing is changed."""

    class Table:
        def exists(self) -> bool:
            return True

        def read_text(self, **_: str) -> str:
            return "vendor_id\t: GenuineIntel\n"

    monkeypatch.setattr(products, "Path", lambda _: Table())
    assert not mkl_is_slow.__wrapped__()
