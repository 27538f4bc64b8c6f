"""From utterances to what a representation reads: word matrix, projections and normalisers, fitted and remembered."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from demeanor.data.bundle import Bundle, InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.provenance import Provenance
from demeanor.data.stream import Stream
from demeanor.representations.base import Layout, expand_mask, layout_of
from demeanor.representations.normaliser import MatrixNormaliser
from demeanor.representations.word_matrix import (
    UNIFORM,
    Projection,
    WordMatrix,
    WordMatrixSettings,
    fit_projections,
    word_matrix,
)

MIXTURE = "mixture"


@dataclass(frozen=True)
class InputTransform:
    """All that is fitted before the model: the same for training, embedding and serving.

    normalisers  MIXTURE and, where corpora are normalised one by one, the name of each corpus
    masked       false: padding counts as zeros of the features, in the statistics and as values (the reference)
    """

    settings: WordMatrixSettings
    inputs: dict[str, InputSpecification]
    layout: Layout
    projections: dict[str, Projection] = field(default_factory=dict)
    normalisers: dict[str, MatrixNormaliser] = field(default_factory=dict)
    masked: bool = True

    @classmethod
    def fit(
        cls,
        development: Sequence[Examples],
        settings: WordMatrixSettings,
        each_corpus: bool = True,
        clip: bool = True,
        masked: bool = True,
    ) -> InputTransform:
        """From the train splits alone. InputError if they are empty."""
        examples = mix(development, [settings.streams[name] for name in settings.modalities], settings.times)
        train = examples.split("train")
        if len(train) == 0:
            raise InputError("pretraining", ["there is no utterance in the train split"], "Look at column `split`.")
        projections = fit_projections(examples, settings)
        matrix = word_matrix(train, settings, projections)
        inputs = {name: specification(examples.stream(settings.streams[name])) for name in settings.modalities}
        layout = Layout(steps=settings.steps, blocks=matrix.blocks)
        fitted = cls(settings, inputs, layout, projections, masked=masked)
        cells = fitted.cells(matrix)
        normalisers = {MIXTURE: MatrixNormaliser.fit(matrix.values, cells, clip)}
        corpora = train.utterances["corpus"].to_numpy()
        names = sorted(set(corpora)) if each_corpus else []
        for name in names if len(names) > 1 else []:
            rows = corpora == name
            normalisers[name] = MatrixNormaliser.fit(matrix.values[rows], cells[rows], clip)
        _advise(fitted, normalisers, matrix)
        return replace(fitted, normalisers=normalisers)

    def cells(self, matrix: WordMatrix) -> np.ndarray:
        """[N, S, F] True on what enters statistics and is given to the model as a value."""
        if not self.masked:
            return np.ones(matrix.values.shape, dtype=bool)
        return expand_mask(self.layout, matrix.values.shape, torch.from_numpy(matrix.observed)).numpy()

    def __call__(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """Normalised matrix [N, S, F] float32 and what was observed [N, S, M]; streams of other makers are refused."""
        if not self.normalisers:
            raise InputError(
                "normaliser",
                ["this representation came without the statistics of its training features"],
                "Fit them on a train split first: demeanor.representations.embedding.adapt(bundle, examples).",
            )
        self.require(examples)
        matrix = word_matrix(examples, self.settings, self.projections)
        cells = self.cells(matrix)
        values = np.zeros_like(matrix.values)
        corpora = examples.utterances["corpus"].to_numpy()
        for name in sorted(set(corpora)):
            rows = corpora == name
            normaliser = self.normalisers.get(name, self.normalisers.get(MIXTURE))
            if normaliser is None:
                raise InputError(
                    "normaliser",
                    [f"none is known for corpus '{name}'"],
                    "Fit one on its train split first: demeanor.representations.embedding.adapt(bundle, examples).",
                )
            values[rows] = normaliser(matrix.values[rows], cells[rows])
        return torch.from_numpy(values), torch.from_numpy(matrix.observed)

    def require(self, examples: Examples) -> None:
        """InputError for streams of another width, or of another maker, than those of training."""
        problems = []
        for name, wanted in self.inputs.items():
            first, last = self.layout.blocks[name]
            expected = wanted.dimension if name in self.projections else last - first
            width = examples.stream(wanted.stream).dimension
            if width != expected:
                problems.append(f"{expected} columns expected for {name}, stream '{wanted.stream}' has {width}")
        if problems:
            raise InputError("word matrix", problems, "Use streams like those that the representation was trained on.")
        for wanted in self.inputs.values():
            wanted.provenance.require(examples.stream(wanted.stream).provenance, wanted.stream)

    def fitted_on(self, examples: Examples, clip: bool) -> InputTransform:
        """With one more normaliser per corpus of `examples`, from their train split. InputError if it is empty."""
        self.require(examples)
        train = examples.split("train")
        if len(train) == 0:
            raise InputError("normaliser", ["there is no utterance in the train split"], "Look at column `split`.")
        matrix = word_matrix(train, self.settings, self.projections)
        cells, corpora = self.cells(matrix), train.utterances["corpus"].to_numpy()
        more = {
            name: MatrixNormaliser.fit(matrix.values[corpora == name], cells[corpora == name], clip)
            for name in sorted(set(corpora))
        }
        return replace(self, normalisers={**self.normalisers, **more})

    def tensors(self) -> dict[str, np.ndarray]:
        """By the name in a bundle: mean [features] and components [reduced, features], and each normaliser's."""
        tensors: dict[str, np.ndarray] = {}
        for name, projection in self.projections.items():
            tensors |= {f"reducer.{name}.mean": projection.mean, f"reducer.{name}.components": projection.components}
        for name, normaliser in self.normalisers.items():
            tensors |= normaliser.tensors(f"normaliser.{name}")
        return tensors

    @classmethod
    def of(cls, bundle: Bundle) -> InputTransform:
        """As it was fitted when the bundle was trained. InputError for a bundle that holds no representation."""
        layout = layout_of(bundle)
        values = bundle.card.settings
        stored = values.get("normaliser", {})
        projections = {
            name: Projection(part["mean"], part["components"])
            for name in bundle.card.inputs
            if (part := bundle.part(f"reducer.{name}"))
        }
        normalisers = {
            name: MatrixNormaliser.from_tensors(bundle.part(f"normaliser.{name}"), stored.get("clip", True))
            for name in stored.get("fitted_on", [])
        }
        settings, masked = WordMatrixSettings(**values["word_matrix"]), stored.get("masked", True)
        return cls(settings, dict(bundle.card.inputs), layout, projections, normalisers, masked)


