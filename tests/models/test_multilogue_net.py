"""Multilogue-Net: layout, gradients by hand, the oracle on random dialogues, what never changes a prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.provenance import Provenance
from demeanor.data.task import IGNORED, Task
from demeanor.models import find_system
from demeanor.models.base import Output
from demeanor.models.multilogue.cells import MultilogueCores
from demeanor.models.multilogue.layout import NONE, DialogueLayout
from demeanor.models.multilogue.network import MultilogueNetwork
from demeanor.models.multilogue.published import load_reference, reference_tensors
from demeanor.models.multilogue.system import ENCODED_TOGETHER, MultilogueNet, MultilogueNetSettings
from tests.models.examples import TINY_ENCODER, VOCABULARY, specification
from tests.models.multilogue_oracle import Oracle, loss_of, one_hot_speakers

WIDTHS = {"text": 5, "audio": 4, "vision": 3}
DIMS = {"D_text": 5, "D_audio": 4, "D_video": 3, "D_ctx": 5, "D_g": 6, "D_p": 7, "D_e": 5, "D_h": 4}
REGRESSION = Task(name="sentiment", kind="regression", column="sentiment")
EMOTION = Task(name="emotion", kind="classification", column="emotion", classes=("calm", "glad", "sad"))
EMOTIONS = Task(name="emotions", kind="multilabel", column="emotion", classes=("glad", "sad", "angry"))
DIALOGUES = ((0, 1, 0, 2, 1, 0), (0,), (0, 0, 1, 1), (-1, -1, -1), (0, -1, 1, 0, -1))


def make_batch(
    dialogues: tuple[tuple[int, ...], ...] = DIALOGUES,
    task: Task = EMOTION,
    seed: int = 0,
    steps: int = 1,
    roles: tuple[str, ...] = tuple(WIDTHS),
) -> Batch:
    """One speaker number per utterance and dialogue; features, lengths of streams and labels at random."""
    generator = torch.Generator().manual_seed(seed)
    dialogue = torch.tensor([n for n, speakers in enumerate(dialogues) for _ in speakers])
    turn = torch.tensor([t for speakers in dialogues for t in range(len(speakers))])
    speaker = torch.tensor([party for speakers in dialogues for party in speakers])
    count = len(dialogue)
    inputs = {}
    for role in roles:
        lengths = torch.randint(1, steps + 1, (count, 1), generator=generator)
        mask = torch.arange(steps) < lengths
        inputs[role] = Padded(torch.randn((count, steps, WIDTHS[role]), generator=generator), mask)
    if task.kind == "regression":
        target = torch.randn(count, generator=generator)
    elif task.kind == "classification":
        target = torch.arange(count) % task.outputs
    else:
        target = (torch.rand((count, task.outputs), generator=generator) > 0.6).float()
    ids = tuple(f"u{n}" for n in range(count))
    return Batch(inputs, ids, torch.arange(count), dialogue, turn, speaker, {"target": target})


def make_system(
    task: Task = EMOTION, roles: tuple[str, ...] = tuple(WIDTHS), seed: int = 0, **changes
) -> MultilogueNet:
    torch.manual_seed(seed)
    made = Provenance(extractor="test", version="1")
    inputs = {
        role: InputSpecification(stream=f"{role}.vector", dimension=WIDTHS[role], provenance=made) for role in roles
    }
    return MultilogueNet(MultilogueNet.tiny().model_copy(update=changes), inputs, task)


def select(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch; dialogues and turns are counted anew."""
    _, dialogue = torch.unique(batch.dialogue[rows], return_inverse=True)
    inputs = {role: Padded(value.values[rows], value.mask[rows]) for role, value in batch.inputs.items()}
    ids = tuple(batch.ids[n] for n in rows.tolist())
    labels = {"target": batch.target[rows]}
    return Batch(inputs, ids, batch.rows[rows], dialogue, batch.turn[rows], batch.speaker[rows], labels)


def predict(system: MultilogueNet, batch: Batch) -> Tensor:
    system.eval()
    with torch.no_grad():
        return system(batch).prediction


