"""Where a model's outputs become an answer, as a table, as JSON or as text: the one place that knows its columns.

A new kind of answer is a value of `BundleCard.kind`, a network for it in demeanor.inference.predict.NETWORKS, and its
columns here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from demeanor.data.bundle import BundleCard
from demeanor.data.calibration import calibrated_probabilities, class_sets, confidences, intervals, subset_name

if TYPE_CHECKING:
    from demeanor.inference.extraction import Extracted

Column = Literal["text", "number", "vector", "flag"]
UNCALIBRATED = "uncalibrated"
#: What an answer says of a modality that the model reads and was not given.
ABSENT = {"text": "no words", "audio": "no voice in it", "vision": "no face in it"}


def columns_of(card: BundleCard) -> dict[str, Column]:
    """Name -> type of the columns that `describe` makes for a model."""
    task = card.task
    columns: dict[str, Column]
    if card.kind == "embeds":
        columns = {"embedding": "vector"}
        return {**columns, "modalities": "text", "notes": "text"}
    if task.kind == "regression":
        columns = {task.name: "number", "low": "number", "high": "number"}
    else:
        columns = {task.name: "text", **{f"probability_{name}": "number" for name in task.classes}, "set": "text"}
    return {**columns, "confidence": "number", "answered": "flag", "modalities": "text", "notes": "text"}


def describe(
    card: BundleCard,
    outputs: Float[np.ndarray, "utterances outputs"],
    modalities: Sequence[Collection[str]],
    languages: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row per utterance, with the columns of `columns_of`.

    Probabilities are calibrated where the card has a calibration. low and high (of a number) or set (classes joined by
    "+") hold the label as often as the calibration says; without one they are empty, and so is the confidence of a
    number. confidence is how likely the answer is right, in the sense of demeanor.evaluation.conformal.losses. answered
    is false where it is below what the calibration asks for: the answer then stands there for whoever wants it all the
    same. notes say what of an utterance the model was not trained or calibrated for; `completed` adds how its
    recording was read.

    outputs     numbers, logits, or the vectors of a representation, NaN where there is none
    modalities  of each utterance, those that the model was given
    languages   of each utterance, where they are known
    """
    if card.kind == "embeds":
        known = ~np.isnan(outputs).any(axis=1)
        vectors = [row.astype(float).tolist() if there else None for row, there in zip(outputs, known, strict=True)]
        answers = pd.DataFrame({"embedding": pd.Series(vectors, dtype="object")})
        return answers.assign(modalities=_texts("+".join(sorted(given)) for given in modalities), notes="")
    names = np.array([subset_name(card.seen(given)) for given in modalities], dtype=object)
    answers = _of_task(card, outputs, names)
    sure = confidences(card.task, outputs, card.calibration, names)
    below = None if card.calibration is None else card.calibration.below
    answered = np.ones(len(sure), dtype=bool) if below is None else sure >= below
    spoken = [None] * len(sure) if languages is None else languages
    notes = [notes_of(card, *of_row) for of_row in zip(names, spoken, answered.tolist(), sure.tolist(), strict=True)]
    return answers.assign(
        confidence=sure,
        answered=answered,
        modalities=_texts("+".join(sorted(given)) for given in modalities),
        notes=_texts("; ".join(lines) for lines in notes),
    )


def _texts(values: Iterable[str]) -> pd.Series:
    return pd.Series(list(values), dtype="object")


def _of_task(card: BundleCard, outputs: Float[np.ndarray, "utterances outputs"], names: np.ndarray) -> pd.DataFrame:
    task, calibration = card.task, card.calibration
    if task.kind == "regression":
        nothing = np.full(len(outputs), np.nan)
        low, high = (nothing, nothing) if calibration is None else intervals(task, outputs, calibration, names)
        return pd.DataFrame({task.name: outputs[:, 0].astype(float), "low": low, "high": high})
    chances = calibrated_probabilities(task, outputs, calibration, names) if len(outputs) else outputs.astype(float)
    # By the outputs, for no temperature changes which of them is the largest, or above zero.
    if task.kind == "classification":
        chosen = [task.classes[index] for index in outputs.argmax(axis=1)] if len(outputs) else []
    else:
        chosen = ["+".join(np.array(task.classes)[row > 0]) for row in outputs]
    named = {f"probability_{name}": chances[:, n] for n, name in enumerate(task.classes)}
    sets = [""] * len(outputs)
    if calibration is not None:
        sets = ["+".join(np.array(task.classes)[row]) for row in class_sets(task, chances, calibration, names)]
    return pd.DataFrame({task.name: _texts(chosen), **named, "set": _texts(sets)})


def notes_of(card: BundleCard, modalities: str, language: str | None, answered: bool, confidence: float) -> list[str]:
    """What an answer says of itself: what the model was not given, not trained for or not calibrated for, and why it is
    withheld. `modalities` is a subset_name of what the card names so."""
    given = set(modalities.split("+"))
    notes = [ABSENT.get(name, f"no {name}") for name in card.modalities if name not in given]
    known = card.protocol.get("languages")
    if language is not None and known and "text" in given and language not in known:
        notes.append(f"language {language}: trained on {', '.join(known)}")
    calibration = card.calibration
    if calibration is None:
        return [*notes, UNCALIBRATED]
    if modalities not in calibration.subsets:
        notes.append(f"calibrated on all clips together: too few of validation had {modalities.replace('+', ' and ')}")
    if not answered:
        notes.append(
            f"withheld: a confidence of {confidence:.2f} is below {calibration.below:.2f}, which keeps wrong answers "
            f"at {calibration.risk:.0%} on validation"
        )
    return notes


