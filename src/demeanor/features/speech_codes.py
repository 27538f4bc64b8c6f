"""Streams of speech codes: the official vq-wav2vec checkpoint, and the speech-BERT dictionary that numbers its pairs.

docs/systems/tab_fusion.md#speech-tokens, #lengths, #vq-checkpoint.
"""

from __future__ import annotations

import argparse
import ast
import io
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from demeanor.data.device import choose_device
from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of_file, write_atomically
from demeanor.data.places import anchored
from demeanor.data.settings import Settings
from demeanor.features.base import Clip, Extractor
from demeanor.features.sharing import loaded_once
from demeanor.features.vq_wav2vec import VqWav2vec, build, layout_of

#: Ids of fairseq's dictionaries: <s>, <pad>, </s>, <unk>, then the lines of dict.txt.
START, PAD, END, UNKNOWN, FIRST = 0, 1, 2, 3, 4


def load_checkpoint(path: Path | str) -> VqWav2vec:
    """The model of an official `.pt` file (args and model) or of a `.safetensors` file made by `convert`.

    The pickle inside a `.pt` may hold tensors, plain values and argparse.Namespace, and nothing else is ever run.
    InputError lists what is missing, misshapen or unknown.
    """
    path = anchored(path)
    if not path.is_file():
        raise InputError(str(path), ["there is no such file"], "Give the path of vq-wav2vec_kmeans.pt.")
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as handle:
            state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            options: Mapping[str, Any] = {
                key: ast.literal_eval(value) for key, value in (handle.metadata() or {}).items() if key != "format"
            }
    else:
        state, options = read_official(path)
    strides = options.get("conv_feature_layers")
    if isinstance(strides, str):
        strides = ast.literal_eval(strides)
    known = tuple(int(layer[2]) for layer in strides) if strides else None
    layout = layout_of(state, known, bool(options.get("log_compression", False)), str(path))
    problems = []
    if options.get("skip_connections_feat"):
        problems.append("skip connections in the encoder (skip_connections_feat) are not supported")
    if options.get("activation", "gelu") != "gelu":
        problems.append(f"activation {options['activation']!r} is not supported, only gelu")
    if problems:
        raise InputError(str(path), problems)
    return build(state, layout, str(path))


def read_official(source: Path | str | io.BytesIO, where: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Named tensors and options of an official fairseq checkpoint (a path, or an open file called `where`).

    The pickle inside may hold tensors, plain values and argparse.Namespace; InputError for anything else.

    Tensors have any shape [...].
    """
    where = where or str(source)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, tarfile.TarError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            where,
            [f"not a checkpoint that can be read without running foreign code ({first})"],
            "Only tensors, plain values and argparse.Namespace are accepted.",
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise InputError(where, ["holds no 'model' with named tensors"])
    options = content.get("args")
    state = {name: value for name, value in content["model"].items() if isinstance(value, torch.Tensor)}
    return state, dict(vars(options)) if isinstance(options, argparse.Namespace) else {}


def convert(source: Path | str, target: Path | str) -> None:
    """Write an official checkpoint's encoder and quantiser as safetensors, which loads faster and holds no pickle."""
    from safetensors.torch import save_file

    model = load_checkpoint(source)
    layers = [(model.layout.channels, kernel, stride) for kernel, stride in model.layout.layers]
    metadata = {"conv_feature_layers": repr(layers), "log_compression": repr(model.layout.log_compression)}
    with write_atomically(target) as temporary:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary, metadata)


