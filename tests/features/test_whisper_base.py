"""Whisper base out of two packages: joined, converted, checked; and what is wrong with them told in a sentence."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from demeanor.data.errors import InputError
from demeanor.features import whisper_base
from demeanor.features.ctranslate import CONVERTED, is_converted, read_variables, whisper_tensors, write_whisper_folder
from demeanor.features.hub import resolve

SIZES = {"encoder": 2, "decoder": 1}
WIDTH, HEADS, HIDDEN, WORDS = 8, 2, 12, 20


def name_of(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def written(path: Path, variables: dict[str, np.ndarray]) -> Path:
    """A CTranslate2 file of these variables."""
    kinds = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.int16): 2, np.dtype(np.float16): 4}
    content = struct.pack("<I", 6) + name_of("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, values in variables.items():
        content += name_of(name) + struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        content += struct.pack("<BI", kinds[values.dtype], values.nbytes) + values.tobytes()
    path.write_bytes(content + struct.pack("<I", 1) + name_of("decoder/projection/weight") + name_of("x"))
    return path


def tiny(model: transformers.WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """The model's weights as CTranslate2 names and stacks them."""
    state = {name.removeprefix("model."): value.numpy() for name, value in model.state_dict().items()}
    found: dict[str, np.ndarray] = {}
    for part, layers in SIZES.items():
        found[f"{part}/num_heads"] = np.array(HEADS, np.int16)
        found[f"{part}/pre_norm"] = np.array(1, np.int8)
        found[f"{part}/position_encodings/encodings"] = state[f"{part}.embed_positions.weight"]
        for ours, theirs in (("gamma", "weight"), ("beta", "bias")):
            found[f"{part}/layer_norm/{ours}"] = state[f"{part}.layer_norm.{theirs}"]
        for number in range(layers):
            layer, place = f"{part}.layers.{number}", f"{part}/layer_{number}"
            blocks = {"self_attention": "self_attn", "attention": "encoder_attn"}
            for block, inner in list(blocks.items())[: 1 if part == "encoder" else 2]:
                rows = {name: state[f"{layer}.{inner}.{name}_proj.weight"] for name in ("q", "k", "v", "out")}
                bias = {name: state[f"{layer}.{inner}.{name}_proj.bias"] for name in ("q", "v", "out")}
                bias["k"] = np.zeros(WIDTH, np.float32)
                stacks = ["qkv", "out"] if block == "self_attention" else ["q", "kv", "out"]
                for n, stack in enumerate(stacks):
                    names = [stack] if stack == "out" else list(stack)
                    found[f"{place}/{block}/linear_{n}/weight"] = np.concatenate([rows[name] for name in names])
                    found[f"{place}/{block}/linear_{n}/bias"] = np.concatenate([bias[name] for name in names])
                for ours, theirs in (("gamma", "weight"), ("beta", "bias")):
                    found[f"{place}/{block}/layer_norm/{ours}"] = state[f"{layer}.{inner}_layer_norm.{theirs}"]
            for n in (0, 1):
                for kind in ("weight", "bias"):
                    found[f"{place}/ffn/linear_{n}/{kind}"] = state[f"{layer}.fc{n + 1}.{kind}"]
            for ours, theirs in (("gamma", "weight"), ("beta", "bias")):
                found[f"{place}/ffn/layer_norm/{ours}"] = state[f"{layer}.final_layer_norm.{theirs}"]
    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            found[f"encoder/{conv}/{kind}"] = state[f"encoder.{conv}.{kind}"]
    found["decoder/embeddings/weight"] = state["decoder.embed_tokens.weight"]
    found["decoder/alignment_heads"] = np.array([1, 0], np.int16)
    return found


