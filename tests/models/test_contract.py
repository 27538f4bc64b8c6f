"""What every registered system must do. Written once, run on all: a new system needs no test of its own for these."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from demeanor.data.batch import Batch, Padded
from demeanor.data.calibration import CalibrationSettings, confidences, subset_name
from demeanor.evaluation.attribution import disagreement, every_subset, shapley, value_of_answers
from demeanor.evaluation.conformal import fit_calibration, presence_names
from demeanor.inference.predict import is_training_buffer
from demeanor.models import find_system
from demeanor.models.base import Output, System
from tests.models.examples import FORMS, TASKS, build, card_of, example_batch, take

TOKENS = [name for name in FORMS if any(role.kind == "any" for role in card_of(name).roles.values())]
VARIANTS = [(name, False) for name in FORMS] + [(name, True) for name in TOKENS]
KINDS = [(name, kind) for name in FORMS for kind in card_of(name).tasks]
each_variant = pytest.mark.parametrize(
    ("name", "tokens"), VARIANTS, ids=lambda v: {True: "tokens", False: ""}.get(v, v)
)
each_system = pytest.mark.parametrize("name", FORMS)
TOLERANCE = 1e-5


def started(system: System, batch: Batch) -> System:
    system.on_train_start(lambda: [batch], len(batch))
    return system


def predict(system: System, batch: Batch) -> torch.Tensor:
    system.eval()
    with torch.no_grad():
        return system(batch).prediction


def everything(output: Output) -> torch.Tensor:
    """One number that every output of a system enters."""
    values = [output.prediction, *output.auxiliary.values()]
    return torch.stack([value.float().square().sum() for value in values if value.is_floating_point()]).sum()


def alone(system: System, batch: Batch, row: int) -> Batch:
    """A row without the others; for a dialogue system its dialogue without the others."""
    rows = [row]
    if system.card.batching == "dialogue":
        rows = torch.nonzero(batch.dialogue == batch.dialogue[row]).flatten().tolist()
    return take(batch, rows)


@each_variant
def test_gradients_reach_every_parameter(name: str, tokens: bool) -> None:
    system = build(name, card_of(name).tasks[0], tokens)
    batch = example_batch(system)
    started(system, batch).train()
    output = system(batch)
    assert output.prediction.shape == (len(batch), system.task.outputs)
    terms = system.loss(output, batch)
    assert all(torch.isfinite(value) for value in terms.values())
    terms["total"].backward(retain_graph=True)
    trained = {key: value for key, value in system.named_parameters() if value.requires_grad}
    missing = [key for key, value in trained.items() if value.grad is None]
    assert not missing, f"no path from the loss to {missing}"
    assert all(bool(torch.isfinite(value.grad).all()) for value in trained.values() if value.grad is not None)
    everything(output).backward()
    dead = [key for key, value in trained.items() if value.grad is not None and not value.grad.abs().sum() > 0]
    assert not dead, f"nothing ever reaches {dead}"


@each_variant
def test_saves_and_loads_without_what_serves_training_alone(name: str, tokens: bool) -> None:
    system = build(name, card_of(name).tasks[0], tokens)
    batch = example_batch(system)
    started(system, batch)
    state = system.state_dict()
    kept = {key: value.clone() for key, value in state.items() if not is_training_buffer(system, key)}
    settings = type(system.settings)(**system.settings.as_dict())
    torch.manual_seed(99)
    other = type(system)(settings, system.inputs, system.task)
    missing = other.load_state_dict(kept, strict=False).missing_keys
    assert all(is_training_buffer(system, key) for key in missing)
    assert torch.equal(predict(system, batch), predict(other, batch))
    whole = type(system)(settings, system.inputs, system.task)
    whole.load_state_dict(system.state_dict())
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in state.items())


@each_variant
def test_neither_padding_nor_other_rows_change_a_prediction(name: str, tokens: bool) -> None:
    system = build(name, card_of(name).tasks[0], tokens)
    batch = example_batch(system)
    expected = predict(system, batch)
    torch.testing.assert_close(
        predict(system, example_batch(system, extra=3)), expected, atol=TOLERANCE, rtol=TOLERANCE
    )
    for row in range(len(batch)):
        single = alone(system, batch, row)
        place = single.ids.index(batch.ids[row])
        torch.testing.assert_close(predict(system, single)[place], expected[row], atol=TOLERANCE, rtol=TOLERANCE)


@each_system
def test_rubbish_in_the_padding_is_not_seen(name: str) -> None:
    system = build(name, card_of(name).tasks[0])
    batch = example_batch(system)
    spoilt = {}
    for role, value in batch.inputs.items():
        rubbish = float("nan") if value.values.is_floating_point() else 1
        spoilt[role] = Padded(value.values.masked_fill(~value.mask.unsqueeze(-1), rubbish), value.mask)
    found = predict(system, replace(batch, inputs=spoilt))
    torch.testing.assert_close(found, predict(system, batch), atol=TOLERANCE, rtol=TOLERANCE)


@each_variant
def test_any_subset_of_modalities_may_be_absent(name: str, tokens: bool) -> None:
    system = build(name, card_of(name).tasks[0], tokens)
    batch = example_batch(system)
    started(system, batch)
    roles = list(batch.inputs)
    for count in range(1, len(roles) + 1):
        for dropped in itertools.combinations(roles, count):
            rest = batch.without(dropped)
            assert torch.isfinite(predict(system, rest)).all(), dropped
            system.train().zero_grad()
            terms = system.loss(system(rest), rest)
            terms["total"].backward()
            assert all(bool(torch.isfinite(p.grad).all()) for p in system.parameters() if p.grad is not None), dropped
    # Absent is absent, whatever the array holds, even no step at all.
    nothing = {role: Padded(value.values[:, :0], value.mask[:, :0]) for role, value in batch.inputs.items()}
    torch.testing.assert_close(
        predict(system, replace(batch, inputs=nothing)), predict(system, batch.without(roles)), atol=1e-6, rtol=0
    )


@each_variant
def test_a_batch_of_one_trains(name: str, tokens: bool) -> None:
    system = build(name, card_of(name).tasks[0], tokens)
    single = take(example_batch(system), [7])
    single = replace(single, rows=torch.zeros(1, dtype=torch.long), turn=torch.zeros(1, dtype=torch.long))
    started(system, single).train()
    output = system(single)
    system.loss(output, single)["total"].backward()
    for epoch in (1, 2, 3):
        system.on_step_end(output, single, epoch)
    assert torch.isfinite(predict(system, single)).all()


@each_system
def test_the_same_seed_gives_the_same_training(name: str) -> None:
    results = []
    for _ in range(2):
        system = build(name, card_of(name).tasks[0], seed=5)
        batch = example_batch(system)
        started(system, batch).train()
        optimiser = torch.optim.AdamW([g for g in system.parameter_groups(1e-3, 1e-2) if g["params"]])
        torch.manual_seed(7)
        for epoch in (1, 2, 3):
            optimiser.zero_grad()
            output = system(batch)
            system.loss(output, batch)["total"].backward()
            system.on_step_end(output, batch, epoch)
            optimiser.step()
        results.append(predict(system, batch))
    assert torch.equal(results[0], results[1])


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_every_kind_of_task_it_claims(name: str, kind: str) -> None:
    system = build(name, kind)
    batch = example_batch(system)
    started(system, batch)
    assert predict(system, batch).shape == (len(batch), TASKS[kind].outputs)
    system.train()
    system.loss(system(batch), batch)["total"].backward()


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_a_batch_without_labels_has_a_loss_of_zero_or_none_of_the_task(name: str, kind: str) -> None:
    system = build(name, kind)
    batch = example_batch(system)
    started(system, batch).train()
    target = batch.target
    unknown = torch.full_like(target, float("nan") if target.is_floating_point() else -1)
    terms = system.loss(system(batch), replace(batch, labels={"target": unknown}))
    assert torch.isfinite(terms["total"])
    terms["total"].backward()


@each_variant
def test_the_optimiser_gets_each_parameter_once(name: str, tokens: bool) -> None:
    system = build(name, card_of(name).tasks[0], tokens)
    grouped = [id(value) for group in system.parameter_groups(1e-3, 1e-2) for value in group["params"]]
    trained = {id(value) for value in system.parameters() if value.requires_grad}
    assert len(grouped) == len(set(grouped))
    assert trained <= set(grouped)


@each_system
def test_it_learns_a_batch_by_heart(name: str) -> None:
    system = build(name, card_of(name).tasks[0])
    batch = example_batch(system)
    started(system, batch).train()
    optimiser = torch.optim.AdamW([g for g in system.parameter_groups(1e-2, 0.0) if g["params"]])
    system.eval()
    before = float(system.loss(system(batch), batch)["total"].detach())
    for _ in range(12):
        system.train()
        optimiser.zero_grad()
        output = system(batch)
        system.loss(output, batch)["total"].backward()
        optimiser.step()
    system.eval()
    after = float(system.loss(system(batch), batch)["total"].detach())
    assert after < before


@each_system
def test_optional_roles_need_no_stream(name: str) -> None:
    card = card_of(name)
    optional = [role for role, wanted in card.roles.items() if not wanted.required]
    for role in optional:
        rest = [other for other in card.roles if other != role]
        if not rest or hasattr(find_system(FORMS[name][0]), "example_inputs"):
            continue
        system = build(name, card.tasks[0], roles=rest)
        assert torch.isfinite(predict(system, example_batch(system))).all()


@each_system
def test_half_precision_stays_finite(name: str) -> None:
    system = build(name, card_of(name).tasks[0])
    batch = example_batch(system)
    started(system, batch).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = system(batch)
        terms = system.loss(output, batch)
    terms["total"].backward()
    system.on_step_end(output, batch, 2)
    assert torch.isfinite(terms["total"])


@each_system
def test_it_can_be_calibrated_and_explained(name: str) -> None:
    """Every set of its modalities gives finite outputs, a calibration fits them, and contributions add up."""
    system = build(name, card_of(name).tasks[0])
    batch = example_batch(system)
    started(system, batch).eval()
    modality = {role: value.modality for role, value in system.inputs.items()}
    subsets = every_subset(sorted(set(modality.values())))
    dropped = [[role for role in modality if modality[role] not in chosen] for chosen in subsets]
    values = predict(system, batch.stacked(dropped)).numpy().reshape(len(subsets), len(batch), -1)
    np.testing.assert_allclose(values[-1], predict(system, batch).numpy(), atol=1e-4)
    outputs = {subset_name(chosen): part for chosen, part in zip(subsets, values, strict=True)}
    present = {
        part: np.any([batch[role].present.numpy() for role in modality if modality[role] == part], axis=0)
        for part in sorted(set(modality.values()))
    }
    target = batch.target.numpy()
    fitted = fit_calibration(
        system.task,
        {key: part for key, part in outputs.items() if key},
        present,
        target,
        [1],
        CalibrationSettings(least=4),
        "valid",
    )
    contributions = shapley(value_of_answers(system.task, outputs, present, fitted))
    answer = value_of_answers(system.task, outputs, present, fitted)
    whole = subset_name(present)
    np.testing.assert_allclose(sum(contributions.values()), answer[whole] - answer[""], atol=1e-6)
    # In a dialogue what an utterance lacks is there in other turns, and left out of all of them.
    alone_counts = contributions if system.card.batching == "utterance" else {}
    for part, contribution in alone_counts.items():
        np.testing.assert_allclose(contribution[~present[part]], 0, atol=1e-4)
    sure = confidences(system.task, values[-1], fitted, presence_names(present))
    assert np.isfinite(sure).all()
    assert np.isfinite(disagreement(system.task, {part: outputs[part] for part in present}, present, fitted)).all()
