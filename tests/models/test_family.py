"""Properties that the papers promise of systems for which there are no golden numbers, and of shared blocks."""

from __future__ import annotations

import pytest
import torch

from demeanor.data.batch import Padded
from demeanor.data.errors import InputError
from demeanor.models.blocks.alignment import spread
from demeanor.models.blocks.crossmodal import visibility
from demeanor.models.blocks.layers import LastState, QuickDropout, load_renamed
from demeanor.models.blocks.text_encoder import TextEncoder
from demeanor.models.mag_bert import AdaptationGate
from demeanor.models.misa import moment_discrepancy, orthogonality
from demeanor.models.mmim import Likelihood, contrastive, entropy
from tests.models.examples import TINY_ENCODER, build, example_batch, specification


def test_the_gate_moves_a_word_by_at_most_its_share() -> None:
    torch.manual_seed(0)
    gate = AdaptationGate(8, 3, 4, shift=0.5, dropout=0.0)
    words, audio, vision = torch.randn(2, 5, 8), 100 * torch.randn(2, 5, 3), 100 * torch.randn(2, 5, 4)
    moved = gate.displacement(words, audio, vision).norm(dim=2)
    assert (moved <= 0.5 * words.norm(dim=2) + 1e-5).all()
    assert (moved > 0).any()


def test_the_gate_needs_an_encoder_with_embeddings() -> None:
    system = build("mag_bert", tokens=True)
    del system.encoder.network.embeddings
    system.encoder.network.embeddings = None
    with pytest.raises(InputError, match="no `embeddings`"):
        system(example_batch(system))


def test_fusions_that_fit_their_own_rows_contrast_less() -> None:
    torch.manual_seed(0)
    states, everyone = torch.randn(12, 6), torch.ones(12, dtype=torch.bool)
    fitting = contrastive(states, states, everyone)
    assert fitting < contrastive(states.roll(1, 0), states, everyone)
    assert float(contrastive(torch.ones(12, 6), states, everyone)) == pytest.approx(1.0)
    assert float(contrastive(states[:1], states[:1], everyone[:1])) == 0.0


def test_the_bound_prefers_what_the_text_explains_and_the_entropy_what_spreads() -> None:
    torch.manual_seed(0)
    given = torch.randn(200, 4)
    wanted = given[:, :2] * 2
    model = Likelihood(4, 16, 2)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(50):
        optimiser.zero_grad()
        (-model(given, wanted).mean()).backward()
        optimiser.step()
    assert model(given, wanted).mean() > model(given, wanted.roll(1, 0)).mean() + 0.2
    assert entropy(3 * given) > entropy(given)


def test_the_estimators_bound_moves_the_encoders_and_not_the_estimators() -> None:
    system = build("mmim")
    batch = example_batch(system)
    terms = system.train().loss(system(batch), batch)
    terms["bound"].backward(retain_graph=True)
    assert all(value.grad is None for value in system.estimators.parameters())
    assert any(value.grad is not None for value in system.sequences.parameters())
    system.zero_grad()
    terms["estimation"].backward()
    assert all(value.grad is not None for value in system.estimators.parameters())
    assert all(value.grad is None for value in system.sequences.parameters())


def test_reconstruction_looks_at_hidden_steps_alone_and_learns() -> None:
    system = build("tfr_net")
    found, original = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    dropped = torch.zeros(2, 3, dtype=torch.bool)
    assert float(system.reconstruction(found, original, dropped)) == 0.0
    dropped[0, 1] = True
    original[1] = 1e6
    assert float(system.reconstruction(found, original, dropped)) == pytest.approx(0.5)
    batch = example_batch(system)
    optimiser = torch.optim.Adam(system.parameters(), 1e-2)
    losses = []
    for step in range(40):
        torch.manual_seed(step % 2)
        optimiser.zero_grad()
        terms = system.train().loss(system(batch), batch)
        terms["reconstruction"].backward()
        optimiser.step()
        losses.append(float(terms["reconstruction"].detach()))
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_language_alone_guides_what_is_taken_of_audio() -> None:
    system = build("almt")
    batch = example_batch(system)
    heard = []
    system.levels[0].attentions["audio"].register_forward_hook(lambda module, given, found: heard.append(given[0]))
    system.eval()(batch)
    system(batch.without(["audio", "vision"]))
    torch.testing.assert_close(heard[0], heard[1], rtol=0, atol=1e-6)  # the query knows only the text
    system(batch.without(["text"]))
    assert float((heard[0] - heard[2]).detach().abs().max()) > 1e-3


def test_orthogonality_and_moments_of_misa() -> None:
    torch.manual_seed(0)
    first = torch.randn(50, 4)
    apart = torch.cat([first[:, :2], torch.zeros(50, 2)], 1), torch.cat([torch.zeros(50, 2), torch.randn(50, 2)], 1)
    assert orthogonality(*apart) < orthogonality(first, first)
    assert float(moment_discrepancy(first, first)) < 1e-6
    assert moment_discrepancy(first, first + 1) > 1
    single = torch.randn(1, 4, requires_grad=True)
    (moment_discrepancy(single, single.detach()) + orthogonality(single, single)).backward()
    assert torch.isfinite(single.grad).all()


