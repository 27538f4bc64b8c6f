"""CTranslate2's file of weights (`model.bin`) to a Hugging Face folder of Whisper.

The file is little-endian: version, name, revision, count; then for each variable its name, rank, sides, type, number of
bytes and values; then names that stand for others. A name is its length, closing zero included, and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.files import read_json, sha256_of_file, write_json

#: CTranslate2's numbers of types; quantised weights have scales beside them, and are not read here.
TYPES: dict[int, type[np.generic]] = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
#: No variable of a model that is read here is larger.
LARGEST = 1 << 30
CONVERTED, RECEIPT = "model.safetensors", "converted.json"
#: Counts up when the same file is converted otherwise.
VERSION = 2
#: Words of the vocabulary from which on Whisper knows other languages than English.
MULTILINGUAL = 51865
NORMS = {"gamma": "weight", "beta": "bias"}


class _Reader:
    """Values one after the other; InputError where the file ends too early."""

    def __init__(self, path: Path):
        self.path = path
        self.content = memoryview(path.read_bytes())
        self.place = 0

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= min(LARGEST, len(self.content) - self.place):
            raise InputError(str(self.path), ["is cut off, or no file of CTranslate2's weights"])
        self.place += count
        return self.content[self.place - count : self.place]

    def number(self, form: str) -> int:
        return int(struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0])

    def name(self) -> str:
        return bytes(self.take(self.number("H"))).rstrip(b"\0").decode("utf-8", errors="replace")


def read_variables(path: Path) -> dict[str, np.ndarray]:
    """Name -> values of every variable of a CTranslate2 `model.bin`; InputError where it is no such file.

    Shapes [...] as the file states them.
    """
    reader = _Reader(path)
    version, specification = reader.number("I"), reader.name()
    if version < 5 or specification != "WhisperSpec":
        raise InputError(str(path), ["is no Whisper of CTranslate2 (model.bin of WhisperSpec, version 5 or later)"])
    reader.number("I")
    variables: dict[str, np.ndarray] = {}
    for _ in range(reader.number("I")):
        name = reader.name()
        sides = tuple(reader.number("I") for _ in range(reader.number("B")))
        kind, size = reader.number("B"), reader.number("I")
        values = reader.take(size)
        if kind not in TYPES or size != np.dtype(TYPES[kind]).itemsize * int(np.prod(sides, dtype=np.int64)):
            raise InputError(str(path), [f"variable {name[:80]} is of a type or size that is not read here"])
        variables[name] = np.frombuffer(values, TYPES[kind]).reshape(sides)
    return variables


def whisper_tensors(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The variables under the names of transformers' WhisperForConditionalGeneration, in float32.

    Query, key and value of self-attention lie one below the other (the key's bias is zero and is left out), as do
    key and value of the decoder's attention to the encoder.

    Matrices stay [outputs, inputs], convolutions [outputs, inputs, width].
    """
    tensors: dict[str, np.ndarray] = {}
    for name, values in variables.items():
        part, _, rest = name.partition("/")
        if values.ndim == 0 or rest in {"alignment_heads", "alignment_layer"}:
            continue
        wide = values.astype(np.float32)
        if rest.startswith("layer_") and not rest.startswith("layer_norm"):
            number, _, inner = rest.removeprefix("layer_").partition("/")
            for key, value in _of_layer(inner, wide).items():
                tensors[f"model.{part}.layers.{number}.{key}"] = value
        elif rest.startswith("layer_norm/"):
            tensors[f"model.{part}.layer_norm.{NORMS[rest.rpartition('/')[2]]}"] = wide
        else:
            known = {
                "position_encodings/encodings": "embed_positions.weight",
                "embeddings/weight": "embed_tokens.weight",
            }
            tensors[f"model.{part}.{known.get(rest, rest.replace('/', '.'))}"] = wide
    return tensors


def _of_layer(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    block, layer, kind = name.split("/")
    ours = {"self_attention": "self_attn", "attention": "encoder_attn"}.get(block, "")
    if layer == "layer_norm":
        return {f"{ours + '_layer_norm' if ours else 'final_layer_norm'}.{NORMS[kind]}": values}
    if block == "ffn":
        return {f"fc{int(layer[-1]) + 1}.{kind}": values}
    rows = {
        ("self_attention", "linear_0"): ("q_proj", "k_proj", "v_proj"),
        ("attention", "linear_0"): ("q_proj",),
        ("attention", "linear_1"): ("k_proj", "v_proj"),
    }.get((block, layer), ("out_proj",))
    parts = zip(rows, np.split(values, len(rows)), strict=True)
    return {f"{ours}.{row}.{kind}": part for row, part in parts if (row, kind) != ("k_proj", "bias")}


def write_whisper_folder(model: Path, folder: Path) -> None:
    """A Hugging Face folder (config, weights in float32, preprocessor) of a CTranslate2 Whisper `model.bin`."""
    from safetensors.numpy import save_file
    from transformers import WhisperConfig, WhisperFeatureExtractor

    variables = read_variables(model)
    tensors = whisper_tensors(variables)
    layers = {
        part: 1 + max(int(name.split(".")[3]) for name in tensors if name.startswith(f"model.{part}.layers."))
        for part in ("encoder", "decoder")
    }
    width, bands, _ = tensors["model.encoder.conv1.weight"].shape
    heads = {part: int(variables[f"{part}/num_heads"]) for part in layers}
    hidden = {part: len(tensors[f"model.{part}.layers.0.fc1.bias"]) for part in layers}
    words = len(tensors["model.decoder.embed_tokens.weight"])
    # The token that ends a text, in vocabularies of many languages and of English alone; the one after it begins one.
    end = min(50257 if words >= MULTILINGUAL else 50256, words - 2)
    folder.mkdir(parents=True, exist_ok=True)
    WhisperConfig(
        vocab_size=words, pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=end + 1,
        num_mel_bins=bands, d_model=width,
        encoder_layers=layers["encoder"], decoder_layers=layers["decoder"],
        encoder_attention_heads=heads["encoder"], decoder_attention_heads=heads["decoder"],
        encoder_ffn_dim=hidden["encoder"], decoder_ffn_dim=hidden["decoder"],
        max_source_positions=len(tensors["model.encoder.embed_positions.weight"]),
        max_target_positions=len(tensors["model.decoder.embed_positions.weight"]),
        architectures=["WhisperForConditionalGeneration"], dtype="float32",
    ).save_pretrained(folder)  # fmt: skip
    WhisperFeatureExtractor(feature_size=bands).save_pretrained(folder)
    contiguous = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    save_file(contiguous, folder / CONVERTED, {"format": "pt"})
    hashes = {"source_sha256": sha256_of_file(model), "sha256": sha256_of_file(folder / CONVERTED)}
    write_json(folder / RECEIPT, {**hashes, "version": VERSION})


def is_converted(folder: Path, source_sha256: str) -> bool:
    """Does the folder hold, undamaged, what `write_whisper_folder` makes of a file with that hash?"""
    try:
        receipt = read_json(folder / RECEIPT)
        expected = {"source_sha256": source_sha256, "sha256": sha256_of_file(folder / CONVERTED), "version": VERSION}
    except (OSError, InputError):
        return False
    return receipt == expected
