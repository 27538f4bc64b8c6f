"""Quick dropout and attention of encoders that are trained along: torch's own, but for which entries are dropped."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from demeanor.models.blocks import layers, quick_encoder
from demeanor.models.blocks.layers import QuickDropout
from demeanor.models.blocks.quick_encoder import NAME, quick_attention, quicken

BATCH, HEADS, STEPS, WIDTH = 4, 4, 64, 8


def given(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """query, key and value that want a gradient; of each row the last steps are padding."""
    torch.manual_seed(seed)
    values = [torch.randn(BATCH, HEADS, STEPS, WIDTH, requires_grad=True) for _ in range(3)]
    lengths = torch.tensor([STEPS, 40, 9, 1])
    mask = torch.arange(STEPS) < lengths[:, None]
    return values[0], values[1], values[2], mask[:, None, None, :].expand(BATCH, 1, STEPS, STEPS)


def gradients(output: torch.Tensor, of: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    return list(torch.autograd.grad((output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum(), of))


@pytest.mark.parametrize("added", [False, True])
def test_where_nothing_is_dropped_it_is_torchs_attention(monkeypatch: pytest.MonkeyPatch, added: bool) -> None:
    monkeypatch.setattr(layers, "kept_entries", lambda shape, chance: (torch.ones(shape, dtype=torch.int8), 1.0))
    query, key, value, mask = given()
    told = torch.zeros(mask.shape).masked_fill(~mask, -1e4) if added else mask
    expected = functional.scaled_dot_product_attention(query, key, value, told).transpose(1, 2)
    found, weights = quick_attention(nn.Module(), query, key, value, told, dropout=0.1)
    assert weights is None
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients(found, (query, key, value)), gradients(expected, (query, key, value)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_each_weight_is_dropped_by_the_chance_and_the_mean_stays() -> None:
    mask, value = given()[3], torch.eye(STEPS).expand(BATCH, HEADS, STEPS, STEPS)
    query, key = torch.zeros_like(value), torch.randn(value.shape)
    # Looked at evenly, and the values tell the weights apart.
    found, _ = quick_attention(nn.Module(), query, key, value, mask, dropout=0.25, scaling=1.0)
    whole = found[0] * STEPS
    assert [round(one, 3) for one in whole.unique().tolist()] == [0.0, 1.333]
    assert (whole == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not found[1][..., 40:].any(), "padding is never looked at"


def test_without_dropout_in_small_or_with_a_bias_of_places_it_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(values: torch.Tensor, chance: float) -> torch.Tensor:
        raise AssertionError("nothing is to be drawn here")

    monkeypatch.setattr(quick_encoder, "dropped", none)
    query, key, value, mask = given()
    expected = functional.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2)
    found, _ = quick_attention(nn.Module(), query, key, value, mask)
    torch.testing.assert_close(found, expected)
    short = (query[..., :4, :], key[..., :4, :], value[..., :4, :], mask[..., :4, :4])
    assert quick_attention(nn.Module(), *short, dropout=0.1)[0].shape == (BATCH, 4, HEADS, WIDTH)
    causal = nn.Module()
    causal.is_causal = True
    assert quick_attention(causal, query, key, value, None, dropout=0.1)[0].shape == (BATCH, STEPS, HEADS, WIDTH)


@pytest.mark.parametrize("kind", ["bert", "roberta", "hubert"])
def test_an_encoder_learns_with_it_and_answers_as_before(kind: str) -> None:
    from transformers import AutoConfig, AutoModel

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    sound = {"conv_dim": [8, 8], "conv_stride": [5, 4], "conv_kernel": [10, 8], "num_feat_extract_layers": 2,
             "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "do_stable_layer_norm": False,
             "apply_spec_augment": False, "layerdrop": 0.0}  # fmt: skip
    config = AutoConfig.for_model(kind, **small, **(sound if kind == "hubert" else {}))
    torch.manual_seed(0)
    network = AutoModel.from_config(config, attn_implementation="sdpa")
    inputs = {"input_values": torch.randn(8, 1600)} if kind == "hubert" else {
        "input_ids": torch.randint(5, 100, (8, 64)), "attention_mask": torch.ones(8, 64, dtype=torch.long)
    }  # fmt: skip
    before = network.eval()(**inputs).last_hidden_state
    quicken(network)
    assert network.config._attn_implementation == NAME
    assert any(isinstance(module, QuickDropout) for module in network.modules())
    torch.testing.assert_close(network(**inputs).last_hidden_state, before)
    network.train()
    torch.manual_seed(1)
    first = network(**inputs).last_hidden_state
    first.square().mean().backward()
    assert all(torch.isfinite(one.grad).all() for one in network.parameters() if one.grad is not None)
    torch.manual_seed(1)
    torch.testing.assert_close(network(**inputs).last_hidden_state, first)  # drawn by torch's generator
    assert not torch.allclose(first, before)


def test_an_encoder_that_attends_in_another_way_is_left_to_it() -> None:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(
        "bert", hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=8
    )
    network = AutoModel.from_config(config, attn_implementation="eager")
    quicken(network)
    assert network.config._attn_implementation == "eager"
