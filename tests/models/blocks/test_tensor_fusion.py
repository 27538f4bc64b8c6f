"""The perceptron over an outer product that is never held as a whole: the same numbers as over the whole of it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from demeanor.models.blocks import tensor_fusion
from demeanor.models.blocks.layers import QuickDropout, kept_entries
from demeanor.models.blocks.tensor_fusion import TensorFusion, outer_product

WIDTHS = {"audio": 9, "vision": 20, "text": 30}


def states() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(16, width, requires_grad=True) for name, width in WIDTHS.items()}


def gradients(head: TensorFusion, given: dict[str, torch.Tensor], found: torch.Tensor) -> list[torch.Tensor]:
    return [found, *torch.autograd.grad(found.square().sum(), [*given.values(), *head.parameters()])]


@pytest.mark.parametrize("at_a_time", [1, 30_000, 1 << 19])
def test_slices_are_the_whole(monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    """Predictions and every gradient, however many rows of the product are worked on at a time."""
    monkeypatch.setattr(tensor_fusion, "SLICE", at_a_time)
    torch.manual_seed(0)
    head, given = TensorFusion(WIDTHS, 12, 2, dropout=0.0), states()
    whole = head.behind(functional.linear(outer_product(given), head.first.weight, head.first.bias))
    for sliced, expected in zip(gradients(head, given, head(given)), gradients(head, given, whole), strict=True):
        torch.testing.assert_close(sliced, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chance", [0.5, 0.3])
def test_dropped_entries_are_those_of_the_draw(chance: float) -> None:
    torch.manual_seed(0)
    head, given = TensorFusion(WIDTHS, 12, 2, chance).train(), states()
    torch.manual_seed(7)
    found = gradients(head, given, head(given))
    torch.manual_seed(7)
    pairs = (WIDTHS["vision"] + 1) * (WIDTHS["text"] + 1)
    kept, scale = kept_entries((WIDTHS["audio"] + 1, 16, pairs), chance)
    dropped = outer_product(given) * kept.transpose(0, 1).flatten(1) * scale
    whole = head.behind(functional.linear(dropped, head.first.weight, head.first.bias))
    for sliced, expected in zip(found, gradients(head, given, whole), strict=True):
        torch.testing.assert_close(sliced, expected, rtol=1e-4, atol=1e-5)


def test_nothing_is_dropped_in_evaluation() -> None:
    head, given = TensorFusion(WIDTHS, 12, 2, dropout=0.5).eval(), states()
    expected = head.behind(functional.linear(outer_product(given), head.first.weight, head.first.bias))
    torch.testing.assert_close(head(given), expected, rtol=1e-5, atol=1e-6)


def test_a_small_product_is_ordinary() -> None:
    """Too small to be worth slices: the same head, by the plain way."""
    head = TensorFusion({"audio": 2, "vision": 2, "text": 2}, 4, 1, dropout=0.0)
    given = {name: torch.randn(3, 2) for name in WIDTHS}
    expected = head.behind(head.first(outer_product(given)))
    torch.testing.assert_close(head(given), expected)


def test_a_coin_is_fair_in_every_place() -> None:
    torch.manual_seed(0)
    kept, scale = kept_entries((64, 10_001), 0.5)
    assert scale == 2.0
    assert set(kept.unique().tolist()) == {0, 1}
    assert float(kept.float().mean()) == pytest.approx(0.5, abs=0.002)
    assert torch.allclose(kept.float().mean(dim=1), torch.full((64,), 0.5), atol=0.025)
    # No entry tells another: neighbours, and those eight rows apart that share a byte, agree half of the time.
    flat = kept.flatten().float() - 0.5
    share = kept.numel() // 8 + 1
    for distance in (1, share, 2 * share):
        assert abs(float((flat[distance:] * flat[:-distance]).mean())) < 0.002


def test_dropout_by_coins_keeps_the_mean() -> None:
    torch.manual_seed(0)
    found = QuickDropout(0.5)(torch.ones(200, 500))
    assert set(found.unique().tolist()) == {0.0, 2.0}
    assert float(found.mean()) == pytest.approx(1.0, abs=0.02)
