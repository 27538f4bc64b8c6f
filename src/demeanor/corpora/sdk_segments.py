"""One video of the CMU Multimodal SDK, cut into its label segments and words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from demeanor.corpora.imported import to_float32
from demeanor.corpora.sdk_alignment import EPSILON, Entry, Timeline, align, impute

PAUSE = ("sp", "")


@dataclass(frozen=True)
class Segment:
    """A label segment: its number among the labels of the video, seconds, labels, transcript, and rows by modality.

    features  modality -> [rows, D]; None where the segment holds no word
    """

    number: int
    start: float
    end: float
    labels: np.ndarray
    text: str | None
    features: Mapping[str, np.ndarray] | None


def segments_of(entries: Mapping[str, Entry], words: Entry | None, average: bool, repair: bool) -> Iterator[Segment]:
    """Segments of a video in the order of their labels; `entries` has text, labels and what else there is.

    `average`: each row is a word; audio and vision are the mean of the frames that overlap it, zeros where none does.
    Otherwise rows are those of the SDK without collapse: frames as they are, cut at words.
    """
    spoken = Timeline(words) if words is not None else None
    pieces = _averaged(entries, repair) if average else _as_published(entries, repair)
    for number, (interval, labels) in enumerate(
        zip(entries["labels"].intervals, entries["labels"].features, strict=True)
    ):
        start, end = float(interval[0]), float(interval[1])
        if abs(end - start) < EPSILON:
            continue
        features = pieces(number, start, end)
        yield Segment(number, start, end, labels, _transcript(spoken, start, end), features)


def _transcript(spoken: Timeline | None, start: float, end: float) -> str | None:
    if spoken is None:
        return None
    rows, _ = spoken.rows_within(start, end)
    words = []
    for value in spoken.features[rows].reshape(len(rows), -1)[:, 0] if len(rows) else ():
        word = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        words += [word] if word.strip().lower() not in PAUSE else []
    return " ".join(words) or None


def _averaged(entries: Mapping[str, Entry], repair: bool):
    """Rows correspond: row n of every modality belongs to word n."""
    text = entries["text"]
    order = np.argsort(text.intervals[:, 0], kind="stable")
    order = order[np.abs(np.diff(text.intervals[order], axis=1)[:, 0]) >= EPSILON]
    words = Timeline(Entry(text.intervals[order], text.features[order]))
    rows: dict[str, np.ndarray] = {"text": _sound(to_float32(words.features), repair)}
    for role, entry in entries.items():
        if role in ("text", "labels"):
            continue
        frames = Timeline(entry)
        rows[role] = np.zeros((len(order), entry.features.shape[1]), dtype=np.float32)
        for n, (start, end) in enumerate(words.intervals):
            within, _ = frames.rows_within(float(start), float(end))
            if len(within):
                rows[role][n] = to_float32(mean_of(frames.features[within], repair))

    def pieces(number: int, start: float, end: float) -> dict[str, np.ndarray] | None:
        within, _ = words.rows_within(start, end)
        return {role: values[within] for role, values in rows.items()} if len(within) else None

    return pieces


def mean_of(frames: np.ndarray, repair: bool) -> np.ndarray:
    """[D] mean over frames [N, D]; with `repair`, over the finite values of each column, 0 where there is none."""
    values = frames.astype(np.float64)
    finite = np.isfinite(values)
    with np.errstate(over="ignore", invalid="ignore"):
        if not repair or finite.all():
            return values.mean(axis=0)
        counts = finite.sum(axis=0)
        return np.where(finite, values, 0.0).sum(axis=0) / np.maximum(counts, 1)


def _as_published(entries: Mapping[str, Entry], repair: bool):
    """The SDK's own two alignments, without collapse (docs/systems/conv_autoencoder.md#q2)."""
    video = "video"
    features = {role: {video: entry} for role, entry in entries.items() if role != "labels"}
    words = impute(align(features, "text"), "text")
    # Imputation needs the width of a modality of which no word has a frame.
    for role, sequence in words.items():
        width = entries[role].features.shape[1]
        for key, entry in sequence.items():
            if entry.features.shape[1] != width:
                sequence[key] = Entry(entry.intervals, np.zeros((len(entry.intervals), width)))
    aligned = align({**words, "labels": {video: entries["labels"]}}, "labels")

    def pieces(number: int, start: float, end: float) -> dict[str, np.ndarray] | None:
        key = f"{video}[{number}]"
        if not all(key in aligned[role] for role in features):
            return None
        return {role: _sound(to_float32(aligned[role][key].features), repair) for role in features}

    return pieces


def _sound(values: np.ndarray, repair: bool) -> np.ndarray:
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) if repair else values
