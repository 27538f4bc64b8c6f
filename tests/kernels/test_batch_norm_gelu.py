"""The thrifty batch norm, GELU and pooling give the framework's own values, gradients and running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from demeanor.kernels.batch_norm_gelu import normalise
from demeanor.kernels.conv import pool_pairs, unpool_pairs


def plain(norm: nn.BatchNorm2d, values: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
    """Row by row, as the docstring promises it."""
    if places is None:
        return functional.gelu(norm(values))
    batch, channels, height, width = values.shape
    rows = values.permute(0, 2, 3, 1).reshape(-1, channels)
    active = functional.gelu(norm(rows[places][:, :, None, None]))[:, :, 0, 0]
    laid = torch.zeros_like(rows).index_put((places,), active)
    return laid.view(batch, height, width, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("places", [None, [0, 3, 4, 11, 40, 69]], ids=["all observed", "some observed"])
@pytest.mark.parametrize("training", [True, False])
def test_values_gradients_and_statistics_are_those_of_the_framework(layout, places, training: bool):
    torch.manual_seed(0)
    values = torch.randn(2, 5, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    wanted = torch.randn(2, 5, 5, 7, dtype=torch.float64)
    where = None if places is None else torch.tensor(places)
    norm = nn.BatchNorm2d(5).double().train(training)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    results = []
    for function in (normalise, plain):
        own, given = copy.deepcopy(norm), values.clone(memory_format=torch.preserve_format).requires_grad_()
        found = function(own, given, where)
        (found * wanted).sum().backward()
        results.append([found, given.grad, own.weight.grad, own.bias.grad, *own.buffers()])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_pooling_and_unpooling_have_the_frameworks_gradients():
    torch.manual_seed(0)
    values = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    results = []
    for mine in (True, False):
        given = values.clone().requires_grad_()
        pooled, switches = pool_pairs(given) if mine else functional.max_pool2d(given, 2, return_indices=True)
        back = (
            unpool_pairs(pooled * 2, switches, given.shape)
            if mine
            else functional.max_unpool2d(pooled * 2, switches, (2, 2), output_size=[5, 7])
        )
        (back.square().sum() + pooled.sum()).backward()
        results.append((pooled, switches, back, given.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_map_is_remembered_once():
    """What autograd keeps of one block is the convolution's output, not the norm's and GELU's as well."""
    norm, values = nn.BatchNorm2d(16), torch.randn(4, 16, 20, 30)
    kept: dict[int, int] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        pool_pairs(normalise(norm, values.requires_grad_(), None))
    assert sum(size == values.numel() for size in kept.values()) == 1
