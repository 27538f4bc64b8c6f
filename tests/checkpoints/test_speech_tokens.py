"""Official files of the speech tokens become one folder for extractor and system; what does not fit is refused."""

from __future__ import annotations

import argparse
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from transformers import AutoModel

from demeanor.__main__ import main
from demeanor.checkpoints.importing import import_checkpoint
from demeanor.checkpoints.speech_tokens import import_speech_tokens
from demeanor.data.errors import InputError
from demeanor.features import find_extractor
from demeanor.features.base import Clip
from demeanor.features.speech_codes import load_checkpoint
from demeanor.features.vq_wav2vec import RELEASED_LAYERS
from tests.parity.golden import cases, golden_file

WORDS, WIDTH = 20, 24
#: A dictionary for which the golden speech encoder's 50 rows are <mask> and 45 pairs.
PAIRS = [f"{n % 20}-{n // 20}" for n in range(45)]
OPTIONS = {"encoder_attention_heads": 3}


def speech_bert() -> dict[str, Tensor]:
    found = np.load(golden_file("tab_fusion", "d2_legacy_speechbert_state.npz"))
    return {name: torch.from_numpy(found[name].copy()) for name in found.files}


def quantiser() -> dict[str, Tensor]:
    """Eight channels, two groups of twenty codewords."""
    draw = torch.Generator().manual_seed(3)
    shapes: dict[str, list[int]] = {}
    for n, (kernel, _) in enumerate(RELEASED_LAYERS):
        shapes[f"feature_extractor.conv_layers.{n}.0.weight"] = [8, 8 if n else 1, kernel]
        shapes |= {f"feature_extractor.conv_layers.{n}.2.{kind}": [8] for kind in ("weight", "bias")}
    shapes["vector_quantizer.embedding"] = [WORDS, 1, 4]
    shapes["vector_quantizer.projection.0.weight"] = [8, 4, 1]
    shapes |= {f"vector_quantizer.projection.1.{kind}": [8] for kind in ("weight", "bias")}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def release(folder: Path, pairs: list[str] = PAIRS, archived: bool = True, options: dict | None = None) -> Path:
    """The files as they are released, small."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = str([(8, kernel, stride) for kernel, stride in RELEASED_LAYERS])
    args = argparse.Namespace(conv_feature_layers=layers, log_compression=False, activation="gelu")
    torch.save({"args": args, "model": quantiser()}, folder / "vq-wav2vec_kmeans.pt")
    inside = folder / "inside" if archived else folder
    inside.mkdir(exist_ok=True)
    (inside / "dict.txt").write_text("".join(f"{pair} {90 - n}\n" for n, pair in enumerate(pairs)))
    known = argparse.Namespace(**(OPTIONS if options is None else options))
    torch.save({"args": known, "model": speech_bert()}, inside / "bert_kmeans.pt")
    if archived:
        with tarfile.open(folder / "bert_kmeans.tar", "w") as archive:
            for name in ("bert_kmeans.pt", "dict.txt"):
                archive.add(inside / name, arcname=f"./{name}")
    return folder


@pytest.mark.parametrize("archived", [True, False])
def test_a_release_becomes_one_folder(tmp_path: Path, archived: bool):
    tokens = import_speech_tokens(release(tmp_path / "release", archived=archived))
    tokens.save(tmp_path / "speech")
    expected = {"config.json", "model.safetensors", "dict.txt", "vq_wav2vec.safetensors", "card.json"}
    assert {path.name for path in (tmp_path / "speech").iterdir()} == expected
    card = json.loads((tmp_path / "speech" / "card.json").read_text())
    assert len(card["sources_sha256"]) == (2 if archived else 3)
    assert "20 codewords shared by 2 groups" in str(tokens)
    assert "vocabulary 50, 40 tokens" in str(tokens)
    # The imported encoder gives the golden states, the imported quantiser the codes of the original file.
    golden = np.load(golden_file("tab_fusion", "d_fusion_tiny.npz"))
    ids = torch.from_numpy(golden["in_audio"])
    model = AutoModel.from_pretrained(tmp_path / "speech", add_pooling_layer=False).eval()
    with torch.inference_mode():
        states = model(input_ids=ids, attention_mask=(ids != 1).long()).last_hidden_state
    np.testing.assert_allclose(
        states[ids != 1], golden["audio_features"][golden["in_audio"] != 1], atol=1e-4, rtol=1e-4
    )
    samples = torch.randn(4000, generator=torch.Generator().manual_seed(1))
    codes = load_checkpoint(tmp_path / "release" / "vq-wav2vec_kmeans.pt").codes(samples)
    assert torch.equal(codes, load_checkpoint(tmp_path / "speech" / "vq_wav2vec.safetensors").codes(samples))


def test_its_parts_name_each_other(tmp_path: Path):
    import_speech_tokens(release(tmp_path / "release")).save(tmp_path / "speech")
    extractor = find_extractor(
        "vq_wav2vec_ids",
        {
            "checkpoint": str(tmp_path / "speech/vq_wav2vec.safetensors"),
            "dictionary": str(tmp_path / "speech/dict.txt"),
        },
    )
    told = extractor.provenance().parameters
    config = json.loads((tmp_path / "speech/config.json").read_text())
    assert told["dictionary_sha256"] == config["dictionary_sha256"]
    assert told["vocabulary_size"] == config["vocab_size"] == 50
    samples = (np.random.default_rng(0).standard_normal(4000) * 3000).astype(np.int16)
    ids = extractor.extract_clip(Clip("a", recorded=samples))
    assert ids[0] == 0
    assert ids[-1] == 2
    assert ids.max() < 50


def test_single_files(tmp_path: Path):
    folder = release(tmp_path / "release", archived=False)
    assert list(import_speech_tokens(folder / "vq-wav2vec_kmeans.pt").parts) == ["codes"]
    assert list(import_speech_tokens(folder / "dict.txt").parts) == ["ids"]
    assert list(import_speech_tokens(folder / "bert_kmeans.pt").parts) == ["ids", "encoder"]
    assert "not given   codes" in str(import_speech_tokens(folder / "bert_kmeans.pt"))


def test_parts_of_other_codebooks_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="numbers 48 ids") as caught:
        import_speech_tokens(release(tmp_path / "a", pairs=["31-1", *PAIRS[:43]]))
    assert len(caught.value.problems) == 2
    assert "1 pairs of dict.txt are beyond the codebook's 20 words" in str(caught.value)


def test_what_is_not_known_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="number of attention heads"):
        import_speech_tokens(release(tmp_path / "a", options={}))
    with pytest.raises(InputError, match="encoder_layers 5"):
        import_speech_tokens(release(tmp_path / "b", options={**OPTIONS, "encoder_layers": 5}))
    with pytest.raises(InputError, match="holds nothing of"):
        import_speech_tokens(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        import_speech_tokens(tmp_path / "none.pt")
    strange = {**speech_bert(), "decoder.sentence_encoder.layers.0.adapter.weight": torch.zeros(3)}
    torch.save({"args": argparse.Namespace(**OPTIONS), "model": strange}, tmp_path / "strange.pt")
    with pytest.raises(InputError, match=r"adapter.weight' \[3\] has no place"):
        import_speech_tokens(tmp_path / "strange.pt")
    with pytest.raises(InputError, match="--force"):
        import_checkpoint("tab_fusion", tmp_path, force=True)
    with pytest.raises(InputError, match="conv_autoencoder, mmml, tab_fusion"):
        import_checkpoint("late_fusion", tmp_path)


def test_the_command(tmp_path: Path):
    folder = release(tmp_path / "release")
    done = CliRunner().invoke(main, ["import-checkpoint", "tab_fusion", str(folder), "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "45 pairs" in done.output
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("path", cases("tab_fusion", "a7_*.json"))
def test_the_released_shapes_of_the_quantiser(path: Path, tmp_path: Path):
    shapes = json.loads(path.read_text())
    model = {name: torch.zeros(shape) for name, shape in shapes.items() if not name.startswith("feature_aggregator")}
    torch.save({"args": argparse.Namespace(log_compression=False), "model": model}, tmp_path / "vq-wav2vec_kmeans.pt")
    (tmp_path / "dict.txt").write_text("48-29 7\n319-0 1\n")
    tokens = import_speech_tokens(tmp_path)
    assert "320 codewords shared by 2 groups" in str(tokens)
