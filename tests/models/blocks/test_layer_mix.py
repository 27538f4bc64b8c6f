"""The learnt mix of an encoder's layers, and the unimodal system that stands on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.models.blocks.layer_mix import LayerMix, LayerStack
from demeanor.models.unimodal import AudioOnly, UnimodalSettings
from tests.models.examples import PROVENANCE, TASKS


def padded(values: torch.Tensor, lengths: list[int]) -> Padded:
    return Padded(values, torch.arange(values.shape[1]) < torch.tensor(lengths).unsqueeze(1))


def test_a_mix_is_the_weighted_mean_of_layers_standardised_by_training_rows() -> None:
    torch.manual_seed(0)
    values = torch.randn(6, 3, 4) * 5 + 2
    mix = LayerMix(3, 4)
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([1.0, 0.0, -1.0]))
        answer = mix.train()(padded(values, [3] * 6)).numpy()
    share = np.exp([1.0, 0.0, -1.0]) / np.exp([1.0, 0.0, -1.0]).sum()
    mixed = np.einsum("bld,l->bd", values.numpy(), share)
    np.testing.assert_allclose(answer, (mixed - mixed.mean(0)) / mixed.std(0), rtol=1e-3, atol=1e-3)


def test_a_trained_mix_answers_alike_alone_and_in_a_batch_and_for_absent_rows() -> None:
    torch.manual_seed(1)
    values = torch.randn(5, 2, 4)
    mix = LayerMix(2, 4)
    mix(padded(values, [2] * 5))
    assert mix.standard.running_mean is not None
    before = mix.standard.running_mean.clone()
    mix(padded(values[:1], [2]))  # one row cannot be standardised by itself
    torch.testing.assert_close(mix.standard.running_mean, before)
    mix.eval()
    with torch.no_grad():
        mix.absence.vector.fill_(7.0)
        together = mix(padded(torch.where(torch.arange(5).view(5, 1, 1) == 3, torch.nan, values), [2, 2, 2, 0, 2]))
        torch.testing.assert_close(together[:1], mix(padded(values[:1], [2])))
        assert (together[3] == 7.0).all()
        assert (mix(padded(values[:2, :0], [0, 0])) == 7.0).all()


def test_rows_with_other_numbers_of_layers_are_refused() -> None:
    with pytest.raises(InputError, match="rows have 2 steps, not one for each of 3 layers"):
        LayerMix(3, 4)(padded(torch.zeros(2, 3, 4), [3, 2]))


def test_a_stack_is_its_layers_side_by_side_standardised_by_training_rows() -> None:
    torch.manual_seed(3)
    values = torch.randn(6, 4, 2) * 3 + 1
    stack = LayerStack(4, (1, 3), 2)
    with torch.no_grad():
        answer = stack.train()(padded(values, [4] * 6)).numpy()
    side_by_side = values[:, [1, 3]].flatten(1).numpy()
    expected = (side_by_side - side_by_side.mean(0)) / side_by_side.std(0)
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-3)
    stack.eval()
    with torch.no_grad():
        stack.absence.vector.fill_(5.0)
        together = stack(padded(values, [4, 4, 0, 4, 4, 4]))
        torch.testing.assert_close(together[:1], stack(padded(values[:1], [4])))
        assert (together[2] == 5.0).all()
    with pytest.raises(InputError, match="rows have 3 steps, not one for each of 4 layers"):
        stack(padded(values[:, :3], [3] * 6))
    with pytest.raises(ValueError, match="there is no 4 among 4 layers"):
        UnimodalSettings(layers=4, stacked=(1, 4))


def test_audio_only_learns_which_layer_speaks() -> None:
    """The class lies in layer 1 of three, noise in the others."""
    torch.manual_seed(2)
    task = TASKS["classification"]
    truth = torch.arange(120) % 3
    values = torch.randn(120, 3, 6) * 2
    values[:, 1] += 3 * torch.nn.functional.one_hot(truth, 6)
    inputs = {"audio": InputSpecification(stream="audio.layers", dimension=6, integer=False, provenance=PROVENANCE)}
    system = AudioOnly(UnimodalSettings(layers=3, dropout=0.1), inputs, task)
    rows = torch.arange(120)
    batch = Batch({"audio": padded(values, [3] * 120)}, tuple(map(str, range(120))), rows, rows, rows * 0, rows * 0 - 1)
    optimiser = torch.optim.AdamW(system.parameters(), lr=3e-2)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(system(batch).prediction, truth).backward()
        optimiser.step()
    assert isinstance(system.encoder, LayerMix)
    share = system.encoder.weights.softmax(dim=0)
    assert int(share.argmax()) == 1
    assert share[1] > 0.6
