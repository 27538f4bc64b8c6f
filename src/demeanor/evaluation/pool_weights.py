"""Weights of an opinion pool (demeanor.models.log_pool), learnt on validation by the log loss.

Weights of a logarithmic pool that minimise the log loss: Heskes 1998, "Selecting weighting factors in logarithmic
opinion pools". The loss is convex in the weights; none is negative, and their sum is free. A normal prior of deviation
one around what they would be unlearnt holds a weight where it is when hardly anything depends on it: an expert whose
calibration has made it say next to nothing is not turned up tenfold for a few utterances that it got right by chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from demeanor.data.calibration import probabilities
from demeanor.data.errors import InputError
from demeanor.data.task import Task


def learn_weights(
    task: Task, evidence: Float[np.ndarray, "seeds rows members outputs"], base: ArrayLike, target: ArrayLike,
    unlearnt: float, split: str,
) -> tuple[NDArray[Any], float]:  # fmt: skip
    """Weights [members], none below zero, and the mean log loss (nats) that they have on these rows.

    evidence  log probabilities of classes, or log odds of labels, of every member, each of which speaks on every row;
              the seeds of a row are joined and count as the one row that they are
    base      [outputs] what is added to the weighted sum: a log prior, or zero
    target    as Task.targets, of labelled rows: [rows] or [rows, outputs]
    unlearnt  what each weight would be without these rows
    InputError for another split than "valid", and for a number, whose weights are its intervals'.
    """
    problems = [f"they were to be learnt on the split '{split}'"] if split != "valid" else []
    if task.kind == "regression":
        problems.append(f"task '{task.name}' predicts a number, whose experts weigh by their intervals")
    if problems:
        raise InputError("weights of a pool", problems)
    from scipy.optimize import minimize

    truth, first, said = np.asarray(target), np.asarray(base, dtype=np.float64), evidence.astype(np.float64)
    labels, (seeds, rows, members, _) = task.kind == "multilabel", said.shape
    wanted = np.nan_to_num(truth) if labels else np.eye(task.outputs)[truth]
    known = ~np.isnan(truth) if labels else np.ones(wanted.shape, dtype=bool)
    count = seeds * max(int(known.sum()) if labels else rows, 1)

    def log_loss(weights: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        logits = first + np.einsum("m,snmc->snc", weights, said)
        if labels:
            # -log sigmoid(z) of a label that is there, -log sigmoid(-z) of one that is not
            total = np.where(known, np.logaddexp(0.0, np.where(wanted > 0, -logits, logits)), 0.0).sum()
        else:
            total = (np.logaddexp.reduce(logits, axis=-1) - (logits * wanted).sum(axis=-1)).sum()
        wrong = np.where(known, probabilities(task, logits) - wanted, 0.0)
        return float(total / count), np.einsum("snc,snmc->m", wrong, said) / count

    def held(weights: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        loss, slope = log_loss(weights)
        away = (weights - unlearnt) / rows
        return loss + float(0.5 * away @ (weights - unlearnt)), slope + away

    start = np.full(members, unlearnt)
    found = minimize(held, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * members)
    return np.asarray(found.x), log_loss(found.x)[0]
