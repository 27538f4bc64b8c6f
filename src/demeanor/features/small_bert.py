"""The bundled encoder in plain PyTorch: BERT as published (Devlin et al. 2019, https://arxiv.org/abs/1810.04805,
section 3; layers of Vaswani et al. 2017, section 3.1), its weights by the names under which everybody stores them.

The library that has every encoder takes seconds to import for one; other encoders are still loaded by it. Values agree
with its own within 1e-5.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

#: Token types are all 0: one text at a time.
UNUSED = ("pooler.", "embeddings.position_ids")


@dataclass(frozen=True)
class BertOutput:
    """
    last_hidden_state  [B, T, D]
    hidden_states      embeddings and the output of every layer, where they were asked for
    """

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...] | None = None


def read_configuration(folder: Path | str) -> Any:
    """config.json of a folder, its entries as attributes."""
    return SimpleNamespace(**json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")))


class _Linear(nn.Linear):
    """Without drawing numbers, a quarter of a second for all, for weights that a file brings."""

    def reset_parameters(self) -> None:
        """They stay as memory was."""


class _Embedding(nn.Embedding):
    """The same."""

    def reset_parameters(self) -> None:
        """They stay as memory was."""


class SmallBert(nn.Module):
    """A BERT encoder for inference."""

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Stack(config)

    @classmethod
    def load(cls, folder: Path | str) -> SmallBert:
        """The encoder in a folder of config.json and model.safetensors; errors are those of reading the files."""
        from safetensors.torch import load_file

        model = cls(read_configuration(folder))
        weights = load_file(Path(folder) / "model.safetensors")
        kept = {name: value for name, value in weights.items() if not name.startswith(UNUSED)}
        model.load_state_dict(kept, assign=True)
        return model

    def forward(
        self,
        input_ids: Int[Tensor, "batch steps"],
        attention_mask: Int[Tensor, "batch steps"],
        output_hidden_states: bool = False,
    ) -> BertOutput:
        """States of every token; `attention_mask` is 1 on real ones."""
        mask = attention_mask.bool()[:, None, None, :]
        states = [self.embeddings(input_ids)]
        for layer in self.encoder.layer:
            states.append(layer(states[-1], mask))
        return BertOutput(states[-1], tuple(states) if output_hidden_states else None)


class _Stack(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        self.layer = nn.ModuleList([_Layer(config) for _ in range(config.num_hidden_layers)])


class _Embeddings(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        self.word_embeddings = _Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = _Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = _Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: Int[Tensor, "batch steps"]) -> Float[Tensor, "batch steps width"]:
        positions = torch.arange(ids.shape[1], device=ids.device)
        summed = self.word_embeddings(ids) + self.token_type_embeddings.weight[0] + self.position_embeddings(positions)
        return self.LayerNorm(summed)


class _Layer(nn.Module):
    """Attention, then two linear layers, each with a residual and a normalisation behind it."""

    def __init__(self, config: Any):
        super().__init__()
        width, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.attention = _Attention(width, eps)
        self.intermediate = _Inner(width, inner)
        self.output = _Joined(inner, width, eps)

    def forward(self, states: Float[Tensor, "batch steps width"], mask: Tensor) -> Float[Tensor, "batch steps width"]:
        batch, steps, width = states.shape
        query, key, value = (
            linear(states).view(batch, steps, self.heads, -1).transpose(1, 2)
            for linear in (self.attention.self.query, self.attention.self.key, self.attention.self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        states = self.attention.output(mixed.transpose(1, 2).reshape(batch, steps, width), states)
        return self.output(nn.functional.gelu(self.intermediate.dense(states)), states)


class _Attention(nn.Module):
    """The weights of an attention, under their published names."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.self = _Projections(width)
        self.output = _Joined(width, width, eps)


class _Projections(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value = (_Linear(width, width) for _ in range(3))


class _Inner(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.dense = _Linear(width, inner)


class _Joined(nn.Module):
    """A linear layer whose output is added to what came in, and normalised."""

    def __init__(self, inner: int, width: int, eps: float):
        super().__init__()
        self.dense = _Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=eps)

    def forward(self, values: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(values) + residual)


class PlainTokenizer:
    """tokenizer.json by the library that made it, called as the larger one calls it; one text or several."""

    def __init__(self, folder: Path | str):
        from tokenizers import Tokenizer

        config = json.loads((Path(folder) / "tokenizer_config.json").read_text(encoding="utf-8"))
        self._inner = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self._inner.no_truncation()
        self._inner.no_padding()
        self.model_max_length = int(config["model_max_length"])
        self.pad_token_id = self._inner.token_to_id(config["pad_token"])

    def get_vocab(self) -> dict[str, int]:
        """Token -> id."""
        return self._inner.get_vocab(with_added_tokens=True)

    def __call__(
        self,
        text: str | list[str],
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int | None = None,
        return_offsets_mapping: bool = False,
        verbose: bool = True,
    ) -> dict[str, Any]:
        """input_ids, and offset_mapping where it is asked for; of several texts a list each."""
        texts = [text] if isinstance(text, str) else list(text)
        if truncation:
            self._inner.enable_truncation(max_length or self.model_max_length)
        try:
            made = self._inner.encode_batch(texts, add_special_tokens=add_special_tokens)
        finally:
            self._inner.no_truncation()
        encoding: dict[str, Any] = {"input_ids": [one.ids for one in made]}
        if return_offsets_mapping:
            encoding["offset_mapping"] = [one.offsets for one in made]
        return {name: values[0] for name, values in encoding.items()} if isinstance(text, str) else encoding