def test_frames_are_spread_over_each_rows_own_steps() -> None:
    values = torch.arange(8.0).view(1, 8, 1).repeat(3, 1, 1)
    mask = torch.arange(8)[None] < torch.tensor([8, 4, 0])[:, None]
    laid = spread(Padded(values, mask), torch.tensor([4, 8, 2]))
    assert laid.values[0, :4, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert laid.values[1, :, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert laid.present.tolist() == [True, True, False]
    uneven = spread(Padded(values[:1, :3], mask[:1, :3]), torch.tensor([2]))
    assert uneven.values[0, :, 0].tolist() == pytest.approx([1 / 3, 5 / 3])


def test_a_causal_mask_follows_each_rows_own_lengths() -> None:
    query = torch.tensor([[True, True, True, False]])
    key = torch.tensor([[True, True, True, True, True, False]])
    seen = visibility(query, key, causal=True)
    assert seen is not None
    assert seen[0, 0].sum(dim=1).tolist() == [3, 4, 5, 5]
    assert visibility(query, torch.ones(1, 6, dtype=torch.bool), causal=False) is None


def test_the_last_state_is_that_of_a_packed_sequence() -> None:
    torch.manual_seed(0)
    encoder = LastState(3, 5, layers=2)
    lengths = torch.tensor([4, 1, 6])
    mask = torch.arange(6)[None] < lengths[:, None]
    values = torch.randn(3, 6, 3)
    packed = torch.nn.utils.rnn.pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
    torch.testing.assert_close(encoder(Padded(values, mask)), encoder.rnn(packed)[1][0][-1])


def test_weights_under_other_names_are_all_accounted_for() -> None:
    module = torch.nn.Linear(2, 3)
    given = {"Model.out.weight": torch.ones(3, 2), "Model.out.bias": torch.ones(3), "Model.unused": torch.ones(1)}
    load_renamed(module, given, {"out.": "", "unused": ""} | {"out.w": "w", "out.b": "b"}, "Model.")
    assert torch.equal(module.weight, torch.ones(3, 2))
    with pytest.raises(InputError) as caught:
        load_renamed(module, {"weight": torch.ones(1, 1), "other": torch.ones(1)}, {})
    assert len(caught.value.problems) == 4


def test_a_frozen_encoder_neither_learns_nor_drops_out() -> None:
    specified = specification("text", type(build("self_mm")).card.roles["text"], tokens=True)
    encoder = TextEncoder(specified, finetune=False, configuration=TINY_ENCODER).train()
    ids = Padded(torch.randint(5, 50, (2, 4, 1)), torch.ones(2, 4, dtype=torch.bool))
    first, second = encoder(ids)[0], encoder(ids)[0]
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not any(value.requires_grad for value in encoder.parameters())


def test_an_encoder_that_is_nowhere_and_a_row_that_is_too_long_say_so() -> None:
    specified = specification("text", type(build("self_mm")).card.roles["text"], tokens=True)
    with pytest.raises(InputError, match="names no encoder"):
        TextEncoder(specified)
    encoder = TextEncoder(specified, configuration=TINY_ENCODER)
    with pytest.raises(InputError, match="33 tokens"):
        encoder(Padded(torch.ones(1, 33, 1, dtype=torch.long), torch.ones(1, 33, dtype=torch.bool)))


@pytest.mark.parametrize("name", ["lf_dnn", "tfn", "lmf", "mfn", "mult"])
def test_as_published_padding_is_data(name: str) -> None:
    """What `reference` keeps, and why it is not the default: predictions that depend on the padded length."""
    system = build(name)
    batch = example_batch(system)
    found = []
    for max_length in (12, 20):
        inputs = {role: value.model_copy(update={"max_length": max_length}) for role, value in system.inputs.items()}
        torch.manual_seed(0)
        published = type(system)(system.settings.model_copy(update={"reference": True}), inputs, system.task)
        found.append(published.eval()(batch).prediction)
    assert not torch.allclose(*found)


def test_quick_dropout_keeps_the_mean_and_drops_the_same_entries_of_the_gradient() -> None:
    torch.manual_seed(0)
    layer = QuickDropout(0.3)
    values = torch.ones(400, 501, requires_grad=True)
    found = layer(values)
    assert float((found == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(found.detach().mean()) == pytest.approx(1.0, abs=0.01)
    # Each of the four entries of a draw is as likely to go as the others.
    shares = (found.detach().flatten()[: 400 * 500].view(-1, 4) == 0).float().mean(dim=0)
    assert torch.allclose(shares, torch.full((4,), 0.3), atol=0.01)
    found.sum().backward()
    assert torch.equal(values.grad, found.detach())
    assert torch.equal(layer.eval()(values), values)
    torch.manual_seed(0)
    assert torch.equal(layer.train()(values), found)
