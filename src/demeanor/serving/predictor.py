"""A bundle that answers for raw recordings: the extractors of its training, its model, readable results."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.bundle import Bundle
from demeanor.data.errors import DemeanorError, ProvenanceError
from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.features import extractor_from
from demeanor.features.base import Clip, Extractor
from demeanor.serving.recordings import Rows, clip_of, conversations, table_of, utterances_of
from demeanor.training.inference import batches_of, build, check_provenance, forward_all


class Predictor:
    """Scores raw rows (see demeanor.serving.recordings.COLUMNS) or examples with features of the same making."""

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self.system = build(bundle)

    @classmethod
    def load(cls, folder: Path | str) -> Predictor:
        return cls(Bundle.load(folder))

    @property
    def task(self) -> Task:
        return self.bundle.card.task

    @cached_property
    def extractors(self) -> dict[str, Extractor]:
        """Stream -> the extractor that training used; ProvenanceError lists every stream that cannot be made here."""
        built, problems = {}, []
        for specification in self.bundle.card.inputs.values():
            try:
                built[specification.stream] = extractor_from(specification.provenance, specification.stream)
            except ProvenanceError as error:
                problems.append(str(error))
        if problems:
            raise ProvenanceError("\n".join(problems))
        return built

    def predict(self, rows: Rows) -> pd.DataFrame:
        """One row per input row, in order.

        Columns: utterance_id; for regression <task>, else <task> (the class) and probability_<class>; modalities
        (those that were used, joined by "+"); problem (why there is no answer, else empty).
        """
        table = table_of(rows)
        utterances = utterances_of(table)
        clips: dict[str, Clip] = {}
        problems: dict[str, str] = {}
        company = conversations(utterances)
        for utterance, (_, row) in zip(utterances.itertuples(), table.iterrows(), strict=True):
            try:
                name = str(utterance.utterance_id)
                clips[name] = clip_of(utterance, row, *company[name])
            except DemeanorError as error:
                problems[str(utterance.utterance_id)] = " ".join(str(error).split())
        streams = self._streams(clips, problems)
        usable = utterances[~utterances["utterance_id"].isin(list(problems))]
        examples = Examples.of(usable, streams)
        used = self._modalities(examples)
        for name, modalities in used.items():
            if not modalities:
                problems[name] = f"nothing in it that this model reads ({', '.join(self._needed())})"
        examples = Examples.of(usable[~usable["utterance_id"].isin(list(problems))], streams)
        predicted = self._forward(examples)
        answers = self.describe(predicted).set_index(pd.Index(examples.ids))
        result = answers.reindex(list(utterances["utterance_id"]))
        result.insert(0, "utterance_id", result.index)
        result["modalities"] = ["+".join(used.get(name, ())) for name in result.index]
        result["problem"] = [problems.get(name, "") for name in result.index]
        return result.reset_index(drop=True)

    def predict_examples(self, examples: Examples) -> pd.DataFrame:
        """The same for examples; features of another making are refused with the differences."""
        check_provenance(self.bundle, examples)
        answers = self.describe(self._forward(examples))
        answers.insert(0, "utterance_id", examples.ids)
        used = self._modalities(examples)
        return answers.assign(modalities=["+".join(used[name]) for name in examples.ids], problem="")

    def describe(self, predicted: np.ndarray) -> pd.DataFrame:
        """Head outputs [N, outputs] as named columns."""
        task = self.task
        if task.kind == "regression":
            return pd.DataFrame({task.name: predicted[:, 0].astype(float)})
        if task.kind == "classification":
            shifted = np.exp(predicted - predicted.max(axis=1, keepdims=True)) if len(predicted) else predicted
            probabilities = shifted / shifted.sum(axis=1, keepdims=True) if len(predicted) else predicted
            chosen = [task.classes[index] for index in probabilities.argmax(axis=1)] if len(predicted) else []
        else:
            probabilities = 1.0 / (1.0 + np.exp(-predicted))
            chosen = ["+".join(np.array(task.classes)[row > 0.5]) for row in probabilities]
        named = {f"probability_{name}": probabilities[:, n].astype(float) for n, name in enumerate(task.classes)}
        return pd.DataFrame({task.name: pd.Series(chosen, dtype="object"), **named})

    def _needed(self) -> list[str]:
        return sorted({value.modality for value in self.bundle.card.inputs.values()})

    def _streams(self, clips: Mapping[str, Clip], problems: dict[str, str]) -> dict[str, Stream]:
        """Every stream that the model reads; a clip that an extractor cannot read gets a problem instead."""
        streams = {}
        for name, extractor in self.extractors.items():
            sequences: dict[str, np.ndarray] = {}
            for identity, clip in clips.items():
                if identity in problems:
                    continue
                try:
                    sequences[identity] = extractor.extract_clip(clip)
                except DemeanorError as error:
                    problems[identity] = " ".join(str(error).split())
            ragged = Ragged.from_sequences(sequences, extractor.dimension, extractor.dtype)
            streams[name] = Stream(name, ragged, extractor.provenance())
        return {
            name: stream.select([key for key in stream.ragged.ids if key not in problems])
            for name, stream in streams.items()
        }

    def _modalities(self, examples: Examples) -> dict[str, tuple[str, ...]]:
        """Utterance -> modalities of which the model was given at least one step."""
        found: dict[str, set[str]] = {name: set() for name in examples.ids}
        for specification in self.bundle.card.inputs.values():
            lengths = examples.stream(specification.stream).ragged.lengths
            for name, length in zip(examples.ids, lengths, strict=True):
                if length:
                    found[name].add(specification.modality)
        return {name: tuple(sorted(modalities)) for name, modalities in found.items()}

    def _forward(self, examples: Examples) -> np.ndarray:
        outputs = self.task.outputs
        if not len(examples):
            return np.zeros((0, outputs), dtype=np.float32)
        return forward_all(self.system, batches_of(self.bundle, examples), outputs)


def as_text(result: Mapping[str, Any], task: Task) -> str:
    """One answer in a few readable lines."""
    name = result["utterance_id"]
    if result["problem"]:
        return f"{name}: no answer: {result['problem']}"
    lines = []
    if task.kind == "regression":
        lines.append(f"{name}: {task.name} {result[task.name]:+.2f} on [{task.low:g}, {task.high:g}]")
    else:
        ranked = sorted(task.classes, key=lambda label: -result[f"probability_{label}"])
        listed = ", ".join(f"{label} {result[f'probability_{label}']:.0%}" for label in ranked[:3])
        lines.append(f"{name}: {task.name} {result[task.name] or 'none'} ({listed})")
    lines.append(f"  from {str(result['modalities']).replace('+', ', ')}")
    return "\n".join(lines)