@pytest.fixture
def model() -> transformers.WhisperForConditionalGeneration:
    torch.manual_seed(3)
    config = transformers.WhisperConfig(
        vocab_size=WORDS, num_mel_bins=80, d_model=WIDTH, encoder_layers=2, decoder_layers=1, pad_token_id=0,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=HIDDEN, decoder_ffn_dim=HIDDEN,
        max_source_positions=1500, max_target_positions=9, bos_token_id=0, eos_token_id=0, decoder_start_token_id=1,
    )  # fmt: skip
    made = transformers.WhisperForConditionalGeneration(config)
    for value in made.parameters():  # biases, too, are to be told apart
        torch.nn.init.normal_(value, std=0.3)
    return made.eval()


def test_a_converted_model_computes_what_the_original_does(tmp_path: Path, model):
    file = written(tmp_path / "model.bin", tiny(model))
    write_whisper_folder(file, tmp_path / "folder")
    assert is_converted(tmp_path / "folder", whisper_base.sha256_of_file(file))
    assert not is_converted(tmp_path / "folder", "another")
    read = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "folder").eval()
    sound, tokens = torch.randn(1, 80, 3000), torch.tensor([[1, 5, 3]])
    with torch.inference_mode():
        expected, found = (one(sound, decoder_input_ids=tokens).logits for one in (model, read))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    with open(tmp_path / "folder" / CONVERTED, "r+b") as handle:
        handle.seek(-4, 2)
        handle.write(b"\0\0\0\1")
    assert not is_converted(tmp_path / "folder", whisper_base.sha256_of_file(file))


def test_half_precision_is_widened_and_damage_is_told(tmp_path: Path, model):
    variables = {name: one.astype(np.float16) if one.dtype == np.float32 else one for name, one in tiny(model).items()}
    file = written(tmp_path / "half.bin", variables)
    assert {one.dtype for one in whisper_tensors(read_variables(file)).values()} == {np.dtype(np.float32)}
    content = file.read_bytes()
    for wrong in (b"", content[:40], content[: len(content) // 2], b"PK\3\4" * 50):
        file.write_bytes(wrong)
        with pytest.raises(InputError, match=r"cut off|is no Whisper"):
            read_variables(file)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two packages of which the content is not Whisper's."""
    for number, part in enumerate(("made_part_one", "made_part_two"), 1):
        data = tmp_path / "site" / part / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").touch()
        (data / f"model.bin.part{number}").write_bytes(b"half" * number)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / "site" / "made_part_one" / "data" / name).write_text("{}")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(whisper_base, "PARTS", ("made_part_one", "made_part_two"))
    monkeypatch.setenv("DEMEANOR_CACHE", str(tmp_path / "cache"))
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()


def forget() -> None:
    whisper_base.recogniser_folder.cache_clear()
    whisper_base.encoder_folder.cache_clear()
    resolve.cache_clear()
    for part in ("made_part_one", "made_part_two"):  # imported for the place of its files, which is another test's
        sys.modules.pop(part, None)


def test_halves_are_joined_once_and_a_damaged_file_is_made_again(packages: Path, monkeypatch: pytest.MonkeyPatch):
    import hashlib

    monkeypatch.setattr(whisper_base, "WHISPER_BASE_SHA256", hashlib.sha256(b"halfhalfhalf").hexdigest())
    folder = whisper_base.recogniser_folder()
    assert (folder / "model.bin").read_bytes() == b"halfhalfhalf"
    assert {path.name for path in folder.iterdir()} == {"model.bin", "config.json", "tokenizer.json", "vocabulary.txt"}
    (folder / "model.bin").write_bytes(b"damaged")
    forget()
    assert (whisper_base.recogniser_folder() / "model.bin").read_bytes() == b"halfhalfhalf"


def test_other_weights_are_refused_and_nothing_is_left(packages: Path):
    with pytest.raises(whisper_base.WeightsError, match=r"has sha256 .* expected d01c3014") as told:
        resolve("whisper-base")
    assert "--force-reinstall" in str(told.value)
    assert not [path for path in (packages / "cache").rglob("*") if path.is_file()]
    (packages / "site" / "made_part_two" / "data" / "model.bin.part2").unlink()
    with pytest.raises(whisper_base.WeightsError, match=r"model\.bin\.part2 is missing"):
        resolve("whisper-base")
