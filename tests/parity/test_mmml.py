"""MMML against golden numbers: outputs, intermediate states, losses, gradients, trainer replays, loader, valid frames.

Tolerances: docs/systems/mmml.md#precision.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from demeanor.models.mmml.checkpoint import load_published, our_name
from demeanor.models.mmml.cross_modality import CrossModalityLayer
from demeanor.models.mmml.frames import Convolutions, valid_frames
from demeanor.models.mmml.system import MMML
from tests.parity.golden import AS_RECORDED, cases
from tests.parity.mmml_cases import batch_of, build, configurations, forward, weights_of

OUTPUT, LOSS, TOTAL_GRADIENT, GRADIENT, FLOOR = 1e-6 if AS_RECORDED else 1e-5, 1e-6, 1e-6, 2e-3, 1e-5
REPLAY_LOSS, REPLAY_OUTPUT = 2e-6, 2e-5
LETTERS = "MTA"
MODEL_CASES = [*cases("mmml", "en_*.npz"), *cases("mmml", "zh_*.npz"), *cases("mmml", "context_c*.npz")]


def inputs_of(arrays: np.lib.npyio.NpzFile, prefix: str, names: tuple[str, str, str, str], context: bool):
    """([ids, mask, ...], [waveform, mask, ...]); names: text, its mask, audio, its mask, with {} for the context."""
    kinds = ["", "_context"] if context else [""]
    text = [arrays[prefix + names[k].format(kind)] for kind in kinds for k in (0, 1)]
    audio = [arrays[prefix + names[k].format(kind)] for kind in kinds for k in (2, 3)]
    return text, audio


def model_case(path: Path):
    arrays = np.load(path)
    context = path.stem.startswith("context")
    system = build(path, arrays["in/audio_inputs"].shape[1], context)
    names = ("text{}_inputs", "text{}_mask", "audio{}_inputs", "audio{}_mask")
    return arrays, system, inputs_of(arrays, "in/", names, context), context


def absolute(found: dict[str, Tensor], arrays: np.lib.npyio.NpzFile) -> dict[str, Tensor]:
    return {
        letter: (found[letter][:, 0] - torch.from_numpy(arrays[f"target/{letter}"])).abs().mean() for letter in LETTERS
    }


def gradients(module: torch.nn.Module) -> dict[str, float]:
    return {
        name: float(parameter.grad.double().norm())
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def assert_gradients(module: torch.nn.Module, arrays: np.lib.npyio.NpzFile, key: str, total: float) -> None:
    found = gradients(module)
    assert np.sqrt(sum(value**2 for value in found.values())) == pytest.approx(total, rel=TOTAL_GRADIENT)
    compared = 0
    for published, value in zip(arrays[f"grad_norm_names/{key}"], arrays[f"grad_norm_values/{key}"], strict=True):
        if published.endswith(("key.bias", "k_proj.bias")):
            continue  # their gradient is zero in exact arithmetic
        assert found[our_name(str(published))] == pytest.approx(value, rel=GRADIENT, abs=FLOOR), published
        compared += 1
    assert compared > 10


@pytest.mark.parametrize("path", MODEL_CASES)
def test_outputs_and_losses(path):
    arrays, system, (text, audio), _ = model_case(path)
    with torch.no_grad():
        found, _, joined = forward(system, text, audio)
    losses = absolute(found, arrays)
    for letter in LETTERS:
        torch.testing.assert_close(found[letter], torch.from_numpy(arrays[f"out/{letter}"]), atol=OUTPUT, rtol=0)
        assert float(losses[letter]) == pytest.approx(float(arrays[f"loss/{letter}"]), abs=LOSS)
    torch.testing.assert_close(joined, torch.from_numpy(arrays["mid/fused_output_layers/input"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("path", MODEL_CASES)
def test_states_and_valid_frames_of_the_encoders(path):
    arrays, system, (text, audio), _ = model_case(path)
    with torch.no_grad():
        _, passes, _ = forward(system, text, audio)
    speech = "hubert_model" if "mid/hubert_model/last_hidden_state" in arrays else "data2vec_model"
    for suffix, encoded in zip(("", "#2"), passes, strict=False):
        for name, key in (("text", f"mid/roberta_model{suffix}"), ("audio", f"mid/{speech}{suffix}")):
            expected = torch.from_numpy(arrays[f"{key}/last_hidden_state"])[:, : encoded[name].mask.shape[1]]
            mask = encoded[name].mask
            torch.testing.assert_close(encoded[name].hidden[mask], expected[mask], atol=1e-5, rtol=0)
        valid = arrays[f"mid/{speech}{suffix}/valid_frames"]
        assert encoded["audio"].mask.sum(dim=1).tolist() == valid.tolist()


@pytest.mark.parametrize("path", MODEL_CASES)
@pytest.mark.parametrize("tasks", ["M", "T", "A", "MTA"])
def test_gradients(path, tasks):
    arrays, system, (text, audio), _ = model_case(path)
    losses = absolute(forward(system, text, audio)[0], arrays)
    total = torch.stack([losses[letter] for letter in tasks]).sum()
    assert total.item() == pytest.approx(float(arrays[f"loss_total/{tasks}"]), abs=3 * LOSS)
    total.backward()
    norm = float(arrays[f"grad_norm_total/{tasks}"])
    if tasks != "MTA":
        found = gradients(system)
        assert np.sqrt(sum(value**2 for value in found.values())) == pytest.approx(norm, rel=TOTAL_GRADIENT)
        return
    assert_gradients(system, arrays, tasks, norm)
    found = gradients(system)
    assert not [name for name in arrays["no_grad_names/MTA"] if our_name(str(name)) in found]
    for key in (key for key in arrays.files if key.startswith("grad/")):
        name = our_name(key.removeprefix("grad/"))
        got = dict(system.named_parameters())[name].grad
        torch.testing.assert_close(got, torch.from_numpy(arrays[key]), atol=1e-5, rtol=GRADIENT)


@pytest.mark.parametrize("path", MODEL_CASES)
def test_the_system_reads_raw_recordings_the_same_way(path):
    arrays, system, _, context = model_case(path)
    batch = batch_of(arrays, context)
    with torch.no_grad():
        output = system(batch)
    for letter in LETTERS:
        expected = torch.from_numpy(arrays[f"out/{letter}"])
        torch.testing.assert_close(output.auxiliary[f"head_{letter}"], expected, atol=1e-5, rtol=0)
    terms = system.loss(output, batch)
    assert float(terms["total"]) == pytest.approx(float(arrays["loss_total/MTA"]), abs=1e-5)


@pytest.mark.parametrize("path", cases("mmml", "train_*.npz"))
def test_replay_of_the_original_trainer(path):
    """AdamW with decay on everything, made anew for every epoch (docs/systems/mmml.md#q8)."""
    arrays = np.load(path)
    context = "_context_" in path.stem
    system = build(path, arrays["batch0/audio_inputs"].shape[1], context, prefix="w0/", dropout=0.0).train()
    start = {name: value.detach().clone() for name, value in system.named_parameters()}
    names = ("text{}_tokens", "text{}_masks", "audio{}_inputs", "audio{}_masks")
    expected = arrays["step_losses_MTA"]
    batches = [inputs_of(arrays, f"batch{n}/", names, context) for n in range(expected.shape[1])]

    def losses(n: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        found = forward(system, *batches[n])[0]
        values = {}
        for letter in LETTERS:
            key = f"batch{n}/targets/{letter}"
            target = torch.from_numpy(arrays[key if key in arrays else f"batch{n}/targets"])
            values[letter] = (found[letter][:, 0] - target.reshape(-1)).abs().mean()
        return values, found

    for epoch in range(expected.shape[0]):
        groups = system.parameter_groups(float(arrays["lr"]), 0.01)
        optimiser = torch.optim.AdamW(groups, lr=float(arrays["lr"]), weight_decay=0.01)
        for n in range(expected.shape[1]):
            values, _ = losses(n)
            np.testing.assert_allclose([values[k].item() for k in LETTERS], expected[epoch, n], atol=REPLAY_LOSS)
            optimiser.zero_grad()
            torch.stack(list(values.values())).sum().backward()
            optimiser.step()

    system.eval()
    total = weight = 0.0
    for n in range(len(batches)):
        with torch.no_grad():
            values, found = losses(n)
        rows = len(found["M"])
        total, weight = total + float(sum(values.values())) * rows, weight + rows
        for letter in LETTERS:
            golden = torch.from_numpy(arrays[f"final_out/batch{n}/{letter}"])
            torch.testing.assert_close(found[letter], golden, atol=REPLAY_OUTPUT, rtol=0)
    assert total / weight == pytest.approx(json.loads(str(arrays["final_eval_json"]))["Loss"], abs=1.1e-4)
    moved = {name: float((value.detach() - start[name]).double().norm()) for name, value in system.named_parameters()}
    compared = 0
    for published, value in zip(arrays["param_delta_names"], arrays["param_delta_norms"], strict=True):
        name = our_name(str(published))
        if name in moved and not published.endswith(("key.bias", "k_proj.bias")):
            assert moved[name] == pytest.approx(float(value), rel=5e-3, abs=1e-5), published
            compared += 1
    assert compared > 50


@pytest.mark.parametrize("path", cases("mmml", "cme_layer_unit*.npz"))
def test_one_cross_modality_layer(path):
    arrays = np.load(path)
    state = {our_name(f"CME_layers.0.{name}"): value for name, value in weights_of(path).items()}
    inner, width = state["fusion.stack.layers.0.feed_forward.text.inner.weight"].shape
    layer = CrossModalityLayer(("text", "audio"), width, configurations()["scaled_constants"]["CME heads base 12"],
                               inner, 0.3).eval()  # fmt: skip
    layer.load_state_dict({name.removeprefix("fusion.stack.layers.0."): value for name, value in state.items()})
    text, audio = (torch.from_numpy(arrays[f"in/{name}"]).requires_grad_() for name in ("text", "audio"))
    masks = [torch.from_numpy(arrays[f"in/{name}_mask"]) > 0 for name in ("text", "audio")]
    found = layer({"text": (text, masks[0]), "audio": (audio, masks[1])})
    torch.testing.assert_close(found["text"][0], torch.from_numpy(arrays["out/text"]), atol=OUTPUT, rtol=0)
    torch.testing.assert_close(found["audio"][0], torch.from_numpy(arrays["out/audio"]), atol=OUTPUT, rtol=0)
    (found["text"][0].square().mean() + found["audio"][0].abs().mean()).backward()
    torch.testing.assert_close(text.grad, torch.from_numpy(arrays["grad/text"]), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(audio.grad, torch.from_numpy(arrays["grad/audio"]), atol=1e-6, rtol=1e-4)
    # The shortcut after the last layer gives the same first steps.
    first = layer({"text": (text, masks[0]), "audio": (audio, masks[1])}, first_only=True)
    for name in ("text", "audio"):
        torch.testing.assert_close(first[name][0], found[name][0][:, :1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("path", cases("mmml", "context_text_only*.npz"))
def test_text_with_its_context_alone(path):
    """The original's unused text regressor is the text head of `cc` with context."""
    arrays = np.load(path)
    state = weights_of(path)
    donor = path.with_name("context_cc.npz")
    if not donor.exists():
        pytest.skip("needs context_cc.npz for the rest of the network")
    system = build(donor, 9600, context=True)
    names = {name.replace("classifier.", "T_output_layers.1."): value for name, value in state.items()}
    load_published(system, {**weights_of(donor), **names})
    ids, mask, before, before_mask = (
        torch.from_numpy(arrays[f"in/text{kind}"]) for kind in ("_inputs", "_mask", "_context_inputs", "_context_mask")
    )
    current, previous = system.words(ids, mask > 0), system.words(before, before_mask > 0)
    found = system.fusion.heads["text"](torch.cat([current.pooled, previous.pooled], dim=1))
    torch.testing.assert_close(found, torch.from_numpy(arrays["out/T"]), atol=OUTPUT, rtol=0)
    loss = (found[:, 0] - torch.from_numpy(arrays["target/T"])).abs().mean()
    assert loss.item() == pytest.approx(float(arrays["loss/T"]), abs=LOSS)
    loss.backward()
    listed = [str(name) for name in arrays["grad_norm_names/T"]]
    places = {name: our_name(name.replace("classifier.", "T_output_layers.1.")) for name in listed}
    found_norms = gradients(system)
    assert np.sqrt(sum(value**2 for value in found_norms.values())) == pytest.approx(
        float(arrays["grad_norm_total/T"]), rel=TOTAL_GRADIENT
    )
    for published, value in zip(listed, arrays["grad_norm_values/T"], strict=True):
        if not published.endswith("key.bias"):
            assert found_norms[places[published]] == pytest.approx(value, rel=GRADIENT, abs=FLOOR)


@pytest.mark.parametrize("path", cases("mmml", "audio_valid_frames*.npz"))
def test_valid_frames(path):
    arrays = np.load(path)
    published = Convolutions((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
    samples = torch.from_numpy(arrays["sample_lengths"])
    assert published.frames(samples).tolist() == arrays["formula_frames"].tolist()
    total = published.frames(96_000)
    assert total == 299
    assert valid_frames(samples, total, published, reference=True).tolist() == arrays["mask_frames_T299"].tolist()
    ours = valid_frames(samples, total, published)
    assert bool(((ours > 0) == (samples > 0)).all())
    assert bool((ours[samples >= 400] == published.frames(samples)[samples >= 400]).all())


def test_unknown_weights_are_named():
    case = MODEL_CASES[0].values[0]
    if case is None:
        pytest.skip("no golden file")
    arrays, system, _, _ = model_case(case)
    state = {**weights_of(case), "another.weight": torch.zeros(1)}
    state.pop("T_output_layers.1.bias")
    with pytest.raises(Exception, match=r"(?s)'another.weight' has no place.*'fusion.heads.text.1.bias'"):
        load_published(system, state)
    assert isinstance(system, MMML)
    assert "out/M" in arrays
