"""What the CMU Multimodal SDK does to computational sequences, with its exact semantics.

docs/systems/conv_autoencoder.md#sdk-operations. A computational sequence is a dict from an entry
id to an `Entry`; a dataset is a dict from the sequence's name to such a dict. Entry ids are a video's id, and
`<video>[<row of the reference>]` after an alignment.

The SDK compares every reference row with every frame. Here the frames are sorted once, and a binary search finds those
that can touch a row, so that an hour of frames costs hardly more than a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

EPSILON = 1e-5
"""seconds; a shorter interval counts as none"""


@dataclass(frozen=True)
class Entry:
    """intervals [N, 2] in seconds, features [N, D]."""

    intervals: np.ndarray
    features: np.ndarray


ComputationalSequence = dict[str, Entry]
Collapse = Callable[[np.ndarray, np.ndarray], np.ndarray]


def average(intervals: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The mean of an entry's rows: what makes frames into one vector per word.

    intervals [frames, 2] in seconds, features [frames, dimension]; gives [dimension].
    """
    return np.mean(features, axis=0)


def video_of(entry: str) -> str:
    """The video that an entry such as `name[3]` is a part of."""
    return entry.split("[", 1)[0]


def unify(dataset: Mapping[str, ComputationalSequence], reference: bool = False) -> dict[str, ComputationalSequence]:
    """Only entries of videos that every sequence has.

    `reference`: as the SDK, which removes by the beginning of the id, so that a missing video 25522 takes 255224 along.
    """
    videos = [{video_of(entry) for entry in sequence} for sequence in dataset.values()]
    every: set[str] = set().union(*videos)
    gone = every - every.intersection(*videos)
    if reference:
        prefixes = tuple(gone)
        return {
            name: {entry: value for entry, value in sequence.items() if not entry.startswith(prefixes)}
            for name, sequence in dataset.items()
        }
    return {
        name: {entry: value for entry, value in sequence.items() if video_of(entry) not in gone}
        for name, sequence in dataset.items()
    }


def align(
    dataset: Mapping[str, ComputationalSequence],
    reference: str,
    collapse: Sequence[Collapse] | None = None,
    prefix_bug: bool = False,
) -> dict[str, ComputationalSequence]:
    """Cut every sequence at the rows of `reference`; with `collapse`, each piece becomes one row.

    A row of another sequence belongs to a reference row if they overlap by more than EPSILON; its interval is clipped
    to the reference row, its features are copied. Where nothing overlaps there is no entry.
    """
    unified = unify(dataset, prefix_bug)
    grouped = {name: _by_video(sequence) for name, sequence in unified.items()}
    aligned: dict[str, ComputationalSequence] = {name: {} for name in unified}
    for video, entries in grouped[reference].items():
        rows = _concatenated(entries)
        others = {name: Timeline(_concatenated(grouped[name][video])) for name in unified if name != reference}
        for number, (interval, features) in enumerate(zip(rows.intervals, rows.features, strict=True)):
            if abs(interval[1] - interval[0]) < EPSILON:
                continue
            entry = f"{video}[{number}]"
            aligned[reference][entry] = Entry(interval[None], features[None])
            for name, timeline in others.items():
                piece = timeline.within(float(interval[0]), float(interval[1]))
                if len(piece.intervals):
                    aligned[name][entry] = _collapsed(piece, collapse) if collapse else piece
    return aligned


class Timeline:
    """The rows of one sequence in one video, stable-sorted by start, ready for many questions."""

    def __init__(self, rows: Entry):
        order = np.argsort(rows.intervals[:, 0], kind="stable")
        self.intervals = rows.intervals[order]
        self.features = rows.features[order]
        self._starts = self.intervals[:, 0]
        # Ends need not rise with the starts; the latest end so far does.
        self._latest = np.maximum.accumulate(self.intervals[:, 1]) if len(order) else self.intervals[:, 1]

    def rows_within(self, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the rows that overlap [start, end], and their clipped intervals."""
        first = int(np.searchsorted(self._latest, start - EPSILON, side="right"))
        last = int(np.searchsorted(self._starts, end + EPSILON, side="left"))
        clipped = np.clip(self.intervals[first:last], start, end)
        inside = clipped[:, 1] - clipped[:, 0] > EPSILON
        return first + np.flatnonzero(inside), clipped[inside]

    def within(self, start: float, end: float) -> Entry:
        """The rows that overlap [start, end] (seconds), their intervals clipped to it."""
        rows, clipped = self.rows_within(start, end)
        return Entry(clipped, self.features[rows])


def _by_video(sequence: ComputationalSequence) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry, value in sequence.items():
        groups.setdefault(video_of(entry), []).append(value)
    return groups


def _concatenated(entries: Sequence[Entry]) -> Entry:
    if len(entries) == 1:
        return entries[0]
    return Entry(
        np.concatenate([entry.intervals for entry in entries]), np.concatenate([entry.features for entry in entries])
    )


def _collapsed(rows: Entry, functions: Sequence[Collapse]) -> Entry:
    interval = np.array([[rows.intervals[:, 0].min(), rows.intervals[:, 1].max()]])
    features = np.concatenate([np.atleast_1d(function(rows.intervals, rows.features)) for function in functions])
    return Entry(interval, features[None])


def impute(dataset: Mapping[str, ComputationalSequence], reference: str) -> dict[str, ComputationalSequence]:
    """Zeros, with the reference's intervals, wherever a sequence lacks an entry of the reference."""
    filled: dict[str, ComputationalSequence] = {}
    for name, sequence in dataset.items():
        width = next(iter(sequence.values())).features.shape[1] if sequence else 0
        filled[name] = dict(sequence)
        for entry, value in dataset[reference].items():
            if entry not in sequence:
                filled[name][entry] = Entry(value.intervals, np.zeros((len(value.intervals), width)))
    return filled


def hard_unify(dataset: Mapping[str, ComputationalSequence]) -> dict[str, ComputationalSequence]:
    """Only entries, with their `[number]`, that every sequence has."""
    entries = [set(sequence) for sequence in dataset.values()]
    common = entries[0].intersection(*entries)
    return {
        name: {entry: value for entry, value in sequence.items() if entry in common}
        for name, sequence in dataset.items()
    }


def get_tensors(
    dataset: Mapping[str, ComputationalSequence],
    length: int,
    non_sequences: Sequence[str],
    folds: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, np.ndarray]]:
    """fold -> sequence -> float64 [segments, length, D]; `non_sequences` (labels) as they are, [segments, 1, D].

    Zero rows are put in front and the last `length` rows are kept, so that the end of a long segment stays. Entries
    of videos in no fold are left out.
    """
    unified = hard_unify(dataset)
    member = {video: fold for fold, videos in folds.items() for video in videos}
    sequences: dict[str, dict[str, list[np.ndarray]]] = {fold: {name: [] for name in unified} for fold in folds}
    for entry in next(iter(unified.values())):
        fold = member.get(video_of(entry))
        if fold is None:
            continue
        for name, sequence in unified.items():
            features = sequence[entry].features
            if name not in non_sequences:
                features = np.concatenate([np.zeros((length, features.shape[1])), features])[-length:]
            sequences[fold][name].append(features)
    return {
        fold: {name: np.stack(values) if values else np.zeros((0, length, 0)) for name, values in parts.items()}
        for fold, parts in sequences.items()
    }
