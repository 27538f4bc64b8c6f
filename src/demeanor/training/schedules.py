"""How the learning rate moves while training goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from demeanor.training.settings import TrainingSettings


def schedule(training: TrainingSettings, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at each optimiser step."""
    warm = int(training.warmup * steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if training.schedule == "constant":
            return 1.0
        done = min((step - warm) / max(steps - warm, 1), 1.0)
        return 1.0 - done if training.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))

    return factor


def plateaus(losses: Sequence[float], patience: int) -> int:
    """How often more than `patience` epochs in a row brought no lower loss: the rule of torch's ReduceLROnPlateau.

    Counted from the history, so that a resumed training needs no further state.
    """
    best, waited, count = math.inf, 0, 0
    for loss in losses:
        if loss < best * (1 - 1e-4):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            count, waited = count + 1, 0
    return count
