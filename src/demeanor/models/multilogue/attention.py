"""Pairwise attention between the modalities of a dialogue, without parameters.

Multilogue-Net (https://arxiv.org/abs/2002.08267), docs/systems/multilogue_net.md#pairwise-attention. For the states X,
Y of two modalities over one dialogue, with scores S = X Y':

    A(X, Y) = [ (softmax over Y's turns of S) Y * X ; (softmax over X's turns of S') X * Y ]

Scores are not scaled.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from demeanor.models.multilogue.layout import DialogueLayout

PAIRS = (("text", "audio"), ("vision", "audio"), ("text", "vision"))
"""In the order in which the published head reads them."""


def pairs_of(modalities: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Positions of the pairs that some modalities make."""
    return tuple(
        (modalities.index(one), modalities.index(other))
        for one, other in PAIRS
        if one in modalities and other in modalities
    )


def sides_of(values: Tensor, pairs: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """[modalities, ...] -> the first and the second of each pair, [pairs, ...]."""
    return torch.stack([values[first] for first, _ in pairs]), torch.stack([values[second] for _, second in pairs])


def attend(
    queries: Float[Tensor, "pairs dialogues turns size"],
    keys: Float[Tensor, "pairs dialogues turns size"],
    allowed: Bool[Tensor, "pairs dialogues #turns turns"] | None,
    scores: Float[Tensor, "pairs dialogues turns turns"],
) -> Tensor:
    """(softmax(scores) keys) * queries; a query without any allowed key gets zeros.

    Gives [pairs, dialogues, turns, size].
    """
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1) * allowed
    else:
        weights = torch.softmax(scores, dim=-1)
    return (weights @ keys) * queries


def pairwise(
    first: Float[Tensor, "pairs dialogues turns size"],
    second: Float[Tensor, "pairs dialogues turns size"],
    first_real: Bool[Tensor, "pairs dialogues turns"] | None = None,
    second_real: Bool[Tensor, "pairs dialogues turns"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "pairs dialogues turns twice"]:
    """A(first, second). Turns that are not real are no keys; causal: nor are turns after the query's."""
    scores = first @ second.transpose(-1, -2)
    to_first = to_second = None
    if first_real is not None and second_real is not None:
        to_first, to_second = first_real[..., None, :], second_real[..., None, :]
        if causal:
            turns = first.shape[-2]
            past = torch.ones((turns, turns), dtype=torch.bool, device=first.device).tril()
            to_first, to_second = to_first & past, to_second & past
    forth = attend(first, second, to_second, scores)
    back = attend(second, first, to_first, scores.transpose(-1, -2))
    return torch.cat([forth, back], dim=-1)


def pairwise_of_dialogues(
    states: Float[Tensor, "modalities utterances size"],
    present: Bool[Tensor, "modalities utterances"],
    pairs: tuple[tuple[int, int], ...],
    layout: DialogueLayout,
    causal: bool = False,
) -> Float[Tensor, "pairs utterances twice"]:
    """A of each pair for utterance rows, every dialogue by itself; dialogues of similar length share a product."""
    size = states.shape[-1]
    found, order = [], []
    for chosen, cells, mask in layout.buckets:
        dialogues, turns = mask.shape
        grid = states.new_zeros((len(states), dialogues * turns, size))
        grid = grid.index_copy(1, cells, states.index_select(1, chosen)).unflatten(1, (dialogues, turns))
        real = torch.zeros((len(states), dialogues * turns), dtype=torch.bool, device=states.device)
        real = real.index_copy(1, cells, present.index_select(1, chosen)).unflatten(1, (dialogues, turns))
        both = pairwise(*sides_of(grid, pairs), *sides_of(real, pairs), causal)
        found.append(both.flatten(1, 2).index_select(1, cells))
        order.append(chosen)
    return torch.cat(found, dim=1).index_select(1, torch.argsort(torch.cat(order)))
