"""What happens inside Whisper's encoder (Radford et al., 2022), layer by layer, for sounds of any length.

The encoder itself refuses any other length than thirty seconds, its layers do not. Layers after the last one that is
asked for are not computed. Nothing is kept in the model while it runs, so that threads may share it.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Hidden = Float[Tensor, "batch time dimension"]


def entering(encoder: Any, inputs: Float[Tensor, "batch bands frames"]) -> Hidden:
    """What enters the first layer."""
    hidden = functional.gelu(encoder.conv1(inputs))
    hidden = functional.gelu(encoder.conv2(hidden)).permute(0, 2, 1)
    return hidden + encoder.embed_positions.weight[: hidden.shape[1]]


def states(encoder: Any, hidden: Hidden, deepest: int) -> list[Hidden]:
    """What enters each layer, and what leaves the last, after the final norm: as many as there are layers and one.

    deepest  the last one that is asked for, counted from 0; those after it are copies that nobody reads
    """
    found = [hidden]
    count = len(encoder.layers)
    for layer in encoder.layers[:deepest]:
        hidden = layer(hidden, attention_mask=None)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        found.append(hidden)
    if deepest < count:
        return found + [hidden] * (count - deepest)
    return [*found[:-1], encoder.layer_norm(found[-1])]


def attended(encoder: Any, hidden: Hidden, deepest: int) -> list[Hidden]:
    """What the heads of each layer gather, side by side, before its output projection; counted from 1 (what stands at
    0 is what enters the first layer).

    Heads gather from where they look, so that these are sums over some places of the sound, where a state is all that
    was known of one place.
    """
    found = [hidden]
    for number, layer in enumerate(encoder.layers[:deepest], 1):
        gathered = _gathered(layer.self_attn, layer.self_attn_layer_norm(hidden))
        found.append(gathered)
        if number < deepest:
            hidden = hidden + layer.self_attn.out_proj(gathered)
            hidden = hidden + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(hidden))))
    return found + [hidden] * (len(encoder.layers) - deepest)


def _gathered(attention: Any, given: Hidden) -> Hidden:
    batch, time, width = given.shape
    heads = (batch, time, attention.num_heads, width // attention.num_heads)
    query, key, value = (
        project(given).view(heads).transpose(1, 2) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, time, width)
