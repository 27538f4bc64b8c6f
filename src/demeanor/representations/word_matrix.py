"""Word matrices: the last words of an utterance as rows, all modalities side by side as columns.

The convolutional autoencoder's input (docs/systems/conv_autoencoder.md#input, #q1, #q2): rows oldest first, padded on
the left; columns in one canonical order for every corpus. Frames are averaged over the word they belong to; the
reference instead took the last 20 frames of each modality, whose rows then do not correspond, and `pool: last` does
so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.settings import Settings
from demeanor.data.stream import Stream

Parts = dict[str, tuple[np.ndarray, np.ndarray | None]]
TIMES, ALIGNED, UNIFORM, NOTHING = "times", "aligned", "uniform", "nothing"


class WordMatrixSettings(Settings):
    """Which streams make the matrix and how."""

    streams: dict[str, str] = Field(
        default={"audio": "audio.frames", "text": "text.words", "vision": "vision.frames"},
        description="modality -> stream; leave one out to pretrain without that modality",
    )
    times: str = Field(default="text.word_times", description="stream of [start, end] seconds per word")
    order: tuple[str, ...] = Field(
        default=("audio", "text", "vision"),
        description="of the columns; the reference had audio, vision, text for IEMOCAP alone",
    )
    steps: int = Field(default=20, ge=1, description="words kept, from the end")
    pool: Literal["mean", "last"] = Field(
        default="mean",
        description="mean: of each word; last: the last frames of each modality instead, as the reference",
    )
    components: dict[str, int] = Field(
        default={"text": 64},
        description="modality -> principal components, fitted on the train split, that replace wider columns",
    )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that have a stream, in the order of the columns; InputError for one without a place in `order`."""
        unknown = [name for name in self.streams if name not in self.order]
        if unknown or not self.streams:
            problems = [f"modality '{name}' has no place in `order` {list(self.order)}" for name in unknown]
            raise InputError("word matrix", problems or ["no stream is given"], "Set `streams` and `order`.")
        return tuple(name for name in self.order if name in self.streams)

    def only(self, modalities: Sequence[str]) -> WordMatrixSettings:
        """The same matrix of some modalities. InputError for one that has no stream."""
        missing = [f"there is no modality '{name}'" for name in modalities if name not in self.streams]
        if missing:
            raise InputError("word matrix", missing, f"There is: {', '.join(self.streams)}.")
        return self.model_copy(update={"streams": {name: self.streams[name] for name in modalities}})


@dataclass(frozen=True)
class Projection:
    """Principal axes of a modality: values -> (values - mean) @ components.T, [D] -> [K]."""

    mean: Float[np.ndarray, " dimension"]
    components: Float[np.ndarray, "components dimension"]

    def __call__(self, values: Float[np.ndarray, "steps dimension"]) -> Float[np.ndarray, "steps components"]:
        return (np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) - self.mean) @ self.components.T


@dataclass(frozen=True)
class WordMatrix:
    """values [N, S, F], mask [N, S] on real steps, observed [N, S, M] per modality, blocks modality -> columns.

    Values may hold NaN or infinities where the features do: a normaliser repairs them with what it saw in training.
    `alignment` [N] says where the spans of words came from: times, aligned (made per word), uniform, nothing.
    """

    values: Float[np.ndarray, "utterances steps features"]
    mask: Bool[np.ndarray, "utterances steps"]
    observed: Bool[np.ndarray, "utterances steps modalities"]
    blocks: dict[str, tuple[int, int]]
    alignment: np.ndarray

    def __iter__(self):
        """matrix, mask, blocks = word_matrix(...)"""
        return iter((self.values, self.mask, self.blocks))

    def __len__(self) -> int:
        return len(self.values)

    def select(self, rows: np.ndarray) -> WordMatrix:
        """The utterances of `rows` [rows], by number or as truth values [utterances]."""
        return WordMatrix(
            self.values[rows], self.mask[rows], self.observed[rows], self.blocks, np.asarray(self.alignment)[rows]
        )

    @property
    def counted(self) -> dict[str, int]:
        """Utterances by where their word spans came from."""
        kinds, counts = np.unique(np.asarray(self.alignment, dtype=str), return_counts=True)
        return {str(kind): int(count) for kind, count in zip(kinds, counts, strict=True)}


def fit_projections(
    examples: Examples, settings: WordMatrixSettings, most: int = 50_000, seed: int = 0
) -> dict[str, Projection]:
    """Principal axes of the train split for every modality that `components` makes narrower than it is. InputError for
    a stream with fewer than two finite steps."""
    train = examples.split("train")
    fitted = {}
    for modality in settings.modalities:
        wanted = settings.components.get(modality)
        ragged = train.stream(settings.streams[modality]).ragged
        if wanted is None or wanted >= ragged.dimension:
            continue
        rows = np.concatenate([np.asarray(part, dtype=np.float64) for part in ragged] or [np.zeros((0, 1))])
        rows = rows[np.isfinite(rows).all(axis=1)]
        if len(rows) < 2:
            raise InputError(
                f"stream '{settings.streams[modality]}'",
                ["fewer than two finite steps in the train split: no principal components"],
                f"Leave '{modality}' out of `components`, or out of `streams`.",
            )
        if len(rows) > most:
            rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]
        mean = rows.mean(axis=0)
        _, vectors = np.linalg.eigh(np.cov(rows - mean, rowvar=False))
        axes = vectors[:, ::-1][:, :wanted].T
        # An eigenvector's sign is arbitrary; fixing it keeps runs on other machines comparable.
        signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
        fitted[modality] = Projection(mean.astype(np.float32), (axes * signs[:, None]).astype(np.float32))
    return fitted


