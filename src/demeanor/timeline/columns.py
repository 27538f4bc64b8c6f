"""A timeline as a flat table and back: the columns that CSV, Parquet and pandas show.

With one task its columns have plain names (`low`, `probability_happiness`); with several, those of task X end in `_X`.
The answer itself stands in a column that is called as the task is. `word_times` is a list of {word, start, end,
confidence}, in a CSV the same as JSON text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from demeanor.data.task import Task
from demeanor.timeline.table import Answer, Header, Span, SpokenWord, Timeline

MODALITIES = ("text", "audio", "vision")
WHERE = ("recording", "span", "parent", "start", "end", "speaker", "speaker_confidence", "overlap")
WORDS = ("text", "text_source", "text_confidence", "word_times", "language")
NUMBERS = ("low", "high", "confidence")


def columns_of(tasks: Sequence[Task]) -> list[str]:
    """Names of all columns, in order."""
    names = [*WHERE, *WORDS, "modalities", *(f"absent_{modality}" for modality in MODALITIES)]
    for task in tasks:
        end = _end(task, tasks)
        names += [task.name, *(f"probability_{label}{end}" for label in task.classes)]
        names += [f"{name}{end}" for name in (*NUMBERS, "answered")]
        names += [f"contribution_{modality}{end}" for modality in MODALITIES] + [f"conflict{end}", f"notes{end}"]
    return [*names, "problem"]


def _end(task: Task, tasks: Sequence[Task]) -> str:
    return "" if len(tasks) == 1 else f"_{task.name}"


def frame_of(timeline: Timeline) -> pd.DataFrame:
    """One row per span. Missing numbers are NaN, a missing text is None; `answered` is a bool."""
    tasks = timeline.tasks
    names = columns_of(tasks)
    table = pd.DataFrame([_row(span, tasks) for span in timeline.spans], columns=names, dtype=object)
    numbers = [name for name in names if name in _numbers(tasks)]
    table[numbers] = table[numbers].astype(float)
    flags = [f"answered{_end(task, tasks)}" for task in tasks]
    return table.astype(dict.fromkeys(flags, bool)) if flags else table


def _numbers(tasks: Sequence[Task]) -> set[str]:
    found = {"start", "end", "speaker_confidence", "overlap", "text_confidence"}
    for task in tasks:
        end = _end(task, tasks)
        found |= {f"{name}{end}" for name in (*NUMBERS, "conflict")}
        found |= {f"probability_{label}{end}" for label in task.classes}
        found |= {f"contribution_{modality}{end}" for modality in MODALITIES}
        found |= {task.name} if task.kind == "regression" else set()
    return found


def _row(span: Span, tasks: Sequence[Task]) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(span, name) for name in (*WHERE, *WORDS, "problem")}
    row["word_times"] = [asdict(word) for word in span.word_times]
    row["modalities"] = "+".join(span.modalities)
    row |= {f"absent_{modality}": span.absent.get(modality, "") for modality in MODALITIES}
    for task in tasks:
        end, answer = _end(task, tasks), span.answers[task.name]
        row[task.name] = answer.value
        row |= {f"{name}{end}": getattr(answer, name) for name in (*NUMBERS, "answered", "conflict", "notes")}
        row |= {f"probability_{label}{end}": answer.probabilities.get(label) for label in task.classes}
        row |= {f"contribution_{modality}{end}": answer.contributions.get(modality) for modality in MODALITIES}
    return row


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The same table for a file of text: times of words as JSON, empty where there are none."""
    told = [json.dumps(words, ensure_ascii=False) if words else "" for words in table["word_times"]]
    return table.assign(word_times=told)


def timeline_of(table: pd.DataFrame, header: Header) -> Timeline:
    """The timeline of a flat table that `frame_of` made and a file has kept."""
    tasks = tuple(model.task for model in header.models)
    return Timeline(header, tuple(_span(row, tasks) for row in table.to_dict(orient="records")))


def _span(row: dict[Any, Any], tasks: Sequence[Task]) -> Span:
    def word(name: str) -> str:
        return "" if _missing(row.get(name)) else str(row[name])

    answers = {task.name: _answer(row, task, _end(task, tasks)) for task in tasks}
    return Span(
        recording=word("recording"), span=word("span"), parent=word("parent"), start=float(row["start"]),
        end=float(row["end"]), speaker=word("speaker"), speaker_confidence=_number(row.get("speaker_confidence")),
        overlap=_number(row.get("overlap")) or 0.0, text=word("text") or None, text_source=word("text_source"),
        text_confidence=_number(row.get("text_confidence")), word_times=_words(row.get("word_times")),
        language=word("language"),
        modalities=tuple(part for part in word("modalities").split("+") if part),
        absent={name: word(f"absent_{name}") for name in MODALITIES if word(f"absent_{name}")},
        answers=answers, problem=word("problem"),
    )  # fmt: skip


def _answer(row: dict[Any, Any], task: Task, end: str) -> Answer:
    value = row.get(task.name)
    answered = row.get(f"answered{end}")
    shares = {label: _number(row.get(f"probability_{label}{end}")) for label in task.classes}
    parts = {name: _number(row.get(f"contribution_{name}{end}")) for name in MODALITIES}
    notes = row.get(f"notes{end}")
    given = str(answered).strip().lower() in ("true", "1", "1.0")
    number = _number(value) if task.kind == "regression" else None
    # Of several classes none may be the answer, which is no text and still an answer.
    label = None if task.kind == "regression" else str(value) if not _missing(value) else "" if given else None
    return Answer(
        value=number if task.kind == "regression" else label,
        probabilities={label: share for label, share in shares.items() if share is not None},
        low=_number(row.get(f"low{end}")), high=_number(row.get(f"high{end}")),
        confidence=_number(row.get(f"confidence{end}")), answered=given,
        contributions={name: part for name, part in parts.items() if part is not None},
        conflict=_number(row.get(f"conflict{end}")), notes="" if _missing(notes) else str(notes),
    )  # fmt: skip


def _words(value: Any) -> tuple[SpokenWord, ...]:
    """Of a list of mappings, or of the same as JSON text; a file without the column has none."""
    if isinstance(value, str):
        value = json.loads(value) if value else []
    return tuple(
        SpokenWord(str(one["word"]), float(one["start"]), float(one["end"]), _number(one.get("confidence")))
        for one in ([] if value is None or isinstance(value, float) else value)
    )


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value == "" or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    return None if _missing(value) else float(value)