class PairDictionary:
    """dict.txt of the speech-BERT: one `g0-g1 count` a line; the id of a pair is its line number (from 0) + 4."""

    def __init__(self, path: Path | str):
        self.path = anchored(path)
        if not self.path.is_file():
            raise InputError(str(path), ["there is no such file"], "Give the path of dict.txt of bert_kmeans.tar.")
        pairs = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines()):
            left, _, right = line.partition(" ")[0].partition("-")
            if not (left.isdigit() and right.isdigit()):
                raise InputError(f"{path}, line {number + 1}", [f"expected 'g0-g1 count', found {line[:60]!r}"])
            pairs.append((int(left), int(right)))
        self.size = len(pairs) + FIRST
        numbers = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        self._table = np.full(numbers.max(axis=0, initial=0) + 1, UNKNOWN, dtype=np.int64)
        if len(set(pairs)) < len(pairs):
            raise InputError(str(path), [f"{len(pairs) - len(set(pairs))} pairs are listed twice"])
        self._table[numbers[:, 0], numbers[:, 1]] = np.arange(FIRST, self.size)

    def ids(self, codes: Int[np.ndarray, "frames 2"], max_length: int | None = None) -> Int[np.ndarray, " ids"]:
        """<s>, one id per frame (<unk> for pairs not listed), </s>; cut so that </s> stays last
        (docs/systems/tab_fusion.md#lengths)."""
        inside = np.all((codes >= 0) & (codes < self._table.shape), axis=1)
        clipped = np.minimum(np.maximum(codes, 0), np.array(self._table.shape) - 1)
        middle = np.where(inside, self._table[clipped[:, 0], clipped[:, 1]], UNKNOWN)
        if max_length is not None:
            middle = middle[: max_length - 2]
        return np.concatenate([[START], middle, [END]])


class CodeSettings(Settings):
    """`checkpoint`: path of vq-wav2vec_kmeans.pt or of its safetensors form."""

    checkpoint: str


class DictionarySettings(CodeSettings):
    """`dictionary`: path of the speech-BERT's dict.txt; `max_length`: ids after which an utterance is cut."""

    dictionary: str
    max_length: int = Field(default=2048, ge=3)


class SpeechCodes(Extractor):
    """`audio.codes`: vq-wav2vec indices of both groups, [T, 2] int32, 100 frames per second; absent where silent or
    shorter than 465 samples. One utterance at a time: its codes do not depend on any other's length."""

    name = "vq_wav2vec_codes"
    stream = "audio.codes"
    reads = frozenset({"audio"})
    unit = "frame"
    licence = "MIT (fairseq's code and released model)"
    batched = True
    dtype = np.int32
    settings_type: ClassVar[type[Settings]] = CodeSettings

    @property
    def version(self) -> str:
        return "1"

    @property
    def dimension(self) -> int:
        return 2

    @property
    def rate(self) -> float | None:
        return 100.0

    @property
    def weights_sha256(self) -> str | None:
        """Hash of the checkpoint, None where it is not there."""
        path = anchored(self.settings.checkpoint)
        return sha256_of_file(path) if path.is_file() else None

    @cached_property
    def model(self) -> VqWav2vec:
        """The quantiser, loaded once."""
        return _loaded(self.settings.checkpoint)

    def extract(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        return [self._values(clip) for clip in clips]

    def _values(self, clip: Clip) -> np.ndarray:
        codes = self._codes(clip)
        return self.absent if codes is None else codes.astype(np.int32)

    def _codes(self, clip: Clip) -> np.ndarray | None:
        waveform = clip.audible
        if waveform is None or len(waveform) < self.model.layout.shortest:
            return None
        device = next(self.model.parameters()).device
        return self.model.codes(torch.from_numpy(waveform).to(device)).cpu().numpy()

    def cost(self, clip: Clip) -> float:
        return (clip.end or 0.0) - clip.start


class SpeechCodeIds(SpeechCodes):
    """`audio.tokens`: vq-wav2vec codes as ids of the speech-BERT's dictionary, <s> ... </s>, [T, 1] int32."""

    name = "vq_wav2vec_ids"
    stream = "audio.tokens"
    unit = "token"
    settings_type = DictionarySettings

    @cached_property
    def dictionary(self) -> PairDictionary:
        """The dictionary of code pairs, read once."""
        return PairDictionary(self.settings.dictionary)

    @property
    def dimension(self) -> int:
        return 1

    @property
    def rate(self) -> float | None:
        return None

    def facts(self) -> dict[str, Any]:
        return {"dictionary_sha256": sha256_of_file(self.dictionary.path), "vocabulary_size": self.dictionary.size + 1}

    def _values(self, clip: Clip) -> np.ndarray:
        codes = self._codes(clip)
        if codes is None:
            return self.absent
        return self.dictionary.ids(codes, self.settings.max_length).astype(np.int32)[:, None]


@loaded_once(maxsize=1)
def _loaded(checkpoint: str) -> VqWav2vec:
    return load_checkpoint(checkpoint).to(choose_device())
