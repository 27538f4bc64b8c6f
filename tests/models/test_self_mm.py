"""Self-MM where the golden files do not reach: rates and decay, resuming, frozen and fine-tuned text."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from demeanor.models.self_mm import SelfMM
from tests.models.examples import build, example_batch, take


def groups_of(system: SelfMM) -> dict[str, dict[str, Any]]:
    """Parameter name -> its optimiser group."""
    named = {id(value): name for name, value in system.named_parameters()}
    groups = system.parameter_groups(1e-3, 1e-2)
    return {named[id(value)]: group for group in groups for value in group["params"]}


def test_every_part_has_its_own_rate_and_decay() -> None:
    system = build("self_mm", tokens=True)
    chosen = {"audio_learning_rate": 5e-3, "audio_weight_decay": 0.5, "text_weight_decay": 0.25}
    system.settings = system.settings.model_copy(update=chosen)
    groups = groups_of(system)
    word = groups["text.network.embeddings.word_embeddings.weight"]
    assert (word["lr"], word["weight_decay"]) == (5e-5, 0.25)
    assert groups["text.network.embeddings.LayerNorm.weight"]["weight_decay"] == 0.0
    audio = groups["audio.recurrent.rnn.weight_ih_l0"]
    assert (audio["lr"], audio["weight_decay"]) == (5e-3, 0.5)
    assert groups["vision.project.weight"]["lr"] == 1e-3
    assert groups["heads.fusion.first.weight"]["weight_decay"] == 1e-2


@pytest.mark.parametrize("reference", [False, True])
def test_heads_that_learn_nothing_yet_do_not_shrink_unless_as_published(reference: bool) -> None:
    system = build("self_mm")
    settings = system.settings.model_copy(update={"reference": reference, "other_weight_decay": 0.1})
    torch.manual_seed(0)
    system = SelfMM(settings, system.inputs, system.task)
    batch = example_batch(system)
    system.on_train_start(lambda: [batch], len(batch))
    before = system.heads["text"].first.weight.detach().clone()
    steps(system, torch.optim.Adam(system.parameter_groups(1e-3, 0.1)), range(1, 3))
    after = system.heads["text"].first.weight.detach()
    assert bool((after.abs() < before.abs()).all()) is reference
    assert torch.equal(after, before) is not reference


def steps(system: SelfMM, optimiser: torch.optim.Optimizer, epochs: range) -> None:
    batch = example_batch(system)
    for epoch in epochs:
        for rows in (range(4), range(4, 8)):
            part = take(batch, rows)
            torch.manual_seed(epoch)
            optimiser.zero_grad()
            output = system.train()(part)
            system.loss(output, part)["total"].backward()
            system.on_step_end(output, part, epoch)
            optimiser.step()


def test_a_training_cut_in_two_is_the_whole_one() -> None:
    def fresh() -> tuple[SelfMM, torch.optim.Optimizer]:
        system = build("self_mm", tokens=True)
        return system, torch.optim.Adam(system.parameter_groups(1e-2, 1e-3))

    whole, optimiser = fresh()
    batch = example_batch(whole)
    whole.on_train_start(lambda: [batch], len(batch))
    steps(whole, optimiser, range(1, 3))
    kept = copy.deepcopy((whole.state_dict(), optimiser.state_dict()))
    steps(whole, optimiser, range(3, 6))
    resumed, other = fresh()
    resumed.load_state_dict(kept[0])
    other.load_state_dict(kept[1])
    steps(resumed, other, range(3, 6))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(whole.bank.labels[1], whole.bank.labels[0])


def test_pooling_follows_from_what_the_text_is() -> None:
    assert build("self_mm").text.pooling == "mean"
    tokens = build("self_mm", tokens=True)
    assert tokens.text.pooling == "first"
    assert tokens.length_bucket == ("text",)
    assert tokens.settings.encoder_configuration["vocab_size"] == 60


def test_an_absent_modality_has_no_unimodal_loss() -> None:
    """Unimodal losses count the rows that have the modality."""
    system = build("self_mm")
    batch = example_batch(system)
    system.on_train_start(lambda: [batch], len(batch))
    system.bank.labels[2] += 1.0
    system.train()
    terms = system.loss(system(batch), batch)
    silent = batch.without(["audio"])
    assert float(system.loss(system(silent), silent)["audio"].detach()) == 0.0
    assert float(terms["audio"].detach()) > 0.0


def test_the_first_state_alone_is_that_of_the_whole_encoder() -> None:
    system = build("self_mm", tokens=True).eval()
    padded = example_batch(system)["text"]
    whole, short = system.text(padded)[0], system.text(padded, first=True)[0]
    assert short.shape[1] == 1
    assert torch.allclose(short[:, 0], whole[:, 0], atol=1e-6)
    assert system.text(padded)[0].shape == whole.shape
    (gradient,) = torch.autograd.grad(short[:, 0].sum(), [next(system.text.parameters())], retain_graph=True)
    (expected,) = torch.autograd.grad(whole[:, 0].sum(), [next(system.text.parameters())])
    assert torch.allclose(gradient, expected, atol=1e-5)
