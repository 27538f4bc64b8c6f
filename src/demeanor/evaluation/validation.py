"""The score of an epoch, by which a training chooses its best."""

from __future__ import annotations

import numpy as np

from demeanor.data.task import Task
from demeanor.evaluation.metrics import score


def validation_score(task: Task, prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Metrics of an epoch; undefined ones stay NaN without a warning each time (the test's receipt will warn).

    prediction [utterances, outputs], target [utterances] (several labels: [utterances, classes]).
    """
    return score(task, prediction, target, warn=False)
