"""Dropout and attention of Hugging Face encoders that are trained along on a CPU, where dropout costs most.

Drawing the mask of a layer's output takes longer than the layer's products in bfloat16. And with dropout, torch's
scaled dot product attention has a single implementation on a CPU: it draws a number for every pair of tokens and takes
the products in single precision whatever autocast says. Here they are taken as autocast has it, and one draw serves
four entries (`kept_entries`). Without dropout, on any other device, and where there is little to draw, all is torch's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from demeanor.models.blocks.layers import LARGE, QuickDropout, dropped

#: What transformers knows it by.
NAME = "demeanor_quick"


def quicken(network: nn.Module) -> None:
    """Give an encoder of transformers quick dropout, and quick attention if it attends by torch's function."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, QuickDropout(child.p).train(child.training))
    if getattr(network.config, "_attn_implementation", None) != "sdpa":
        return
    AttentionInterface.register(NAME, quick_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    network.set_attn_implementation(NAME)  # type: ignore[operator]


def quick_attention(
    module: nn.Module,
    query: Float[Tensor, "batch heads steps width"],
    key: Float[Tensor, "batch groups time width"],
    value: Float[Tensor, "batch groups time width"],
    attention_mask: Bool[Tensor, "#batch #heads #steps time"] | Float[Tensor, "#batch #heads #steps time"] | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "batch steps heads width"], None]:
    """As transformers calls it: softmax(query key^T scaling, masked) value, with dropout of the weights.

    attention_mask  True where a step looks, or what is added to the products
    """
    pairs = math.prod(query.shape[:3]) * key.shape[2]
    plain = query.shape[1] == key.shape[1] and not getattr(module, "is_causal", False) and not any(
        isinstance(other, Tensor) for other in others.values()
    )  # fmt: skip
    if not plain or dropout in (0.0, 1.0) or query.device.type != "cpu" or pairs < LARGE:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    products = torch.matmul(query * (query.shape[-1] ** -0.5 if scaling is None else scaling), key.transpose(2, 3))
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        products = products.masked_fill(~attention_mask, torch.finfo(products.dtype).min)
    elif attention_mask is not None:
        products = products + attention_mask
    with torch.autocast("cpu", enabled=False):  # else the weights, the largest of all values here, would be widened
        weights = dropped(products.softmax(dim=-1), dropout)
        return torch.matmul(weights, value.to(weights.dtype)).transpose(1, 2).contiguous(), None
