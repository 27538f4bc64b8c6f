"""The published losses of TAB fusion (docs/systems/tab_fusion.md#losses)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from demeanor.data.task import IGNORED


def penalty(weights: Float[Tensor, "batch heads slots"], present: Bool[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Mean over rows that have a context of ||A A^T - I||_F, which asks each head to look somewhere else."""
    gram = weights.float() @ weights.float().transpose(1, 2)
    distance = (gram - torch.eye(gram.shape[1], device=gram.device)).square().sum(dim=(1, 2))
    lengths = (distance + 1e-10).sqrt()
    return (lengths * present).sum() / present.sum().clamp(min=1)


def margin_loss(
    prediction: Float[Tensor, "batch classes"], target: Tensor, margin: float, weights: Float[Tensor, " classes"]
) -> Float[Tensor, ""]:
    """Mean over labelled rows of (1/C) sum over j != y of w_y max(0, margin - x_y + x_j).

    target [batch] of class indices, -1 where unknown.
    """
    known = target != IGNORED
    if not bool(known.any()):
        return prediction.sum() * 0.0
    return functional.multi_margin_loss(
        prediction[known].float(), target[known], p=1, margin=margin, weight=weights.float()
    )
