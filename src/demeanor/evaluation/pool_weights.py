"""Weights of an opinion pool (demeanor.models.log_pool), learnt on validation by the log loss.

Weights of a logarithmic pool that minimise the log loss: Heskes 1998, "Selecting weighting factors in logarithmic
opinion pools". The loss is convex in the weights; none is negative, and their sum is free.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from demeanor.data.calibration import probabilities
from demeanor.data.errors import InputError
from demeanor.data.task import Task

LARGEST = 10.0
"""No expert's word counts more than this often."""


def learn_weights(
    task: Task, evidence: Float[np.ndarray, "rows members outputs"], base: ArrayLike, target: ArrayLike, split: str
) -> tuple[NDArray[Any], float]:
    """Weights [members] from 0 to LARGEST, and the mean log loss (nats) that they have on these rows.

    evidence  log probabilities of classes, or log odds of labels, of every member, each of which speaks on every row
    base      [outputs] what is added to the weighted sum: a log prior, or zero
    target    as Task.targets, of labelled rows
    InputError for another split than "valid", and for a number, whose weights are its intervals'.
    """
    problems = [f"they were to be learnt on the split '{split}'"] if split != "valid" else []
    if task.kind == "regression":
        problems.append(f"task '{task.name}' predicts a number, whose experts weigh by their intervals")
    if problems:
        raise InputError("weights of a pool", problems)
    from scipy.optimize import minimize

    truth, first, said = np.asarray(target), np.asarray(base, dtype=np.float64), evidence.astype(np.float64)
    labels = task.kind == "multilabel"
    wanted = np.nan_to_num(truth) if labels else np.eye(task.outputs)[truth]
    known = ~np.isnan(truth) if labels else np.ones(wanted.shape, dtype=bool)
    count = max(int(known.sum()) if labels else len(truth), 1)

    def loss(weights: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        logits = first + np.einsum("m,nmc->nc", weights, said)
        if labels:
            # -log sigmoid(z) of a label that is there, -log sigmoid(-z) of one that is not
            total = np.logaddexp(0.0, np.where(wanted > 0, -logits, logits))[known].sum()
        else:
            total = (np.logaddexp.reduce(logits, axis=1) - (logits * wanted).sum(axis=1)).sum()
        wrong = np.where(known, probabilities(task, logits) - wanted, 0.0)
        return float(total / count), np.einsum("nc,nmc->m", wrong, said) / count

    start = np.full(said.shape[1], 1.0 / said.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, LARGEST)] * len(start))
    return np.asarray(found.x), float(found.fun)
