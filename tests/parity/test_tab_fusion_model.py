"""TAB fusion's model against the golden numbers of folder tab_fusion: d, d2, d3, and the margin of e."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.provenance import Provenance
from demeanor.data.task import Task
from demeanor.models.tab_fusion.context import ContextAttention
from demeanor.models.tab_fusion.fairseq import encoder_configuration, encoder_weights, fusion_weights
from demeanor.models.tab_fusion.losses import margin_loss, penalty
from demeanor.models.tab_fusion.system import TabFusion, TabFusionSettings
from tests.parity.golden import cases, golden_file

TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
PAD = 1
ROLES = {"text": "in_text", "audio": "in_audio"}


def heads_of(path: Path, role: str, weights: dict[str, Tensor]) -> int:
    """From the configuration beside the case, else as many as make heads of 8."""
    stored = path.with_name("d_config.json")
    told = json.loads(stored.read_text())[role] if stored.is_file() else {}
    width = weights["embeddings.word_embeddings.weight"].shape[1]
    return told["heads"] if told.get("h") == width else width // 8


def weights_of(path: Path) -> dict[str, Tensor]:
    found = np.load(path)
    return {name[2:]: torch.from_numpy(found[name].copy()) for name in found.files if name.startswith("w/")}


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith(prefix)}


def specification(stream: str, dimension: int, **parameters: object) -> InputSpecification:
    maker = Provenance(extractor="golden", version="1", parameters=dict(parameters))
    return InputSpecification(stream=stream, dimension=dimension, integer=dimension == 1, provenance=maker)


def build(path: Path, state: dict[str, Tensor], context: bool = True, tuned: int | None = None, **more) -> TabFusion:
    golden = np.load(path)
    settings = {}
    for role, short, field in (("text", "b1.", "encoder"), ("audio", "b2.", "speech")):
        weights = encoder_weights(part(state, short))
        options = {"encoder_attention_heads": heads_of(path, role, weights)}
        settings[f"{field}_configuration"] = encoder_configuration(weights, options)
    inputs = {role: specification(f"{role}.tokens", 1) for role in ROLES}
    if context:
        width = state["b3.layer_bert.weight"].shape[1]
        side = (golden["in_tab"].shape[1] // width - 1) // 2
        inputs["context"] = specification("text.context", golden["in_tab"].shape[1], before=side, after=side)
        settings |= {"heads": len(state["b3.bert_atten.ws2.weight"]), "projection": len(state["b3.layer_bert.bias"])}
        settings |= {"attention": len(state["b3.bert_atten.ws1.weight"])}
    hidden, classes = len(state["layer_cat.bias"]), len(state["layer_out.weight"])
    settings |= {"hidden": hidden, "tune_text": tuned, "tune_speech": tuned, "reference": True}
    task = Task(name="emotion", kind="classification", column="emotion", classes=tuple("abcdefgh"[:classes]))
    system = TabFusion(TabFusionSettings(**{**settings, **more}), inputs, task)
    system.load_reference(state)
    return system.eval()


def batch_of(path: Path, context: bool = True) -> Batch:
    golden = np.load(path)
    inputs = {}
    for role, name in ROLES.items():
        ids = torch.from_numpy(golden[name])
        inputs[role] = Padded(ids[..., None], ids != PAD)
    count = len(golden["labels"])
    if context:
        windows = torch.from_numpy(golden["in_tab"])[:, None]
        inputs["context"] = Padded(windows, torch.ones(count, 1, dtype=torch.bool))
    number = torch.arange(count)
    return Batch(
        inputs, tuple(map(str, range(count))), number, number, torch.zeros_like(number), number * 0 - 1,
        {"target": torch.from_numpy(golden["labels"])},
    )  # fmt: skip


def norm(gradients: list[Tensor]) -> float:
    return float(torch.stack([value.double().square().sum() for value in gradients]).sum().sqrt())


fusion_cases = pytest.mark.parametrize("path", cases("tab_fusion", "d_fusion*.npz"))


@fusion_cases
def test_features_and_logits(path: Path):
    golden, system, batch = np.load(path), build(path, weights_of(path)), batch_of(path)
    with torch.no_grad():
        output = system(batch)
        for role, name in (("text", "text_features"), ("audio", "audio_features")):
            padded = batch[role]
            states = system.branches[role].encoder(padded.tokens, padded.mask).hidden
            expected = torch.from_numpy(golden[name])[:, : states.shape[1]]
            mask = padded.mask[:, : states.shape[1]]
            torch.testing.assert_close(states[mask], expected[mask], **TOLERANCE)
        vector, attention = system.context(*system.windows(batch)[:1], None)
        np.testing.assert_allclose(vector, golden["tab_out"], **TOLERANCE)
        np.testing.assert_allclose(attention, golden["tab_attention"], **TOLERANCE)
        np.testing.assert_allclose(output.prediction, golden["logits"], **TOLERANCE)
        np.testing.assert_allclose(output.auxiliary["attention"], golden["tab_attention"], **TOLERANCE)
        np.testing.assert_allclose(system.loss(output, batch)["total"], golden["loss_multimargin"], **TOLERANCE)


@fusion_cases
def test_losses(path: Path):
    golden, state, batch = np.load(path), weights_of(path), batch_of(path)
    for settings, name in (({"loss": "cross_entropy"}, "loss_ce"), ({"penalty": 0.3}, "loss_with_penalty")):
        system = build(path, state, **settings)
        terms = system.loss(system(batch), batch)
        np.testing.assert_allclose(terms["total"].detach(), golden[name], **TOLERANCE)
    attention = torch.from_numpy(golden["tab_attention"])
    np.testing.assert_allclose(penalty(attention, torch.ones(len(attention)) > 0), golden["penalty"], **TOLERANCE)


@fusion_cases
def test_gradients(path: Path):
    golden, state, batch = np.load(path), weights_of(path), batch_of(path)
    system = build(path, state)
    system.loss(system(batch), batch)["total"].backward()
    own = {name: value.grad for name, value in system.named_parameters() if value.grad is not None}
    assert norm(list(own.values())) == pytest.approx(float(golden["grad_norm_all"]), rel=1e-4, abs=1e-6)
    head = [value for name, value in own.items() if name.startswith(("context.", "fuse.", "answer."))]
    assert norm(head) == pytest.approx(float(golden["grad_norm_frozen_backbones"]), rel=1e-4, abs=1e-6)
    names = {ours: theirs for theirs in state for ours in fusion_names(theirs, state)}
    norms = dict(zip(golden["grad_names"].tolist(), golden["grad_param_norms"], strict=True))
    compared = 0
    for ours, gradient in own.items():
        if ours not in names:
            assert ours.startswith("absences.")
            assert not gradient.any()
            continue
        assert float(gradient.norm()) == pytest.approx(norms[names[ours]], rel=1e-3, abs=1e-5), ours
        compared += 1
        if f"g/{names[ours]}" in golden:
            np.testing.assert_allclose(gradient, golden[f"g/{names[ours]}"], **TOLERANCE)
    assert compared == sum(np.isfinite(value) for value in norms.values())
    system.zero_grad()
    penalised = build(path, state, penalty=0.3)
    penalised.loss(penalised(batch), batch)["total"].backward()
    found = norm([value.grad for value in penalised.parameters() if value.grad is not None])
    assert found == pytest.approx(float(golden["grad_norm_with_penalty"]), rel=1e-4, abs=1e-6)


def fusion_names(theirs: str, state: dict[str, Tensor]) -> list[str]:
    """Our name of one published parameter."""
    if theirs.startswith(("b1.", "b2.")):
        alone = {theirs: state[theirs]} | {
            name: value for name, value in state.items() if name.startswith(theirs[:2]) and "embed_tokens" in name
        }
        return [
            name
            for name, value in fusion_weights(alone).items()
            if value.data_ptr() == state[theirs].data_ptr() and "token_type" not in name
        ]
    return list(fusion_weights({theirs: state[theirs]}))


@pytest.mark.parametrize("path", cases("tab_fusion", "d_fusion*.npz"))
@pytest.mark.parametrize("size", [0, 1, 2, 4])
def test_windows_of_other_sizes(path: Path, size: int):
    golden, state = np.load(path), weights_of(path)
    if f"tab_c{size}_in" not in golden:
        pytest.skip(f"the case has no window of {size}")
    width, heads = state["b3.layer_bert.weight"].shape[1], len(state["b3.bert_atten.ws2.weight"])
    projection, units = len(state["b3.layer_bert.bias"]), len(state["b3.bert_atten.ws1.weight"])
    branch = ContextAttention(width, projection, units, heads, 0.5).eval()
    given = {k.removeprefix("context."): v for k, v in fusion_weights(part(state, "b3.")).items()}
    branch.load_state_dict(given)
    windows = torch.from_numpy(golden[f"tab_c{size}_in"]).unflatten(1, (-1, width))
    with torch.no_grad():
        vector, attention = branch(windows, None)
        np.testing.assert_allclose(vector, golden[f"tab_c{size}_out"], **TOLERANCE)
        np.testing.assert_allclose(attention, golden[f"tab_c{size}_attention"], **TOLERANCE)
        turned, _ = branch(windows.flip(1), None)
        np.testing.assert_allclose(turned, vector, atol=1e-5)


@fusion_cases
def test_text_and_speech_alone(path: Path):
    golden, state = np.load(path), weights_of(path)
    if "lhs/logits" not in golden:
        pytest.skip("the case has no model of text and speech alone")
    own = {name: torch.from_numpy(golden[f"lhs/{name}"]) for name in ("layer_cat.weight", "layer_cat.bias")}
    own |= {"layer_out.weight": torch.from_numpy(golden["lhs/layer_out.weight"])}
    system = build(path, part(state, "b1.") | part(state, "b2.") | own, context=False)
    batch = batch_of(path, context=False)
    output = system(batch)
    np.testing.assert_allclose(output.prediction.detach(), golden["lhs/logits"], **TOLERANCE)
    np.testing.assert_allclose(
        system.loss(output, batch)["total"].detach(), golden["lhs/loss_multimargin"], **TOLERANCE
    )


@fusion_cases
@pytest.mark.parametrize(("tuned", "name"), [(0, "adam"), (None, "adam_full")])
def test_three_steps_of_adam(path: Path, tuned: int | None, name: str):
    golden, batch = np.load(path), batch_of(path)
    system = build(path, weights_of(path), tuned=tuned)
    optimiser = torch.optim.Adam([group for group in system.parameter_groups(5e-5, 0.0) if group["params"]])
    losses = []
    for step in range(len(golden[f"{name}_losses"])):
        output = system(batch)
        loss = system.loss(output, batch)["total"]
        losses.append(float(loss.detach()))
        if step < len(golden[f"{name}_losses"]) - 1:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    np.testing.assert_allclose(losses, golden[f"{name}_losses"], **TOLERANCE)
    np.testing.assert_allclose(output.prediction.detach(), golden[f"{name}_logits_after3"], **TOLERANCE)
    if f"{name}_layer_out_after3" in golden:
        np.testing.assert_allclose(system.answer.weight.detach(), golden[f"{name}_layer_out_after3"], **TOLERANCE)


@pytest.mark.parametrize("path", cases("tab_fusion", "d2_*.npz"))
def test_the_layout_of_2019(path: Path):
    found = np.load(path)
    legacy = encoder_weights({name: torch.from_numpy(found[name].copy()) for name in found.files})
    modern = encoder_weights(part(weights_of(golden_file("tab_fusion", "d_fusion_tiny.npz")), "b2."))
    assert legacy.keys() == modern.keys()
    for name, value in modern.items():
        assert torch.equal(legacy[name], value), name


@pytest.mark.parametrize("path", cases("tab_fusion", "d3_*.json"))
def test_full_size_layouts_fit_hugging_face(path: Path):
    from transformers import RobertaConfig, RobertaModel

    listed = json.loads(path.read_text())
    for layout, layers in (("speechbert_modern", 12), ("speechbert_legacy", 12), ("roberta_large_modern", 24)):
        shapes = {
            name.replace("layers.0.", f"layers.{n}."): shape
            for name, shape in listed[layout].items()
            for n in range(layers if "layers.0." in name else 1)
        }
        assert len(shapes) == listed["n_keys"][layout]
        weights = encoder_weights({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
        values = encoder_configuration(weights)
        values.pop("model_type")
        with torch.device("meta"):
            model = RobertaModel(RobertaConfig(**values), add_pooling_layer=False)
        expected = {name: value.shape for name, value in model.state_dict().items() if "position_ids" not in name}
        assert {name: value.shape for name, value in weights.items()} == expected
        assert values["num_attention_heads"] == (16 if "large" in layout else 12)


@pytest.mark.parametrize("path", cases("tab_fusion", "e_misc*.json"))
def test_margin_of_two_rows(path: Path):
    stored = json.loads(path.read_text())["multimargin"]
    logits, target = torch.tensor(stored["x"]), torch.tensor(stored["y"])
    assert stored["p"] == 1
    found = margin_loss(logits, target, stored["margin"], torch.ones(logits.shape[1]))
    assert float(found) == pytest.approx(stored["loss"], abs=1e-6)