def word_matrix(
    examples: Examples, settings: WordMatrixSettings | None = None, projections: Mapping[str, Projection] | None = None
) -> WordMatrix:
    """The matrices of all utterances, see WordMatrix. An utterance without anything has an all-False mask.

    Words are the rows of the text stream, else of the word times, else of a stream made per word. An utterance
    without words is cut into `steps` equal parts. Where times are missing, or do not have a row per word, frames are
    shared out evenly among the words, and `alignment` says uniform.
    """
    settings = settings or WordMatrixSettings()
    projections = projections or {}
    streams = {name: examples.stream(settings.streams[name]) for name in settings.modalities}
    times = examples.streams.get(settings.times)
    blocks, start = {}, 0
    for name, stream in streams.items():
        width = len(projections[name].components) if name in projections else stream.dimension
        blocks[name] = (start, start + width)
        start += width
    size = len(examples)
    values = np.zeros((size, settings.steps, start), dtype=np.float32)
    observed = np.zeros((size, settings.steps, len(streams)), dtype=bool)
    alignment = np.full(size, NOTHING, dtype=object)
    for n in range(size):
        sequences = {name: np.asarray(stream.ragged[n]) for name, stream in streams.items()}
        spans = None if times is None else np.asarray(times.ragged[n], dtype=np.float64)
        if settings.pool == "last":
            parts: Parts = {name: (part[-settings.steps :], None) for name, part in sequences.items()}
            alignment[n] = ALIGNED if any(len(part) for part in sequences.values()) else NOTHING
        else:
            parts, alignment[n] = _words(sequences, streams, spans, settings.steps)
        for m, (name, (part, seen)) in enumerate(parts.items()):
            if len(part) == 0:
                continue
            first, last = blocks[name]
            projected = projections[name](part) if name in projections else part
            values[n, settings.steps - len(part) :, first:last] = projected
            observed[n, settings.steps - len(part) :, m] = True if seen is None else seen
    return WordMatrix(values, np.asarray(observed.any(axis=2)), observed, blocks, alignment)


def _words(
    sequences: Mapping[str, np.ndarray], streams: Mapping[str, Stream], times: np.ndarray | None, steps: int
) -> tuple[Parts, str]:
    """Modality -> (rows of the last `steps` words, which of them were observed), and how spans were found."""
    per_word = {
        name: len(part)
        for name, part in sequences.items()
        if len(part) and (name == "text" or streams[name].provenance.unit == "word")
    }
    count = per_word.get("text") or (0 if times is None else len(times)) or max(per_word.values(), default=0)
    usable = (
        times is not None
        and len(times) == count > 0
        and bool(np.isfinite(times).all() and (times[:, 1] >= times[:, 0]).all())
    )
    count = count or (steps if any(len(part) for part in sequences.values()) else 0)
    last_words = slice(max(count - steps, 0), count)
    parts: Parts = {}
    used = set()
    for name, sequence in sequences.items():
        rate = streams[name].provenance.rate
        if len(sequence) == 0:
            parts[name] = (sequence, None)
        elif per_word.get(name) == count:
            parts[name] = (sequence[last_words], None)
            used.add(ALIGNED)
        elif usable and rate:
            assert times is not None
            parts[name] = average_frames(sequence, *frames_of_spans(times[last_words], rate, len(sequence)))
            used.add(TIMES)
        else:
            edges = np.linspace(0, len(sequence), count + 1)
            first = np.floor(edges[:-1]).astype(np.int64)
            last = np.maximum(np.ceil(edges[1:]).astype(np.int64), first + 1)
            parts[name] = average_frames(sequence, first[last_words], last[last_words])
            used.add(UNIFORM)
    kind = next((kind for kind in (UNIFORM, TIMES, ALIGNED) if kind in used), NOTHING)
    return parts, kind


def frames_of_spans(spans: Float[np.ndarray, "words 2"], rate: float, length: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last + 1 frame of each span [start, end] in seconds: those whose middle lies within it.

    A word too short to hold the middle of a frame gets the frame around its own middle; one that lies outside the
    recording gets none (first == last).
    """
    first = np.ceil(spans[:, 0] * rate - 0.5).astype(np.int64)
    last = np.ceil(spans[:, 1] * rate - 0.5).astype(np.int64)
    middle = np.floor(spans.mean(axis=1) * rate).astype(np.int64)
    short = last <= first
    first, last = np.where(short, middle, first), np.where(short, middle + 1, last)
    return np.clip(first, 0, length), np.clip(last, 0, length)


def average_frames(
    frames: Float[np.ndarray, "frames dimension"], first: np.ndarray, last: np.ndarray
) -> tuple[Float[np.ndarray, "words dimension"], Bool[np.ndarray, " words"]]:
    """Mean of frames[first:last] per word over finite values, and which words have any frame.

    A column without a finite value within a word is NaN there.
    """
    finite = np.isfinite(frames)
    clean = np.where(finite, frames, 0.0).astype(np.float64)
    # Sums over spans as differences of running sums: one pass however many words there are.
    sums = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(clean, axis=0)])
    counts = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(finite, axis=0)])
    count = counts[last] - counts[first]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(count > 0, (sums[last] - sums[first]) / count, np.nan)
    seen = last > first
    means[~seen] = 0.0
    return means.astype(np.float32), seen
