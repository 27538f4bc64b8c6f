"""The weights of a foreign file by name, and what their shapes tell of an encoder of the BERT family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from demeanor.data.errors import InputError

#: Numbers of an attention head of all published encoders.
HEAD = 64


class State:
    """Weights of a file, asked for by name; what is not there is an InputError about that file."""

    def __init__(self, weights: Mapping[str, Tensor], path: Path):
        self.weights, self.path = weights, path

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a weight; InputError if it is missing."""
        if name not in self.weights:
            raise InputError(str(self.path), [f"'{name}' is missing"], "Give a whole checkpoint of MMML.")
        return tuple(self.weights[name].shape)

    def has(self, prefix: str) -> bool:
        """Whether any weight's name begins so."""
        return any(name.startswith(prefix) for name in self.weights)

    def count(self, pattern: str) -> int:
        """How many numbers stand where the pattern's group is."""
        return len({found.group(1) for name in self.weights if (found := re.match(pattern, name))})


def encoder_sizes(state: State, prefix: str) -> dict[str, Any]:
    """What the weights of an encoder of the BERT family, whose names begin with `prefix`, tell of its configuration."""
    vocabulary, width = state.shape(f"{prefix}embeddings.word_embeddings.weight")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": state.count(re.escape(prefix) + r"encoder\.layer\.(\d+)\."),
        "num_attention_heads": heads(width, state.path),
        "intermediate_size": state.shape(f"{prefix}encoder.layer.0.intermediate.dense.weight")[0],
        "max_position_embeddings": state.shape(f"{prefix}embeddings.position_embeddings.weight")[0],
        "type_vocab_size": state.shape(f"{prefix}embeddings.token_type_embeddings.weight")[0],
    }


def heads(width: int, path: Path) -> int:
    """Attention heads of an encoder so wide, 64 numbers each; InputError where they do not divide its width."""
    if width % HEAD:
        raise InputError(str(path), [f"an encoder is {width} wide; published ones are multiples of {HEAD} wide"])
    return width // HEAD
