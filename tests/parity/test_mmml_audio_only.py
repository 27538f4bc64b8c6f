"""MMML's audio-only programs against golden numbers. Tolerances: docs/systems/mmml.md#precision."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from demeanor.data.bundle import InputSpecification
from demeanor.data.provenance import Provenance
from demeanor.models.mmml.audio_networks import swapped_positions
from demeanor.models.mmml.audio_only import DescriptorAudio, RawAudio, SpectrogramAudio
from demeanor.models.mmml.checkpoint import load_published, our_name
from tests.parity.golden import cases
from tests.parity.mmml_cases import MSA, encoder_configuration, layers_in, weights_of
from tests.parity.test_mmml import FLOOR, GRADIENT, LOSS, OUTPUT, TOTAL_GRADIENT, gradients

MAKER = Provenance(extractor="golden", version="1")


def role(dimension: int, stream: str = "audio.frames") -> dict[str, InputSpecification]:
    return {"audio": InputSpecification(stream=stream, dimension=dimension, provenance=MAKER)}


def assert_gradients(module: torch.nn.Module, arrays, prefix: str = "") -> None:
    found = gradients(module)
    total = float(arrays[f"{prefix}grad_norm_total/A"])
    assert np.sqrt(sum(value**2 for value in found.values())) == pytest.approx(total, rel=TOTAL_GRADIENT)
    names = [str(name) for name in arrays[f"{prefix}grad_norm_names/A"]]
    for published, value in zip(names, arrays[f"{prefix}grad_norm_values/A"], strict=True):
        if published.endswith("k_proj.bias"):
            continue
        name = our_name(published)
        name = name if name in found else f"network.{name}"
        assert found[name] == pytest.approx(value, rel=GRADIENT, abs=FLOOR), published
    assert len(found) == len(names)


def squared_error(prediction: torch.Tensor, arrays) -> torch.Tensor:
    return (prediction[:, 0] - torch.from_numpy(arrays["target/A"])).square().mean()


@pytest.mark.parametrize("path", cases("mmml", "audio_only_spec_cnn*.npz"))
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_pictures(path: Path, mode: str):
    arrays = np.load(path)
    picture = torch.from_numpy(arrays["in/spec"])
    system = SpectrogramAudio(
        SpectrogramAudio.Settings(channels=picture.shape[1], reference=True),
        role(picture.shape[1] * picture.shape[2]),
        MSA,
    )
    load_published(system, weights_of(path))
    system.train(mode == "train")
    found, features = system.network(picture)
    torch.testing.assert_close(found, torch.from_numpy(arrays[f"{mode}/out/A"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(features, torch.from_numpy(arrays[f"{mode}/out/features"]), atol=1e-5, rtol=0)
    loss = squared_error(found, arrays)
    assert loss.item() == pytest.approx(float(arrays[f"{mode}/loss/A_mse"]), abs=1e-5)
    loss.backward()
    assert_gradients(system, arrays, f"{mode}/")
    if mode == "train":
        state = system.state_dict()
        for key in (key for key in arrays.files if key.startswith("w_after_train_forward/")):
            name = our_name(key.removeprefix("w_after_train_forward/"))
            torch.testing.assert_close(state[name], torch.from_numpy(arrays[key]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("path", cases("mmml", "audio_only_smile_transformer*.npz"))
def test_descriptors(path: Path):
    arrays, state = np.load(path), weights_of(path)
    values, padding = torch.from_numpy(arrays["in/features_padded"]), torch.from_numpy(arrays["in/pad_mask"])
    settings = DescriptorAudio.Settings(
        heads=2,
        inner=state["transformer_encoder.layers.0.linear1.weight"].shape[0],
        layers=layers_in(state, r"transformer_encoder\.layers\.(\d+)\."),
        reference=True,
    )
    system = DescriptorAudio(settings, role(values.shape[2]), MSA)
    load_published(system, state)
    system.eval()
    found, states = system.network(values, padding == 0)
    real = padding == 0
    torch.testing.assert_close(found, torch.from_numpy(arrays["out/A"]), atol=OUTPUT, rtol=0)
    expected = torch.from_numpy(arrays["out/features"])
    torch.testing.assert_close(states[:, 1:][real], expected[real], atol=1e-5, rtol=0)
    loss = squared_error(found, arrays)
    assert loss.item() == pytest.approx(float(arrays["loss/A_mse"]), abs=LOSS)
    loss.backward()
    assert_gradients(system, arrays)
    for key in (key for key in arrays.files if key.startswith("pe/")):
        steps, width = map(int, re.findall(r"\d+", key))
        codes = swapped_positions(steps, width, torch.device("cpu"))
        torch.testing.assert_close(codes, torch.from_numpy(arrays[key]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("path", cases("mmml", "audio_only_raw_*.npz"))
def test_waveforms(path: Path):
    arrays, state = np.load(path), weights_of(path)
    chinese = "hubert" in path.stem
    prefix, kind = ("hubert_model", "hubert") if chinese else ("data2vec_model", "data2vec-audio")
    settings = RawAudio.Settings(
        audio_configuration=encoder_configuration(state, prefix, kind),
        freeze_feature_encoder=True,
        whole_mean=not chinese,
        reference=True,
    )
    system = RawAudio(settings, role(1, "audio.waveform"), MSA)
    load_published(system, state)
    system.eval()
    output = system.score(torch.from_numpy(arrays["in/audio_inputs"]), torch.from_numpy(arrays["in/audio_mask"]).sum(1))
    torch.testing.assert_close(output.prediction, torch.from_numpy(arrays["out/A"]), atol=OUTPUT, rtol=0)
    torch.testing.assert_close(output.representation, torch.from_numpy(arrays["out/features"]), atol=1e-5, rtol=0)
    loss = squared_error(output.prediction, arrays)
    assert loss.item() == pytest.approx(float(arrays["loss/A_mse"]), abs=LOSS)
    loss.backward()
    assert_gradients(system, arrays)