def completed(answers: pd.DataFrame, read: Extracted) -> pd.DataFrame:
    """A row per row that was given, where `answers`, with `modalities`, has one per example: with its problem, the
    transcript where that was recognised, where its words came from (given, or recognised by a model), and with the
    notes of the answer those of how its recording was read."""
    result = answers.set_index(pd.Index(read.examples.ids)).reindex(read.ids)
    result.insert(0, "utterance_id", result.index)
    if "notes" not in result:  # not every model has something to say of its answers
        result["notes"] = ""
    for name in ("modalities", "notes"):
        result[name] = result[name].astype(object).where(result[name].notna(), "")
    result["notes"] = [
        "; ".join(filter(None, (said, *read.notes.get(str(name), ())))) for name, said in result["notes"].items()
    ]
    if "answered" in result:
        # There is no answer to a row with a problem, hence none that is given.
        result["answered"] = [value is True or value is np.True_ for value in result["answered"]]
    result["problem"] = [read.problems.get(name) or read.broken.get(name, "") for name in result.index]
    heard = [read.heard.get(name) for name in result.index]
    result["transcript"] = [(one and one.text) or "" for one in heard]
    result["transcript_source"] = [
        (one and one.source) or ("given" if name in read.given else "")
        for name, one in zip(result.index, heard, strict=True)
    ]
    return result.reset_index(drop=True)


def as_text(result: Mapping[str, Any], card: BundleCard) -> str:
    """One answer in a few readable lines."""
    name, task = result["utterance_id"], card.task
    if result["problem"] and not result["modalities"]:
        noted = f"\n  {result['notes']}" if result.get("notes") else ""
        return f"{name}: no answer: {result['problem']}{noted}"
    if card.kind == "embeds":
        lines = [f"{name}: a vector of {len(result['embedding'] or ())} numbers (--json prints them)"]
    elif task.kind == "regression":
        lines = [f"{name}: {task.name} {result[task.name]:+.2f} on [{task.low:g}, {task.high:g}]{_sure(result, card)}"]
    else:
        ranked = sorted(task.classes, key=lambda label: -result[f"probability_{label}"])
        listed = ", ".join(f"{label} {result[f'probability_{label}']:.0%}" for label in ranked[:3])
        lines = [f"{name}: {task.name} {result[task.name] or 'none'} ({listed}){_sure(result, card)}"]
    if result.get("answered") is False:
        lines[0] = f"{lines[0]}: withheld"
    if "baseline" in result:
        lines.append(reasons(result, card))
    lines.append(f"  from {str(result['modalities']).replace('+', ', ')}")
    if result.get("transcript"):
        lines.append(f"  words, {result['transcript_source']}: {result['transcript']}")
    lines += [f"  {text}" for text in (result.get("notes"), result["problem"]) if text]
    return "\n".join(lines)


def _sure(result: Mapping[str, Any], card: BundleCard) -> str:
    """The interval or set of an answer, as the end of its line."""
    if card.calibration is None:
        return ""
    promised = f"{card.calibration.coverage:.0%}"
    if card.task.kind == "regression":
        middle = (card.task.low + card.task.high) / 2
        side = "above" if result[card.task.name] >= middle else "below"
        return (
            f", {promised} within {result['low']:+.2f} .. {result['high']:+.2f}, "
            f"{result['confidence']:.0%} sure that it is {side} {middle:g}"
        )
    return f", {promised} within {result['set'].replace('+', ', ') or 'none'}"


def reasons(result: Mapping[str, Any], card: BundleCard) -> str:
    """Contributions of the modalities, the largest first, in a line."""
    start = "contribution_"
    parts = {key.removeprefix(start): value for key, value in result.items() if key.startswith(start)}
    ranked = sorted(parts, key=lambda name: -abs(parts[name]))
    unit = "" if card.task.kind == "regression" else " in probability"
    listed = ", ".join(f"{name} {parts[name]:+.2f}" for name in ranked)
    torn = "; they contradict each other" if result.get("conflict") else ""
    return f"  because of {listed}{unit}, from {result['baseline']:+.2f} without any of them{torn}"


def records_of(answers: pd.DataFrame) -> list[dict[str, Any]]:
    """One mapping per row, ready for JSON."""
    return [plain(row) for row in answers.to_dict(orient="records")]


def without_nan(answers: pd.DataFrame) -> pd.DataFrame:
    """The table with None for whatever is missing; a column in which nothing is keeps its type."""
    return pd.DataFrame(
        {
            name: answers[name] if _complete(answers[name]) else pd.Series(map(plain, answers[name]), dtype=object)
            for name in answers
        }
    )


def _complete(column: pd.Series) -> bool:
    return not column.isna().any() and not (column.dtype.kind == "f" and np.isinf(column).any())


def plain(value: Any) -> Any:
    """`value` with numbers of Python's own, and None for what is missing or not finite; lists and mappings within."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.bool_):
        return bool(value)
    return None if value is pd.NA or value is pd.NaT else value
