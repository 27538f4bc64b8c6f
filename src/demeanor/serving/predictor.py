"""A bundle that answers for raw recordings: the extractors of its training, its model, readable results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.bundle import Bundle
from demeanor.data.examples import Examples
from demeanor.data.task import Task
from demeanor.inference.extraction import Extraction
from demeanor.inference.predict import batches_of, build, check_provenance, forward_all, with_representations
from demeanor.inference.reach import EVERYWHERE, Reach
from demeanor.inference.recordings import Rows


class Predictor:
    """Scores raw rows (see demeanor.inference.recordings.COLUMNS) or examples with features of the same making."""

    def __init__(self, bundle: Bundle, reach: Reach = EVERYWHERE):
        """`reach`: which files of this machine a row may name. A server gives `Reach.of_server()`."""
        self.bundle = bundle
        self.system = build(bundle)
        self.extraction = Extraction(bundle.card, reach)

    @classmethod
    def load(cls, folder: Path | str, reach: Reach = EVERYWHERE) -> Predictor:
        return cls(Bundle.load(folder), reach)

    @property
    def task(self) -> Task:
        return self.bundle.card.task

    def predict(self, rows: Rows) -> pd.DataFrame:
        """One row per input row, in order.

        Columns: utterance_id; for regression <task>, else <task> (the class) and probability_<class>; modalities
        (those that were used, joined by "+", empty where there is no answer); problem (why there is no answer, or what
        of the row could not be decoded and was left out of it, else empty); transcript (words that were recognised, for
        rows that have sound and no text); transcript_source (given, or by which model).
        """
        read = self.extraction(rows)
        return read.complete(self.describe(self._forward(read.examples)))

    def predict_examples(self, examples: Examples) -> pd.DataFrame:
        """The same for examples; features of another making are refused with the differences."""
        examples = with_representations(self.bundle, examples)
        check_provenance(self.bundle, examples)
        answers = self.describe(self._forward(examples))
        answers.insert(0, "utterance_id", examples.ids)
        used = self.extraction.modalities(examples)
        given = ["given" if isinstance(text, str) else "" for text in examples.utterances["text"]]
        return answers.assign(
            modalities=["+".join(used[name]) for name in examples.ids], problem="", transcript="",
            transcript_source=given,
        )  # fmt: skip

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

    def _forward(self, examples: Examples) -> np.ndarray:
        outputs = self.task.outputs
        if not len(examples):
            return np.zeros((0, outputs), dtype=np.float32)
        examples = with_representations(self.bundle, examples)
        return forward_all(self.system, batches_of(self.bundle, examples), outputs)


def as_text(result: Mapping[str, Any], task: Task) -> str:
    """One answer in a few readable lines."""
    name = result["utterance_id"]
    if result["problem"] and not result["modalities"]:
        return f"{name}: no answer: {result['problem']}"
    lines = []
    if task.kind == "regression":
        lines.append(f"{name}: {task.name} {result[task.name]:+.2f} on [{task.low:g}, {task.high:g}]")
    else:
        ranked = sorted(task.classes, key=lambda label: -result[f"probability_{label}"])
        listed = ", ".join(f"{label} {result[f'probability_{label}']:.0%}" for label in ranked[:3])
        lines.append(f"{name}: {task.name} {result[task.name] or 'none'} ({listed})")
    lines.append(f"  from {str(result['modalities']).replace('+', ', ')}")
    if result.get("transcript"):
        lines.append(f"  words, {result['transcript_source']}: {result['transcript']}")
    lines += [f"  {result['problem']}"] if result["problem"] else []
    return "\n".join(lines)
