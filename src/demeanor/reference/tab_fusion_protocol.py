"""What TAB fusion's published scripts compute where Demeanor computes otherwise, to the letter.

docs/systems/tab_fusion.md#context-window, #losses, #protocol. For numbers that are to be compared with theirs and for
nothing else: their windows cross from one dialogue into the next, their "past" holds the next turn, their accuracies
are means over batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int


def session_slots(turns: int, turn: int, size: int, version: Literal["head", "v1"]) -> Int[np.ndarray, " slots"]:
    """Kept turns of a *session* that fill the 2 * size + 1 slots around kept turn number `turn`; -1 where none does.

    head  the turns that there are come first and the gaps last, so the target need not be in the middle
    v1    centred, but the first turn of a session is never used, not even as its own target
    """
    slot_turns = np.arange(turn - size, turn + size + 1)
    if version == "v1":
        return np.where((slot_turns > 0) & (slot_turns < turns), slot_turns, -1)
    there = slot_turns[(slot_turns >= 0) & (slot_turns < turns)]
    return np.concatenate([there, np.full(len(slot_turns) - len(there), -1)])


def past_slots(turns: int, turn: int) -> Int[np.ndarray, " 3"]:
    """The "past" of two turns: slots 1 to 3 of `head`'s five, that is, usually, the turns before, of and after."""
    return session_slots(turns, turn, 2, "head")[1:4]


def newbob(metrics: Sequence[float], learning_rate: float, gain: float = 0.001, patience: int = 20) -> list[float]:
    """The learning rate after each epoch's validation metric: halved where it gains less than `gain` over the best.

    From epoch `patience` on such a halving is followed by one in every later epoch. Weights are not restored, although
    the published code means to.
    """
    rates, best, ramp = [], 0.0, False
    for epoch, metric in enumerate(metrics, 1):
        change = metric - best
        if change > 0 or epoch == 1:
            best = metric
        if ramp or change < gain:
            learning_rate /= 2
            ramp = ramp or epoch >= patience
        rates.append(learning_rate)
    return rates


def batch_averaged(
    predicted: Int[np.ndarray, " utterances"], target: Int[np.ndarray, " utterances"], size: int = 16
) -> tuple[float, float]:
    """(UA, WA) as means over batches, each of equal weight however short; UA over the classes of a batch's labels or
    predictions. `demeanor.evaluation.metrics` has the right ones (UAR, accuracy)."""
    unweighted, weighted = [], []
    for start in range(0, len(target), size):
        guess, truth = predicted[start : start + size], target[start : start + size]
        classes = np.union1d(guess, truth)
        recalls = [
            float((guess[truth == one] == one).mean()) if (truth == one).any() else 0.0 for one in classes.tolist()
        ]
        unweighted.append(float(np.mean(recalls)))
        weighted.append(float((guess == truth).mean()))
    return float(np.mean(unweighted)), float(np.mean(weighted))


def binary_loss(logits: Float[np.ndarray, "utterances outputs"], target: Int[np.ndarray, " utterances"]) -> float:
    """Sum over utterances and classes of the log-loss of (absent, present) pairs (https://arxiv.org/abs/2008.06682)."""
    pairs = logits.reshape(len(logits), -1, 2).astype(np.float64)
    log_probability = pairs - np.logaddexp(pairs[..., 0], pairs[..., 1])[..., None]
    present = np.eye(pairs.shape[1], dtype=np.int64)[target]
    return float(-np.take_along_axis(log_probability, present[..., None], axis=2).sum())
