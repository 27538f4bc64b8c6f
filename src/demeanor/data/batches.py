"""Batches gathered from the ragged store: length buckets, whole dialogues, modality dropout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.examples import Examples
from demeanor.data.normaliser import Normaliser
from demeanor.data.task import Task

BUCKET = 50
"""Shuffled rows are sorted by length within windows of this many batches, which keeps padding and order bias low."""


class Batches:
    """Makes batches of `examples` for one system. Indexing with row positions gives the Batch of those rows."""

    def __init__(
        self,
        examples: Examples,
        inputs: Mapping[str, InputSpecification],
        task: Task | None = None,
        normaliser: Normaliser | None = None,
        batching: str = "utterance",
        length_bucket: Sequence[str] = (),
        labels: Mapping[str, np.ndarray] | None = None,
    ):
        """labels: further ones of the rows by name, each [N] or [N, classes]."""
        self.examples = examples
        self.inputs = dict(inputs)
        self.normaliser = normaliser or Normaliser({})
        self.batching = batching
        table = examples.utterances
        self._ragged = {role: examples.stream(value.stream).ragged for role, value in inputs.items()}
        self._ids = table["utterance_id"]
        self._dialogue = table["dialogue"].astype("category").cat.codes.to_numpy(copy=True)
        self._turn = table["turn"].to_numpy(copy=True)
        self._party = parties(self._dialogue, self._turn, table["speaker"])
        self._labels: dict[str, np.ndarray] = {}
        if task is not None:
            self._labels = {"target": task.targets(table), **task.unimodal_targets(table), **(labels or {})}
        lengths = [
            ragged.lengths for role, ragged in self._ragged.items() if not length_bucket or role in length_bucket
        ]
        self.lengths = np.max(lengths, axis=0) if lengths else np.ones(len(table), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._dialogue)

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> Batch:
        rows = np.asarray(rows, dtype=np.int64)
        # Dialogues are numbered, and turns counted, among the rows that are here, in turn order.
        rows = rows[np.lexsort((self._turn[rows], self._dialogue[rows]))]
        _, dialogue = np.unique(self._dialogue[rows], return_inverse=True)
        first = np.concatenate([[0], np.flatnonzero(np.diff(dialogue)) + 1])
        turn = np.arange(len(rows)) - first[dialogue]
        return Batch(
            inputs={role: self._padded(role, rows) for role in self.inputs},
            ids=tuple(self._ids.iloc[rows].tolist()),
            rows=torch.from_numpy(rows),
            dialogue=torch.from_numpy(dialogue.astype(np.int64)),
            turn=torch.from_numpy(turn.astype(np.int64)),
            speaker=torch.from_numpy(self._party[rows]),
            labels={name: torch.from_numpy(values[rows]) for name, values in self._labels.items()},
        )

    def _padded(self, role: str, rows: np.ndarray) -> Padded:
        values, mask = self._ragged[role].gather(rows, self.inputs[role].max_length)
        values = self.normaliser.apply(role, values, mask)
        wanted = np.int64 if self.inputs[role].integer else np.float32
        return Padded(torch.from_numpy(values.astype(wanted, copy=False)), torch.from_numpy(mask))

    def plan(
        self,
        batch_size: int,
        max_tokens_per_batch: int | None = None,
        shuffle: np.random.Generator | None = None,
        draws: Mapping[str, float] | None = None,
    ) -> list[np.ndarray]:
        """Rows of each batch. Without `shuffle` they are in order of length, which wastes the least padding.

        A dialogue system gets whole dialogues, `batch_size` of them, bucketed by their number of turns. With `draws`,
        corpus -> times, shuffled rows of a corpus are met so many times, in one batch a dialogue but once.

        Each [rows] of row numbers.
        """
        order, begins = self._grouped()
        one_each = self.batching == "utterance"
        sizes = self.lengths if one_each else np.diff(begins)
        planned: list[np.ndarray] = []
        for members in self._rounds(order[begins[:-1]], draws, shuffle):
            shuffled = members if shuffle is None else members[shuffle.permutation(len(members))]
            window = len(members) if shuffle is None else BUCKET * batch_size
            for start in range(0, len(shuffled), max(window, 1)):
                bucket = shuffled[start : start + window]
                bucket = bucket[np.argsort(sizes[bucket], kind="stable")]
                planned += fill(bucket, sizes, batch_size, max_tokens_per_batch)
        if shuffle is not None:
            planned = [planned[n] for n in shuffle.permutation(len(planned))]
        if one_each:
            return planned
        return [np.concatenate([order[begins[n] : begins[n + 1]] for n in batch]) for batch in planned]

    def _rounds(
        self, groups: np.ndarray, draws: Mapping[str, float] | None, shuffle: np.random.Generator | None
    ) -> list[np.ndarray]:
        """Numbers of the groups that are planned together. A fraction of a round is a part of the corpus by chance, of
        the same size in every epoch.

        groups: [groups] the first row of each.
        """
        if draws is None or shuffle is None:
            return [np.arange(len(groups))]
        corpora = self.examples.utterances["corpus"].astype(str).to_numpy()[groups]
        rounds = []
        for number in range(math.ceil(max(draws[name] for name in set(corpora)))):
            members = []
            for name in sorted(set(corpora)):
                own, times = np.flatnonzero(corpora == name), min(draws[name] - number, 1.0)
                count = round(max(times, 0.0) * len(own))
                members.append(own if count == len(own) else np.sort(shuffle.choice(own, count, replace=False)))
            rounds.append(np.concatenate(members))
        # Utterances of all rounds share batches; a dialogue that came twice in one would be laid out as a single one.
        return [np.concatenate(rounds)] if self.batching == "utterance" else [one for one in rounds if len(one)]

    def _grouped(self) -> tuple[np.ndarray, np.ndarray]:
        """[N] rows, those of a group side by side, and [groups + 1] where each group begins among them."""
        if self.batching == "utterance":
            return np.arange(len(self)), np.arange(len(self) + 1)
        order = np.lexsort((self._turn, self._dialogue))
        begins = np.flatnonzero(np.diff(self._dialogue[order], prepend=-2))
        return order, np.append(begins, len(order))

    def dialogue_of(self, rows: np.ndarray) -> np.ndarray:
        """[B] a number for the dialogue of each row."""
        return self._dialogue[rows]

    def iterate(self, plan: Sequence[np.ndarray], workers: int = 0) -> Iterator[Batch]:
        """The batches of a plan in its order, made ahead by worker processes when `workers` > 0.

        plan: row numbers [rows] of each batch.
        """
        if workers == 0:
            return (self[rows] for rows in plan)
        return iter(DataLoader(_Planned(self, plan), batch_size=None, num_workers=workers, shuffle=False))


class _Planned(torch.utils.data.Dataset):
    def __init__(self, batches: Batches, plan: Sequence[np.ndarray]):
        self.batches, self.plan = batches, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[self.plan[index]]


def fill(order: np.ndarray, sizes: np.ndarray, batch_size: int, max_tokens_per_batch: int | None) -> list[np.ndarray]:
    """Cut a sorted order into batches of at most `batch_size` groups and, padded, `max_tokens_per_batch` steps.

    order [groups] of group numbers, sizes [all groups] in steps.
    """
    batches: list[np.ndarray] = []
    start = 0
    for place, longest in enumerate(np.maximum(sizes[order], 1)):  # sorted, so the newcomer is the longest
        count = place - start
        full = count == batch_size
        if count and (full or (max_tokens_per_batch is not None and longest * (count + 1) > max_tokens_per_batch)):
            batches.append(order[start:place])
            start = place
    return [*batches, order[start:]] if len(order) else []


def parties(dialogue: np.ndarray, turn: np.ndarray, speaker: pd.Series) -> np.ndarray:
    """[N] number of the speaker within its dialogue by first appearance; -1 where unknown."""
    name, names = pd.factorize(speaker.astype("str"))
    order = np.lexsort((turn, dialogue))
    order = order[name[order] >= 0]
    _, first, of = np.unique(
        dialogue[order].astype(np.int64) * len(names) + name[order], return_index=True, return_inverse=True
    )
    # One after the other as they appear; those of a dialogue are side by side, and count from the first of them.
    by_appearance = np.argsort(first)
    at = dialogue[order[first[by_appearance]]]
    begins = np.flatnonzero(np.diff(at, prepend=-2))
    number = np.empty(len(at), dtype=np.int64)
    number[by_appearance] = np.arange(len(at)) - np.repeat(begins, np.diff(np.append(begins, len(at))))
    party = np.full(len(dialogue), -1, dtype=np.int64)
    party[order] = number[of]
    return party


def drop_roles(batch: Batch, chance: float, generator: torch.Generator) -> Batch:
    """Modality dropout: leave each role of each row out with `chance`, but never the last one that is present."""
    roles = list(batch.inputs)
    if chance == 0.0 or len(roles) == 1:
        return batch
    present = torch.stack([batch[role].present for role in roles], dim=1)
    retained = present & (torch.rand(present.shape, generator=generator) >= chance)
    order = torch.rand(present.shape, generator=generator).masked_fill(~present, -1.0)
    saved = torch.zeros_like(present).scatter_(1, order.argmax(dim=1, keepdim=True), True) & present
    retained = torch.where(retained.any(dim=1, keepdim=True), retained, saved)
    inputs = {}
    for column, role in enumerate(roles):
        mask = batch[role].mask & retained[:, column : column + 1]
        values = batch[role].values
        inputs[role] = Padded(values * mask.unsqueeze(-1).to(values.dtype), mask)
    return replace(batch, inputs=inputs)
