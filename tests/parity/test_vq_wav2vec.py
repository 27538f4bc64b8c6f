"""vq-wav2vec against the golden numbers of folder tab_fusion: a1 to a7 and b."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from demeanor.data.errors import InputError
from demeanor.features import find_extractor
from demeanor.features.base import Clip
from demeanor.features.speech_codes import PairDictionary, convert, load_checkpoint
from demeanor.features.vq_wav2vec import RELEASED_LAYERS, KmeansQuantiser, VqLayout, VqWav2vec, build, layout_of
from tests.parity.golden import PROJECT, cases, golden_file

TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
SAFE_MARGIN = 1e-4


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    found = np.load(path)
    return {name[2:]: torch.from_numpy(found[name].copy()) for name in found.files if name.startswith("w/")}


def model_of(path: Path) -> VqWav2vec:
    # a4 and a5 are made with the weights of a1 and may not repeat them.
    state = weights_of(path) or weights_of(golden_file("tab_fusion", "a1_vqw2v_kmeans_shared.npz"))
    return build(state, layout_of(state, log_compression="logcompression" in path.stem))


def require_codes(found: np.ndarray, expected: np.ndarray, margin: np.ndarray | None) -> None:
    assert found.shape == expected.shape
    sure = np.ones(expected.shape, bool) if margin is None else margin > SAFE_MARGIN
    np.testing.assert_array_equal(found[sure], expected[sure])


@pytest.mark.parametrize("path", cases("tab_fusion", "a[1-4]_vqw2v_*.npz"))
def test_whole_model(path: Path):
    golden, model = np.load(path), model_of(path)
    samples = torch.from_numpy(golden["wav"])
    with torch.inference_mode():
        encoded = model.feature_extractor(samples)
        quantiser = model.vector_quantizer
        codes = quantiser(encoded)
        np.testing.assert_allclose(encoded, golden["z"], **TOLERANCE)
        if "ze" in golden:
            assert isinstance(quantiser, KmeansQuantiser)
            np.testing.assert_allclose(quantiser.projection(encoded), golden["ze"], **TOLERANCE)
        margin = golden.get("margin")
        require_codes(codes.numpy(), golden["codes"], margin)
        np.testing.assert_allclose(
            quantiser.codewords(torch.from_numpy(golden["codes"])), golden["quantized"], **TOLERANCE
        )
    for row in range(len(samples)):
        alone = model.codes(samples[row]).numpy()
        require_codes(alone, golden["codes"][row], None if margin is None else margin[row])


@pytest.mark.parametrize("path", cases("tab_fusion", "a5_*.npz"))
def test_codes_depend_on_the_whole_utterance(path: Path):
    golden = np.load(path)
    first = golden_file("tab_fusion", "a1_vqw2v_kmeans_shared.npz")
    model, samples = model_of(path), torch.from_numpy(np.load(first)["wav"][0])
    half = samples[: len(samples) // 2]
    found = {
        "codes_full": samples,
        "codes_scaled_quarter": samples * 0.25,
        "codes_first_half": half,
        "codes_first_half_zero_padded": torch.cat([half, torch.zeros(len(samples) - len(half))]),
    }
    for name, wave in found.items():
        np.testing.assert_array_equal(model.codes(wave).numpy(), golden[name][0], err_msg=name)


@pytest.mark.parametrize("path", cases("tab_fusion", "a6_*.npz"))
def test_quantiser_at_release_size(path: Path):
    golden = np.load(path)
    state = {name.removeprefix("vector_quantizer."): value for name, value in weights_of(path).items()}
    codewords, codebooks, width = state["embedding"].shape
    channels = golden["z"].shape[1]
    layout = VqLayout(channels, RELEASED_LAYERS, codewords, width, codebooks, channels // width)
    quantiser = KmeansQuantiser(layout)
    quantiser.load_state_dict(state)
    with torch.inference_mode():
        encoded = torch.from_numpy(golden["z"])
        np.testing.assert_allclose(quantiser.projection(encoded), golden["ze"], **TOLERANCE)
        codes = quantiser(encoded)
        require_codes(codes.numpy(), golden["codes"], golden["margin"])
        np.testing.assert_allclose(quantiser.codewords(codes), golden["quantized"], **TOLERANCE)


def released_checkpoint(path: Path, shapes: dict[str, list[int]], **options) -> Path:
    """A file laid out as the official one is, with random numbers."""
    generator = torch.Generator().manual_seed(0)
    model = {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}
    layers = str([(512, kernel, stride) for kernel, stride in RELEASED_LAYERS])
    args = argparse.Namespace(conv_feature_layers=layers, log_compression=False, activation="gelu", **options)
    torch.save({"args": args, "model": model}, path)
    return path


@pytest.mark.parametrize("path", cases("tab_fusion", "a7_*.json"))
def test_official_checkpoint_loads(path: Path, tmp_path: Path):
    shapes = json.loads(path.read_text())
    checkpoint = released_checkpoint(tmp_path / "vq-wav2vec_kmeans.pt", shapes)
    model = load_checkpoint(checkpoint)
    assert (model.layout.channels, model.layout.codewords, model.layout.width, model.layout.groups) == (
        512,
        320,
        256,
        2,
    )
    assert model.layout.shortest == 465
    assert model.layout.codebooks == 1
    convert(checkpoint, tmp_path / "vq.safetensors")
    again = load_checkpoint(tmp_path / "vq.safetensors")
    samples = torch.randn(10_000, generator=torch.Generator().manual_seed(1)) * 0.1
    codes = model.codes(samples)
    assert codes.shape == (60, 2)
    assert torch.equal(codes, again.codes(samples))
    assert len(model.codes(samples[:464])) == 0
    assert len(model.codes(samples[:465])) == 1


def small_shapes() -> dict[str, list[int]]:
    shapes = {}
    for n, (kernel, _) in enumerate(RELEASED_LAYERS):
        shapes[f"feature_extractor.conv_layers.{n}.0.weight"] = [8, 8 if n else 1, kernel]
        shapes |= {f"feature_extractor.conv_layers.{n}.2.{kind}": [8] for kind in ("weight", "bias")}
    shapes["vector_quantizer.embedding"] = [20, 1, 4]
    shapes["vector_quantizer.projection.0.weight"] = [8, 4, 1]
    return shapes | {f"vector_quantizer.projection.1.{kind}": [8] for kind in ("weight", "bias")}


def test_what_does_not_fit_is_refused(tmp_path: Path):
    shapes = small_shapes()
    del shapes["vector_quantizer.projection.1.bias"]
    shapes["feature_extractor.conv_layers.3.2.weight"] = [9]
    shapes["something.else"] = [2]
    path = released_checkpoint(tmp_path / "x.pt", shapes)
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert len(caught.value.problems) == 3
    with pytest.raises(InputError, match="skip connections"):
        load_checkpoint(released_checkpoint(tmp_path / "y.pt", small_shapes(), skip_connections_feat=True))
    with pytest.raises(InputError, match="no such file"):
        load_checkpoint(tmp_path / "z.pt")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path):
    path, witness = tmp_path / "evil.pt", tmp_path / "ran"
    torch.save({"model": {}, "args": _Evil(str(witness))}, path)
    with pytest.raises(InputError, match="without running foreign code"):
        load_checkpoint(path)
    assert not witness.exists()


class _Evil:
    def __init__(self, place: str):
        self.place = place

    def __reduce__(self):
        return open, (self.place, "w")


def dictionary_path() -> Path:
    path = PROJECT.parent / "shared" / "data" / "vq_wav2vec" / "dict.txt"
    if not path.is_file():
        pytest.skip("no dict.txt of the speech-BERT beside the project")
    return path


@pytest.mark.parametrize("path", cases("tab_fusion", "b_tokens.json"))
def test_dictionary_ids(path: Path):
    golden, dictionary = json.loads(path.read_text()), PairDictionary(dictionary_path())
    assert dictionary.size == golden["mask_index"]
    for symbol, expected in golden["sample_symbols"].items():
        assert dictionary.ids(np.array([[int(part) for part in symbol.split("-")]]))[1] == expected
    codes = np.array(golden["codes"])
    assert dictionary.ids(codes).tolist() == golden["ids_with_bos_eos"]
    assert dictionary.ids(codes, golden["max_tokens"]).tolist() == golden["truncated_keep_eos"]


def test_dictionary_of_few_lines(tmp_path: Path):
    path = tmp_path / "dict.txt"
    path.write_text("3-1 90\n0-2 80\n")
    dictionary = PairDictionary(path)
    assert dictionary.ids(np.array([[0, 2], [3, 1], [1, 1], [400, 0], [3, 3]])).tolist() == [0, 5, 4, 3, 3, 3, 2]
    path.write_text("3-1 90\n3-1 5\n")
    with pytest.raises(InputError, match="listed twice"):
        PairDictionary(path)
    path.write_text("3-1 90\nhello\n")
    with pytest.raises(InputError, match="line 2"):
        PairDictionary(path)


def test_streams_of_codes(tmp_path: Path):
    checkpoint = released_checkpoint(tmp_path / "small.pt", small_shapes())
    (tmp_path / "dict.txt").write_text("\n".join(f"{a}-{b} 1" for a in range(20) for b in range(10)))
    samples = (np.random.default_rng(0).standard_normal(4000) * 3000).astype(np.int16)
    clips = [
        Clip("a", recorded=samples),
        Clip("b", recorded=np.zeros(4000, np.int16)),
        Clip("c", recorded=samples[:400]),
    ]
    codes = find_extractor("vq_wav2vec_codes", {"checkpoint": str(checkpoint)})
    values = codes.extract(clips)
    assert [len(value) for value in values] == [(4000 - 465) // 160 + 1, 0, 0]
    assert codes.provenance().weights_sha256 is not None
    settings = {"checkpoint": str(checkpoint), "dictionary": str(tmp_path / "dict.txt"), "max_length": 10}
    ids = find_extractor("vq_wav2vec_ids", settings).extract(clips)
    expected = [a * 10 + b + 4 if b < 10 else 3 for a, b in values[0][:8].tolist()]
    assert ids[0][:, 0].tolist() == [0, *expected, 2]
    assert len(ids[1]) == 0
