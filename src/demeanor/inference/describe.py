"""Where a model's outputs become an answer: the one place that knows the columns of answers.

A new kind of answer is a value of `BundleCard.kind`, a network for it in demeanor.inference.model.NETWORKS, and its
columns here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from demeanor.data.bundle import BundleCard
from demeanor.data.task import Task

Column = Literal["text", "number", "vector"]


def columns_of(card: BundleCard) -> dict[str, Column]:
    """Name -> type of the columns that `describe` makes for a model."""
    task = card.task
    columns: dict[str, Column]
    if card.kind == "embeds":
        columns = {"embedding": "vector"}
    elif task.kind == "regression":
        columns = {task.name: "number"}
    else:
        columns = {task.name: "text", **{f"probability_{name}": "number" for name in task.classes}}
    return {**columns, "modalities": "text"}


def describe(
    card: BundleCard, outputs: Float[np.ndarray, "utterances outputs"], modalities: Sequence[Collection[str]]
) -> pd.DataFrame:
    """One row per utterance, with the columns of `columns_of`.

    outputs     numbers, logits, or the vectors of a representation, NaN where there is none
    modalities  of each utterance, those that the model was given
    """
    if card.kind == "embeds":
        known = ~np.isnan(outputs).any(axis=1)
        vectors = [row.astype(float).tolist() if there else None for row, there in zip(outputs, known, strict=True)]
        answers = pd.DataFrame({"embedding": pd.Series(vectors, dtype="object")})
    else:
        answers = _of_task(card.task, outputs)
    return answers.assign(modalities=pd.Series(["+".join(sorted(given)) for given in modalities], dtype="object"))


def _of_task(task: Task, outputs: Float[np.ndarray, "utterances outputs"]) -> pd.DataFrame:
    if task.kind == "regression":
        return pd.DataFrame({task.name: outputs[:, 0].astype(float)})
    if task.kind == "classification":
        shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True)) if len(outputs) else outputs
        probabilities = shifted / shifted.sum(axis=1, keepdims=True) if len(outputs) else outputs
        chosen = [task.classes[index] for index in probabilities.argmax(axis=1)] if len(outputs) else []
    else:
        probabilities = 1.0 / (1.0 + np.exp(-outputs))
        chosen = ["+".join(np.array(task.classes)[row > 0.5]) for row in probabilities]
    named = {f"probability_{name}": probabilities[:, n].astype(float) for n, name in enumerate(task.classes)}
    return pd.DataFrame({task.name: pd.Series(chosen, dtype="object"), **named})


def as_text(result: Mapping[str, Any], card: BundleCard) -> str:
    """One answer in a few readable lines."""
    name, task = result["utterance_id"], card.task
    if result["problem"] and not result["modalities"]:
        return f"{name}: no answer: {result['problem']}"
    if card.kind == "embeds":
        lines = [f"{name}: a vector of {len(result['embedding'] or ())} numbers (--json prints them)"]
    elif task.kind == "regression":
        lines = [f"{name}: {task.name} {result[task.name]:+.2f} on [{task.low:g}, {task.high:g}]"]
    else:
        ranked = sorted(task.classes, key=lambda label: -result[f"probability_{label}"])
        listed = ", ".join(f"{label} {result[f'probability_{label}']:.0%}" for label in ranked[:3])
        lines = [f"{name}: {task.name} {result[task.name] or 'none'} ({listed})"]
    lines.append(f"  from {str(result['modalities']).replace('+', ', ')}")
    lines += [f"  {result['problem']}"] if result["problem"] else []
    return "\n".join(lines)