@pytest.mark.parametrize("padded", [False, True])
def test_layout_links_each_utterance_to_its_predecessors(padded: bool) -> None:
    batch = make_batch(((0, 1, 0, 1), (0, 0), (1, 0, 1)))
    layout = DialogueLayout.of(batch.dialogue, batch.turn, batch.speaker, padded=padded)
    assert [count for _, count in layout.steps] == ([3] * 4 if padded else [3, 3, 2, 1])
    for direction, before in enumerate((-1, 1)):
        for utterance in range(len(batch)):
            row = int(layout.position[direction, utterance])
            assert int(layout.source[direction, row]) == utterance
            same = batch.dialogue == batch.dialogue[utterance]
            earlier = (batch.turn - batch.turn[utterance]) * before > 0
            party = torch.nonzero(same & earlier & (batch.speaker == batch.speaker[utterance]))[:, 0]
            near = NONE
            if len(party):
                nearest = party[(batch.turn[party] - batch.turn[utterance]).abs().argmin()]
                near = int(layout.position[direction, nearest])
            assert int(layout.same_party[direction, row]) == near
    assert layout.real is None if not padded else int(layout.real.sum()) == len(batch)


def test_buckets_hold_each_utterance_once() -> None:
    batch = make_batch()
    layout = DialogueLayout.of(batch.dialogue, batch.turn, batch.speaker)
    chosen = torch.cat([rows for rows, _, _ in layout.buckets])
    assert sorted(chosen.tolist()) == list(range(len(batch)))
    for rows, cells, mask in layout.buckets:
        assert mask.sum() == len(rows)
        assert bool(mask.flatten()[cells].all())


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("chain", ["party", "dialogue"])
def test_gradients_by_hand_are_those_of_finite_differences(padded: bool, chain: str) -> None:
    torch.manual_seed(3)
    batch = make_batch(((0, 1, 0), (0,), (1, 1)))
    layout = DialogueLayout.of(batch.dialogue, batch.turn, batch.speaker, padded=padded)
    cores = MultilogueCores([2], [3], 3, 2, 2, directions=2, dropout=0.3).double()
    cores.train()
    features, contexts = [torch.randn(len(batch), 2).double()], [torch.randn(len(batch), 3).double()]
    parameters = tuple(cores.parameters())

    def emotions(*_: Tensor) -> Tensor:
        torch.manual_seed(7)  # the same dropout at every call
        found, parties, _ = cores(layout, features, contexts, chain)
        return torch.cat([found.flatten(), parties.flatten()])

    assert torch.autograd.gradcheck(emotions, parameters, atol=1e-7, fast_mode=True)


