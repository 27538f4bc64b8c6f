"""How much each modality has to do with an answer: exact Shapley values over sets of modalities, and conflict.

Shapley, "A value for n-person games", 1953. With k modalities a model is asked 2^k times; a modality's contribution is
what it adds on average over all orders in which modalities could have come in. The contributions of an answer sum to
the answer minus the baseline, which is what the model says when nothing was recorded; a modality that changes nothing
has 0, and two that do the same have the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from demeanor.data.calibration import Calibration, calibrated_probabilities, probabilities, subset_name
from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.conformal import presence_names

Array = NDArray[Any]
MOST = 5
"""Modalities: 2^5 sets of them."""
SURE = 0.5
"""Probability that a modality alone must give its class before another class contradicts it."""
SHARE = 0.8
"""Of labels that the intervals hold by which numbers are said to contradict each other."""


def every_subset(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """All sets of modalities, by size, the empty one first and all of them last. InputError for more than `MOST`."""
    names = sorted(set(modalities))
    if len(names) > MOST:
        raise InputError("attribution", [f"{len(names)} modalities make {2 ** len(names)} sets; {MOST} are the most"])
    return [chosen for size in range(len(names) + 1) for chosen in combinations(names, size)]


def shapley(values: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Modality -> contribution [N], from the value [N] of every set of modalities (subset_name, "" for none).

    In the units of the values; over modalities they sum to the value of all minus that of none. InputError where a
    set is missing.
    """
    names = sorted({part for name in values for part in name.split("+") if part})
    wanted = every_subset(names)
    missing = [f"no value for '{subset_name(chosen)}'" for chosen in wanted if subset_name(chosen) not in values]
    if missing:
        raise InputError("attribution", missing)
    known = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
    count = len(names)
    made: dict[str, Array] = {}
    for name in names:
        total = np.zeros_like(known[""])
        for others in (chosen for chosen in wanted if name not in chosen):
            weight = factorial(len(others)) * factorial(count - len(others) - 1) / factorial(count)
            total = total + weight * (known[subset_name((*others, name))] - known[subset_name(others)])
        made[name] = total
    return made


def value_of_answers(
    task: Task, outputs: Mapping[str, ArrayLike], present: Mapping[str, ArrayLike], calibration: Calibration | None
) -> dict[str, Array]:
    """Set of modalities -> [N] what it says of the answer that all of them give, from head outputs [N, outputs].

    present  modality -> [N] booleans

    A number: itself. One of several classes: the probability of the answered class, calibrated for what of the set the
    clip has.
    Any of several: the summed probability of the answered classes; where none is answered, minus the sum of all.
    """
    whole = subset_name(part for name in outputs for part in name.split("+") if part)
    answered = np.asarray(outputs[whole], dtype=np.float64)
    made = {}
    for name, raw in outputs.items():
        chosen_parts = set(name.split("+"))
        left = {part: np.asarray(here, dtype=bool) & (part in chosen_parts) for part, here in present.items()}
        made[name] = value_of(task, raw, answered, presence_names(left), calibration)
    return made


def value_of(
    task: Task, outputs: ArrayLike, answered: ArrayLike, names: Array, calibration: Calibration | None
) -> Array:
    """[N] what head outputs [N, outputs] say of the answers that the head outputs `answered` [N, outputs] give, in the
    sense of `value_of_answers`; names [N] of the modalities that they were made of (subset_name)."""
    values, given = np.asarray(outputs, dtype=np.float64), np.asarray(answered, dtype=np.float64)
    if task.kind == "regression":
        return values[:, 0]
    chances = calibrated_probabilities(task, values, calibration, names)
    if task.kind == "classification":
        return chances[np.arange(len(chances)), given.argmax(axis=1)] if len(chances) else np.empty(0)
    chosen = given > 0
    return np.where(chosen.any(axis=1), (chances * chosen).sum(axis=1), -chances.sum(axis=1))


def disagreement(
    task: Task, alone: Mapping[str, ArrayLike], present: Mapping[str, ArrayLike], calibration: Calibration
) -> Array:
    """[N] how strongly single modalities contradict each other; above 1 it is a conflict. 0 with fewer than two.

    alone    modality -> head outputs [N, outputs] with all others left out
    present  modality -> [N] booleans

    Numbers: the largest distance of two answers on different sides of the scale's middle, in units of what their 80 %
    intervals reach towards each other: above 1 the intervals do not meet. Classes: twice the
    probability of the less sure of two modalities that name different classes: above 1 both are surer than not. Any of
    several: the same of every label on which two modalities decide differently, where surer is above 0.75.
    """
    names = sorted(alone)
    count = len(np.asarray(alone[names[0]]))
    strongest = np.zeros(count)
    for one, other in combinations(names, 2):
        both = np.asarray(present[one], dtype=bool) & np.asarray(present[other], dtype=bool)
        strength = _between(task, (one, other), [np.asarray(alone[name], float) for name in (one, other)], calibration)
        strongest = np.where(both, np.maximum(strongest, strength), strongest)
    return strongest


def _between(task: Task, pair: tuple[str, str], answers: list[Array], calibration: Calibration) -> Array:
    fits = [calibration.of((name,)) for name in pair]
    if task.kind == "regression":
        middle = (task.low + task.high) / 2
        first, second = (values[:, 0] for values in answers)
        widths = [float(np.quantile(np.abs(fit.residuals), SHARE)) if fit.residuals else np.inf for fit in fits]
        apart = (first - middle) * (second - middle) < 0
        return np.where(apart, np.abs(first - second) / max(sum(widths), 1e-12), 0.0)
    chances = [probabilities(task, values, fit.temperature) for values, fit in zip(answers, fits, strict=True)]
    if task.kind == "classification":
        differ = chances[0].argmax(axis=1) != chances[1].argmax(axis=1)
        return np.where(differ, np.minimum(chances[0].max(axis=1), chances[1].max(axis=1)) / SURE, 0.0)
    sides = (chances[0] > SURE) != (chances[1] > SURE)
    sure = np.minimum(*(np.maximum(chance, 1.0 - chance) for chance in chances))
    return np.where(sides, 2.0 * (2.0 * sure - 1.0), 0.0).max(axis=1)