def specification(stream: Stream) -> InputSpecification:
    """What a representation's card says of a stream."""
    return InputSpecification(stream=stream.name, dimension=stream.dimension, provenance=stream.provenance)


def mix(parts: Sequence[Examples], streams: Sequence[str], times: str) -> Examples:
    """One set of examples of several corpora; streams of different width or maker do not mix. Those, an id in two
    corpora, and no corpus at all are InputErrors."""
    if not parts:
        raise InputError("mixture", ["no corpus is given"])
    wanted = [*streams, *([times] if all(times in part.streams for part in parts) else [])]
    if len(parts) == 1:
        return Examples(parts[0].utterances, {name: parts[0].stream(name) for name in wanted})
    problems = []
    for name in streams:
        first = parts[0].stream(name)
        for part in parts[1:]:
            other, corpus = part.stream(name), part.utterances["corpus"].iloc[0]
            if other.dimension != first.dimension:
                problems.append(f"'{name}' has {first.dimension} columns, {other.dimension} in {corpus}")
            elif other.provenance.fingerprint != first.provenance.fingerprint:
                listed = "; ".join(first.provenance.differences(other.provenance)[:3])
                problems.append(f"'{name}' of {corpus} was made in another way: {listed}")
    if problems:
        raise InputError("mixture of corpora", problems, "Make the streams of all corpora with the same extractors.")
    table = pd.concat([part.utterances for part in parts], ignore_index=True)
    twice = table["utterance_id"][table["utterance_id"].duplicated()]
    if len(twice):
        raise InputError("mixture of corpora", [f"utterance id '{name}' is in two corpora" for name in twice])
    return Examples(table, {name: _joined([part.stream(name) for part in parts]) for name in wanted})


def _joined(streams: Sequence[Stream]) -> Stream:
    sequences: dict[str, np.ndarray] = {}
    for stream in streams:
        sequences.update(zip(stream.ragged.ids, stream.ragged, strict=True))
    ragged = type(streams[0].ragged).from_sequences(sequences, streams[0].dimension)
    return Stream(streams[0].name, ragged, streams[0].provenance)


def _advise(fitted: InputTransform, normalisers: Mapping[str, MatrixNormaliser], matrix: WordMatrix) -> None:
    """Say what is legal but foolish."""
    constant = normalisers[MIXTURE].constant
    for name, (start, end) in fitted.layout.blocks.items():
        flat = int(constant[start:end].sum())
        if flat == end - start:
            warnings.warn(f"word matrix: every column of {name} is constant in the train split", stacklevel=3)
    uniform = matrix.counted.get(UNIFORM, 0)
    if uniform > len(matrix) // 2:
        warnings.warn(
            f"word matrix: {uniform} of {len(matrix)} utterances have no usable word times; their frames are shared "
            f"out evenly among the words. Make the stream '{fitted.settings.times}' for a better alignment.",
            stacklevel=3,
        )


def output_provenance(bundle: Bundle, version: str) -> Provenance:
    """The maker's card of embeddings: as free as the strictest stream they were made of."""
    inputs = bundle.card.inputs
    licences = sorted({value.provenance.licence for value in inputs.values()} | {bundle.card.licence} - {""})
    return Provenance(
        extractor=bundle.card.system,
        version=version,
        parameters={
            "dimension": bundle.card.protocol.get("dimension"),
            "inputs": {name: value.provenance.fingerprint for name, value in inputs.items()},
        },
        unit="utterance",
        weights_sha256=bundle.weights_sha256,
        licence="; ".join(licences),
        recomputable=bundle.card.recomputable,
        notes=bundle.card.notes,
    )


def stored_normaliser(transform: InputTransform, clip: bool) -> dict[str, Any]:
    """What a bundle's card says of its normalisers; their numbers are among its tensors."""
    return {"fitted_on": sorted(transform.normalisers), "clip": clip, "masked": transform.masked}