@pytest.mark.parametrize("kind", ["cat", "reg"])
@pytest.mark.parametrize("masked", [False, True])
def test_equal_to_the_oracle_for_any_number_of_parties(kind: str, masked: bool) -> None:
    """Three parties, a dialogue whose only speaker is party 1, seven classes: not all of it is in golden files."""
    torch.manual_seed(5)
    speakers = [[0, 1, 2, 1, 0, 2, 2], [1, 1, 1], [2, 0, 1, 1, 0]]
    classes = 7 if kind == "cat" else 1
    oracle = Oracle(kind, DIMS, classes).double()
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=0.45)
    qmask = one_hot_speakers(speakers, 3).double()
    umask = qmask.sum(dim=2).T
    u = {
        name: torch.randn(7, 3, width).double() * umask.T[..., None]
        for name, width in (*WIDTHS.items(), ("context", DIMS["D_ctx"]))
    }
    label = torch.randint(classes, (3, 7)) if kind == "cat" else torch.randn(3, 7).double()
    label = label * umask.to(label.dtype)
    expected = oracle(u["text"], u["audio"], u["vision"], u["context"], qmask, umask, masked=masked)
    loss_of(kind, expected, label, umask).backward()

    network = MultilogueNetwork(
        WIDTHS, dict.fromkeys(WIDTHS, DIMS["D_ctx"]), classes, 6, 7, 5, 4, bidirectional=kind == "cat",
        rectified=kind == "cat", masked=masked, emotion_chain="dialogue",
    ).double()  # fmt: skip
    load_reference(network, {name: value.detach() for name, value in oracle.state_dict().items()})
    valid = umask.bool()
    dialogue, turn = (index.flatten() for index in torch.nonzero(valid).split(1, dim=1))
    layout = network.layout(dialogue, turn, qmask.argmax(dim=2).T[valid])
    rows = {name: value.transpose(0, 1)[valid] for name, value in u.items()}
    logits, _ = network(layout, {name: rows[name] for name in WIDTHS}, dict.fromkeys(WIDTHS, rows["context"]))
    values = 3 * torch.tanh(logits[:, 0]) if kind == "reg" else logits.log_softmax(dim=-1)
    if masked:
        grid = values.new_zeros((3, 7, *values.shape[1:]))
        values = grid.index_put((dialogue, turn), values)
    else:
        values = values.unflatten(0, (3, 7))
    output = values.transpose(0, 1) if kind == "cat" else values
    real = valid.T if kind == "cat" else valid
    torch.testing.assert_close(output[real], expected[real], atol=1e-10, rtol=1e-10)
    loss_of(kind, output, label, umask).backward()
    wanted = dict(oracle.named_parameters())
    for name, value in reference_tensors(network, lambda parameter: parameter.grad).items():
        torch.testing.assert_close(value, wanted[name].grad, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("task", [REGRESSION, EMOTION, EMOTIONS], ids=lambda task: task.kind)
def test_every_parameter_of_the_default_model_learns(task: Task) -> None:
    system, batch = make_system(task), make_batch(task=task)
    system.train()
    output = system(batch)
    assert output.prediction.shape == (len(batch), task.outputs)
    system.loss(output, batch)["total"].backward()
    for name, parameter in system.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_attention_pooling_learns_on_streams_with_steps() -> None:
    system, batch = make_system(pooling="attention"), make_batch(steps=4)
    system.loss(system(batch), batch)["total"].backward()
    for pooling in system.pooling.values():
        assert bool((pooling.score.weight.grad != 0).any())


@pytest.mark.parametrize("changes", [{}, {"causal": True}, {"emotion_chain": "dialogue"}, {"pooling": "attention"}])
def test_other_dialogues_and_padding_change_nothing(changes: dict) -> None:
    system, batch = make_system(**changes), make_batch(steps=3)
    together = predict(system, batch)
    for number in range(len(DIALOGUES)):
        rows = torch.nonzero(batch.dialogue == number)[:, 0]
        alone = select(batch, rows)
        torch.testing.assert_close(predict(system, alone), together[rows], atol=1e-6, rtol=1e-5)
    rubbish = {
        role: Padded(torch.where(value.mask[..., None], value.values, torch.nan), value.mask)
        for role, value in batch.inputs.items()
    }
    inputs = {name: Padded(torch.nn.functional.pad(v.values, (0, 0, 0, 2)), torch.nn.functional.pad(v.mask, (0, 2)))
              for name, v in rubbish.items()}  # fmt: skip
    padded = Batch(inputs, batch.ids, batch.rows, batch.dialogue, batch.turn, batch.speaker, batch.labels)
    torch.testing.assert_close(predict(system, padded), together, atol=1e-6, rtol=1e-5)


def test_order_of_the_rows_changes_nothing() -> None:
    system, batch = make_system(), make_batch()
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(predict(system, select(batch, order)), predict(system, batch)[order])


def test_one_utterance_is_a_dialogue() -> None:
    system, batch = make_system(), make_batch(((0,),))
    assert bool(torch.isfinite(predict(system, batch)).all())
    system.train()
    system.loss(system(batch), batch)["total"].backward()


def test_causal_predictions_never_change_when_the_dialogue_goes_on() -> None:
    system, batch = make_system(causal=True), make_batch(((0, 1, 0, 2, 1, 0),))
    whole = predict(system, batch)
    for length in range(1, len(batch)):
        prefix = predict(system, select(batch, torch.arange(length)))
        torch.testing.assert_close(prefix, whole[:length], atol=1e-6, rtol=1e-5)
    changed = make_batch(((0, 1, 0, 2, 1, 0),), seed=9)
    for role, value in changed.inputs.items():
        value.values[:3] = batch[role].values[:3]
    torch.testing.assert_close(predict(system, changed)[:3], whole[:3], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(predict(system, changed)[3:], whole[3:])


def test_causal_holds_with_absent_modalities() -> None:
    """No key at all to attend to in the past must not open the future."""
    system, batch = make_system(causal=True), make_batch(((0, 1, 0, 1),))
    values = batch["audio"]
    mask = values.mask.clone()
    mask[:2] = False
    inputs = {**batch.inputs, "audio": Padded(values.values, mask)}
    absent = Batch(inputs, batch.ids, batch.rows, batch.dialogue, batch.turn, batch.speaker, batch.labels)
    whole = predict(system, absent)
    torch.testing.assert_close(predict(system, select(absent, torch.arange(2))), whole[:2], atol=1e-6, rtol=1e-5)


def test_without_causal_the_future_counts() -> None:
    system, batch = make_system(), make_batch(((0, 1, 0),))
    assert not torch.allclose(predict(system, select(batch, torch.arange(2))), predict(system, batch)[:2])


@pytest.mark.parametrize("roles", [("text",), ("audio",), ("vision", "text"), ("audio", "vision")])
@pytest.mark.parametrize("task", [REGRESSION, EMOTION, EMOTIONS], ids=lambda task: task.kind)
def test_any_subset_of_modalities(roles: tuple[str, ...], task: Task) -> None:
    system, batch = make_system(task, roles), make_batch(task=task, roles=roles)
    system.loss(system(batch), batch)["total"].backward()
    assert all(parameter.grad is not None for parameter in system.parameters())


def test_absent_modalities_are_ordinary() -> None:
    system, batch = make_system(), make_batch()
    missing = batch.without(["audio", "vision", "text"])
    values = predict(system, missing)
    assert bool(torch.isfinite(values).all())
    noise = {
        role: Padded(torch.full_like(value.values, torch.nan), value.mask) for role, value in missing.inputs.items()
    }
    noisy = Batch(noise, batch.ids, batch.rows, batch.dialogue, batch.turn, batch.speaker, batch.labels)
    torch.testing.assert_close(predict(system, noisy), values)


def test_unknown_speakers_are_one_party_of_their_own() -> None:
    system = make_system()
    unknown, named = make_batch(((-1, -1, -1),)), make_batch(((0, 0, 0),))
    torch.testing.assert_close(predict(system, unknown), predict(system, named))
    mixed, parties = make_batch(((0, -1, 0, -1),)), make_batch(((0, 1, 0, 1),))
    torch.testing.assert_close(predict(system, mixed), predict(system, parties))
    assert not torch.allclose(predict(system, parties), predict(system, make_batch(((0, 0, 0, 0),))))


def test_emotion_chains_differ_only_between_several_parties() -> None:
    chains = [make_system(emotion_chain=chain) for chain in ("party", "dialogue")]
    alone, several = make_batch(((0, 0, 0, 0),)), make_batch(((0, 1, 1, 0),))
    torch.testing.assert_close(predict(chains[0], alone), predict(chains[1], alone))
    assert not torch.allclose(predict(chains[0], several), predict(chains[1], several))


def test_class_weights_come_from_the_training_labels() -> None:
    system, batch = make_system(), make_batch()
    target = torch.zeros(len(batch), dtype=torch.int64)
    target[0], target[1], target[2] = 1, 2, IGNORED
    batch.labels["target"] = target
    system.on_train_start(lambda: [batch], len(batch))
    counts = torch.tensor([float((target == n).sum()) for n in range(3)])
    torch.testing.assert_close(system.class_weights[0], counts.sum() / (3 * counts))
    prediction = torch.zeros(len(batch), 3)
    loss = system.loss(Output(prediction), batch)["total"]
    torch.testing.assert_close(loss, torch.tensor(3.0).log())

    several, batch = make_system(EMOTIONS), make_batch(task=EMOTIONS)
    several.on_train_start(lambda: [batch, batch], 2 * len(batch))
    present = batch.target.mean(dim=0)
    torch.testing.assert_close(several.class_weights, torch.stack([0.5 / (1 - present), 0.5 / present]))


@pytest.mark.parametrize("task", [REGRESSION, EMOTION, EMOTIONS], ids=lambda task: task.kind)
def test_unlabelled_utterances_give_no_loss(task: Task) -> None:
    system, batch = make_system(task), make_batch(task=task)
    output = system(batch)
    missing = IGNORED if task.kind == "classification" else torch.nan
    batch.labels["target"][0] = missing
    some = system.loss(output, batch)["total"]
    moved = output.prediction.detach().clone()
    moved[0] += 100
    torch.testing.assert_close(system.loss(Output(moved), batch)["total"], some.detach())
    batch.labels["target"][:] = missing
    none = system.loss(output, batch)["total"]
    none.backward()
    assert none.item() == 0


def test_bounded_regression_stays_in_range() -> None:
    task = Task(name="sentiment", kind="regression", column="sentiment", low=-1, high=3)
    batch = make_batch(task=task)
    for value in batch.inputs.values():
        value.values.mul_(1e4)
    bounded, free = make_system(task, bounded=True), make_system(task)
    for system in (bounded, free):
        torch.nn.init.normal_(system.network.head.weight, std=100)
    assert predict(bounded, batch).min() >= -1
    assert predict(bounded, batch).max() <= 3
    assert predict(free, batch).abs().max() > 3


def test_reference_mode_lets_padding_in_and_the_default_does_not() -> None:
    """The published code's first quirk, so that `reference` is seen to do something."""
    batch = make_batch()
    system = make_system(reference=True)
    rows = torch.nonzero(batch.dialogue == 2)[:, 0]
    assert not torch.allclose(predict(system, select(batch, rows)), predict(system, batch)[rows], atol=1e-5)


def test_prefix_attention_weighs_all_earlier_steps() -> None:
    torch.manual_seed(0)
    batch = make_batch()
    layout = DialogueLayout.of(batch.dialogue, batch.turn, batch.speaker)
    cores = MultilogueCores([5], [5], 6, 7, 5)
    values = batch["text"].values[:, 0]
    with torch.no_grad():
        _, _, states = cores(layout, [values], [values])
        weights = cores.attention(layout, states)
    for step, (start, count) in enumerate(layout.steps):
        sums = weights[:, start : start + count].sum(dim=-1)
        torch.testing.assert_close(sums, torch.full_like(sums, float(step > 0)))
        assert not bool(weights[:, start : start + count, step:].any())


def test_large_attention_weights_do_not_overflow() -> None:
    system, batch = make_system(), make_batch()
    with torch.no_grad():
        system.network.cores.score.mul_(1e4)
    output = system(batch)
    system.loss(output, batch)["total"].backward()
    assert bool(torch.isfinite(output.prediction).all())
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in system.parameters())


def test_biases_are_not_decayed_and_nothing_is_left_out() -> None:
    system = make_system()
    decayed, free = system.parameter_groups(1e-3, 1e-2)
    assert free["weight_decay"] == 0
    assert len(decayed["params"]) + len(free["params"]) == len(list(system.parameters()))
    assert any(parameter is system.network.cores.party_bias for parameter in free["params"])
    assert all(group["weight_decay"] == 1e-2 for group in make_system(reference=True).parameter_groups(1e-3, 1e-2)[:1])


def make_reader(**changes) -> tuple[MultilogueNet, Batch]:
    """A system that fine-tunes a tiny encoder over token ids, and dialogues of more than one pass of it."""
    inputs = {
        "text": specification("text", MultilogueNet.card.roles["text"], tokens=True),
        "audio": specification("audio", MultilogueNet.card.roles["audio"]),
    }
    torch.manual_seed(0)
    system = MultilogueNet(
        MultilogueNet.tiny().model_copy(update={"encoder_configuration": TINY_ENCODER, **changes}), inputs, EMOTION
    )
    dialogues = tuple((0, 1) * 5 for _ in range(8))
    batch = make_batch(dialogues, roles=("audio",))
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(0, 9, (len(batch.dialogue), 1), generator=generator)
    ids = torch.randint(5, VOCABULARY, (len(lengths), 12, 1), generator=generator)
    audio = torch.randn((len(lengths), 1, inputs["audio"].dimension), generator=generator)
    inputs_given = {
        "text": Padded(ids, torch.arange(12) < lengths), "audio": Padded(audio, torch.ones(len(lengths), 1).bool()),
    }  # fmt: skip
    return system, replace(batch, inputs=inputs_given)


def test_sentences_are_encoded_in_passes_of_like_length(monkeypatch: pytest.MonkeyPatch) -> None:
    system, batch = make_reader()
    assert len(batch.dialogue) > ENCODED_TOGETHER
    at_once = predict(system, batch)
    monkeypatch.setattr("demeanor.models.multilogue.system.ENCODED_TOGETHER", 3)
    torch.testing.assert_close(predict(system, batch), at_once, atol=1e-5, rtol=1e-4)


def test_the_sentence_encoder_learns_at_its_own_rate_or_not_at_all() -> None:
    system, batch = make_reader(encoder_learning_rate=1e-5)
    system.loss(system(batch), batch)["total"].backward()
    assert system.encoder is not None
    groups = system.parameter_groups(1e-3, 1e-2)
    own = {id(parameter) for parameter in system.encoder.parameters()}
    rates = {group["lr"] for group in groups for parameter in group["params"] if id(parameter) in own}
    assert rates == {1e-5}
    assert sum(len(group["params"]) for group in groups) == len(list(system.parameters()))
    touched = [name for name, p in system.encoder.named_parameters() if p.grad is not None and bool(p.grad.any())]
    assert any("word_embeddings" in name for name in touched)
    frozen, batch = make_reader(finetune=False)
    assert frozen.encoder is not None
    frozen.loss(frozen(batch), batch)["total"].backward()
    assert all(parameter.grad is None for parameter in frozen.encoder.parameters())
    rebuilt = MultilogueNet(frozen.settings, frozen.inputs, EMOTION)
    rebuilt.load_state_dict(frozen.state_dict())
    torch.testing.assert_close(predict(rebuilt, batch), predict(frozen, batch))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="causal"):
        MultilogueNetSettings(reference=True, causal=True)
    with pytest.raises(InputError, match="no text stream"):
        make_system(roles=("audio",), context="text")
    with pytest.raises(InputError, match="at least one"):
        make_system(roles=())
    with pytest.raises(InputError, match="class weights"):
        make_system(class_weights=(1.0, 2.0))


def test_registered() -> None:
    assert find_system("multilogue_net") is MultilogueNet
