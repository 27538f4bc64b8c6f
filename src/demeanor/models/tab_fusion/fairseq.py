"""fairseq's RoBERTa under Hugging Face's names, and the published fusion model under ours.

docs/systems/tab_fusion.md#encoders, #model. Three layouts of one network are read: prefix `encoder.` or (2019)
`decoder.`, query, key and value apart or (2019) stacked in `in_proj`, and `emb_layer_norm` or `layernorm_embedding`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from demeanor.data.errors import InputError

MIDDLE = "sentence_encoder."
#: Name inside a layer -> Hugging Face's.
LAYER = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "output.LayerNorm",
}
TOP = {
    "embed_tokens": "embeddings.word_embeddings",
    "embed_positions": "embeddings.position_embeddings",
    "emb_layer_norm": "embeddings.LayerNorm",
    "layernorm_embedding": "embeddings.LayerNorm",
}
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"
#: What a checkpoint may hold beside the encoder: the head of its pretraining, and fairseq's version marks.
UNUSED = re.compile(r"(.*\.)?(lm_head\..+|version|_float_tensor|classification_heads\..+)")
#: Width of one attention head in every released RoBERTa, where a checkpoint does not tell their number.
HEAD_WIDTH = 64
#: Published name of the fusion model -> ours.
FUSION = {
    "b3.layer_bert": "context.project",
    "b3.bert_atten.ws1": "context.first",
    "b3.bert_atten.ws2": "context.second",
    "layer_cat": "fuse",
    "layer_out": "answer",
}
ENCODERS = {"b1": "text", "b2": "audio"}


def encoder_weights(state: Mapping[str, Tensor], where: str = "RoBERTa checkpoint") -> dict[str, Tensor]:
    """Weights under Hugging Face's names. The embedding of token types, which fairseq lacks, is zero.

    InputError names every tensor without a place; heads of pretraining are left out.

    Matrices [outputs, inputs].
    """
    weights: dict[str, Tensor] = {}
    problems = []
    for name, value in state.items():
        if UNUSED.fullmatch(name):
            continue
        _, middle, inner = name.partition(MIDDLE)
        fused = re.fullmatch(r"layers\.(\d+)\.self_attn\.in_proj_(weight|bias)", inner)
        layer = re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", inner)
        top, _, kind = inner.rpartition(".")
        if fused and len(value) % 3 == 0:
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                weights[f"encoder.layer.{fused[1]}.attention.self.{part}.{fused[2]}"] = rows
        elif layer and layer[2] in LAYER:
            weights[f"encoder.layer.{layer[1]}.{LAYER[layer[2]]}.{layer[3]}"] = value
        elif middle and top in TOP:
            weights[f"{TOP[top]}.{kind}"] = value
        else:
            problems.append(f"'{name}' {list(value.shape)} has no place")
    if "embeddings.word_embeddings.weight" not in weights:
        problems.insert(0, f"no tensor '...{MIDDLE}embed_tokens.weight'")
    if problems:
        raise InputError(where, problems, "Is it the checkpoint of a fairseq RoBERTa?")
    width = weights["embeddings.word_embeddings.weight"].shape[1]
    weights[TOKEN_TYPES] = torch.zeros(1, width, device=weights["embeddings.word_embeddings.weight"].device)
    return weights


def encoder_configuration(
    weights: Mapping[str, Tensor], options: Mapping[str, Any] | None = None, where: str = "RoBERTa checkpoint"
) -> dict[str, Any]:
    """Hugging Face's configuration that fits weights of `encoder_weights`.

    Sizes are read from the tensors; heads and activation, which tensors do not tell, from the checkpoint's own
    `options`, else those of the released models (heads of 64, GELU). InputError where the two contradict.

    weights: matrices [outputs, inputs], tables [entries, width].
    """
    options = options or {}
    vocabulary, width = weights["embeddings.word_embeddings.weight"].shape
    layers = {int(match[1]) for name in weights if (match := re.match(r"encoder\.layer\.(\d+)\.", name))}
    inner = weights.get("encoder.layer.0.intermediate.dense.weight")
    positions = weights.get("embeddings.position_embeddings.weight")
    heads = options.get("encoder_attention_heads") or width / HEAD_WIDTH
    problems = []
    if inner is None or positions is None or layers != set(range(len(layers))):
        problems.append("it lacks whole layers or its positions")
    if width % heads or heads != int(heads):
        problems.append(f"the number of attention heads is not known: a width of {width} is no multiple of {heads}")
    sizes = {
        "encoder_embed_dim": width,
        "encoder_layers": len(layers),
        "encoder_ffn_embed_dim": None if inner is None else len(inner),
    }
    problems += [
        f"its options say {name} {options[name]}, its tensors {size}"
        for name, size in sizes.items()
        if size is not None and options.get(name) not in (None, size)
    ]
    if options.get("activation_fn", "gelu") != "gelu":
        problems.append(f"activation {options['activation_fn']!r} is not supported, only gelu")
    if problems or inner is None or positions is None:
        raise InputError(where, problems)
    return {
        "model_type": "roberta", "vocab_size": vocabulary, "hidden_size": width, "num_hidden_layers": len(layers),
        "num_attention_heads": int(heads), "intermediate_size": len(inner), "max_position_embeddings": len(positions),
        "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }  # fmt: skip


def fusion_weights(state: Mapping[str, Tensor], where: str = "published TAB fusion") -> dict[str, Tensor]:
    """Weights of the published fusion model (b1 text, b2 speech, b3 context, layer_cat, layer_out) under our names.

    Matrices [outputs, inputs]; InputError lists what has no place.
    """
    weights: dict[str, Tensor] = {}
    problems = []
    for short, role in ENCODERS.items():
        own = {name: value for name, value in state.items() if name.startswith(f"{short}.")}
        if own:
            renamed = encoder_weights(own, where)
            weights |= {f"branches.{role}.encoder.network.{name}": value for name, value in renamed.items()}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        if module in FUSION:
            weights[f"{FUSION[module]}.{kind}"] = value
        elif name.split(".", 1)[0] not in ENCODERS:
            problems.append(f"'{name}' {list(value.shape)} has no place")
    if problems:
        raise InputError(where, problems)
    return weights


def load_fusion(module: nn.Module, state: Mapping[str, Tensor], without: Sequence[str] = ()) -> None:
    """Load the published fusion model's weights into a system of the same shape, built `without` some branches.

    Our own additions (vectors for what is absent, for places and for voices) keep what they are.

    `state` has the shapes [...] of the system's; InputError lists what has not.
    """
    own = module.state_dict()
    absent = tuple(f"branches.{role}." for role in without) + tuple(f"{role}." for role in without)
    given = {name: value for name, value in fusion_weights(state).items() if not name.startswith(absent)}
    problems = [f"'{name}' has no place" for name in given if name not in own]
    problems += [
        f"'{name}' is {list(value.shape)}, here {list(own[name].shape)}"
        for name, value in given.items()
        if name in own and own[name].shape != value.shape
    ]
    ours = ("absences.", "class_weights", "context.place", "context.voice")
    problems += [f"'{name}' is not given" for name in own if name not in given and not name.startswith(ours)]
    if problems:
        raise InputError(
            "published TAB fusion", problems, "Give the streams, encoders and sizes that it was trained with."
        )
    module.load_state_dict({**own, **given})
