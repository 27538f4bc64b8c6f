"""A sealed test of several corpora, each scored apart: which rows are whose, and whom a branch can be asked about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from demeanor.data.bundle import BundleCard
from demeanor.data.examples import Examples
from demeanor.evaluation.receipts import Receipt


@dataclass(frozen=True)
class Part:
    """The test of one corpus.

    rows       [N] booleans: which of the sealed test are its own
    data_hash  of these alone
    """

    corpus: str
    rows: np.ndarray
    data_hash: str


def parts_of(sealed_test: Examples) -> list[Part]:
    """One part per corpus; none where there is but one, whose test is the whole."""
    corpora = sealed_test.utterances["corpus"]
    names = list(dict.fromkeys(corpora))
    if len(names) < 2:
        return []
    masks = {str(name): (corpora == name).to_numpy() for name in names}
    return [
        Part(name, rows, Examples.of(sealed_test.utterances[rows], sealed_test.streams).data_hash)
        for name, rows in masks.items()
    ]


def concerned(part: Part, card: BundleCard, sealed_test: Examples) -> bool:
    """Has a part labels of the model's task, and with one of them a step of what the model reads?"""
    fed = np.zeros(len(sealed_test), dtype=bool)
    for stream in card.raw_inputs:
        if stream in sealed_test.streams:
            fed |= sealed_test.stream(stream).ragged.lengths > 0
    return bool((part.rows & card.task.labelled(sealed_test.utterances) & fed).any())


def scored_apart(receipts: list[Receipt], task: str) -> dict[str, list[Receipt]]:
    """Corpus -> the receipts of a task on its test."""
    mine = [receipt for receipt in receipts if receipt.task == task]
    return {
        corpus: [receipt for receipt in mine if receipt.corpus == corpus]
        for corpus in dict.fromkeys(receipt.corpus for receipt in mine)
    }


def of_receipts(predictions: pd.DataFrame, receipts: list[Receipt]) -> pd.DataFrame:
    """The predictions that receipts of one corpus are of: all, where the test is of one corpus."""
    if not receipts[0].learnt_from:
        return predictions
    branches = {receipt.branch for receipt in receipts}
    return predictions[(predictions["corpus"] == receipts[0].corpus) & predictions["branch"].isin(branches)]


def sampling_of(card: BundleCard) -> dict[str, float]:
    """Corpus -> how often an epoch of a model's training met each of its rows."""
    return {name: float(one["draws"]) for name, one in card.protocol.get("corpora", {}).items()}


def corpus_names(examples: Examples) -> str:
    """The corpora that examples come from, by name."""
    return ", ".join(sorted(set(examples.utterances["corpus"])))


def learnt_from(receipts: list[Receipt]) -> list[str]:
    """Lines for a table of systems that have not all learnt from the same corpora."""
    said = {}
    for one in (receipt for receipt in receipts if receipt.learnt_from):
        corpora = one.learnt_from.split(", ")
        weighed = any(times != 1 for times in one.sampling.values())
        named = [f"{name} ({one.sampling[name]:g} times an epoch)" if weighed and name in one.sampling else name
                 for name in corpora]  # fmt: skip
        foreign = "" if one.corpus in corpora else ", not from this corpus"
        said[one.branch] = f"{one.branch} learnt from {', '.join(named)}{foreign}."
    return ["", " ".join(said.values())] if said else []
