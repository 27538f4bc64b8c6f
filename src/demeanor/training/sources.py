"""Which corpora a branch learns from, and how often it meets a row of each: what its settings say of a union.

Validation rows are those of the same corpora, so that epochs, calibration and champions never look at another one's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.errors import InputError, nearest
from demeanor.data.examples import Examples
from demeanor.data.task import Task
from demeanor.training.settings import BranchSettings


def of_corpora(examples: Examples, settings: BranchSettings, tasks: Sequence[Task]) -> Examples:
    """The utterances of the corpora that a branch learns from; of a corpus that stands alone, all.

    Named corpora that are not there have been left out of the union (`left_out`). Where none is named, those with a row
    that has a label of one of `tasks`, the branch's own first, and a step of one of its streams. InputError where none
    of the named is there, or no row has both.
    """
    corpora = examples.utterances["corpus"]
    there = list(dict.fromkeys(corpora))
    if not settings.corpora and len(there) < 2:
        return examples
    usable = _labelled(examples.utterances, tasks) & _fed(examples, settings)
    chosen = [name for name in settings.corpora if name in there] or list(dict.fromkeys(corpora[usable]))
    problems = []
    if settings.corpora and not set(settings.corpora) & set(there):
        problems.append(f"none of {', '.join(settings.corpora)} is there.{nearest(settings.corpora[0], there)}")
    elif not (usable & corpora.isin(chosen).to_numpy()).any():
        streams, named = ", ".join(settings.streams.values()), ", ".join(settings.corpora or there)
        problems.append(f"no utterance of {named} has a label of {tasks[0].name} and a step of {streams}")
    if problems:
        advice = "Put one of them there, or leave the branch out: branches.NAME.enabled=false."
        raise InputError("corpora of the branch", problems, advice)
    if set(chosen) == set(there):
        return examples
    return Examples.of(examples.utterances[corpora.isin(chosen)], examples.streams)


def left_out(examples: Examples, settings: BranchSettings) -> tuple[str, ...]:
    """Corpora that the branch names and that are not there."""
    there = set(examples.utterances["corpus"])
    return tuple(name for name in settings.corpora if name not in there)


def draws_of(settings: BranchSettings, train: pd.DataFrame) -> dict[str, float] | None:
    """Corpus -> how often an epoch meets each of its rows; None where it meets every row once.

    train  rows that are learnt from
    InputError for a corpus among them that `sampling` gives no weight.
    """
    asked, counts = settings.sampling, train["corpus"].value_counts()
    if asked == "proportional" or len(counts) == 0:
        return None
    if asked == "equal":
        return {str(name): len(train) / len(counts) / int(count) for name, count in counts.items()}
    without = [str(name) for name in counts.index if name not in asked]
    if without:
        known = ", ".join(asked)
        raise InputError("sampling of the branch", [f"{name} is given no weight" for name in without],
                         f"Weights are given to {known}: name every corpus that it learns from.")  # fmt: skip
    return {str(name): float(asked[str(name)]) for name in counts.index}


def told(
    settings: BranchSettings, development: Examples, parts: Mapping[str, Examples], also: Mapping[str, Task]
) -> dict[str, Any]:
    """What a card's protocol says of it: per corpus its rows in each of `parts` and how often an epoch meets one of
    train; what was left out; further tasks, with their weights and rows. Nothing for a corpus that stands alone."""
    table = parts["train"].utterances
    further = {
        name: {"weight": settings.also[name], "train": int(task.labelled(table).sum())} for name, task in also.items()
    }
    learnt = {"also": further} if further else {}
    names = sorted({str(name) for part in parts.values() for name in part.utterances["corpus"]})
    absent = left_out(development, settings)
    if development.utterances["corpus"].nunique() < 2 and not absent:
        return learnt
    draws = draws_of(settings, parts["train"].utterances) or {}
    rows = {
        name: {part: int((examples.utterances["corpus"] == name).sum()) for part, examples in parts.items()}
        | {"draws": round(draws.get(name, 1.0), 4)}
        for name in names
    }
    return {**learnt, "corpora": rows, **({"left_out": list(absent)} if absent else {})}


def _labelled(table: pd.DataFrame, tasks: Sequence[Task]) -> np.ndarray:
    found = np.zeros(len(table), dtype=bool)
    for task in tasks:
        found |= task.labelled(table)
    return found


def _fed(examples: Examples, settings: BranchSettings) -> np.ndarray:
    """[N] rows in which a stream of the branch has a step."""
    found = np.zeros(len(examples), dtype=bool)
    for name in settings.streams.values():
        if name in examples.streams:
            found |= examples.stream(name).ragged.lengths > 0
    return found
