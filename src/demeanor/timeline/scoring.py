"""Models that answer for rows, here or in processes of their own, and their answers as the timeline has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from demeanor.data.cells import missing
from demeanor.data.task import Task
from demeanor.inference.describe import records_of
from demeanor.timeline.columns import MODALITIES
from demeanor.timeline.table import Answer, ModelHeader

Row = Mapping[str, Any]
#: So few batches are not worth starting processes for, each of which loads all models.
WORTH = 3
#: For each model the answers to some rows, as records in their order.
Answers = list[list[dict[str, Any]]]


@runtime_checkable
class Scorer(Protocol):
    """Some models that answer for the same rows."""

    @property
    def headers(self) -> tuple[ModelHeader, ...]:
        """What each model says of itself in a timeline's header."""

    @property
    def in_dialogue(self) -> bool:
        """Does a model read the other turns of the conversation?"""
        ...

    def score(self, rows: Sequence[Row]) -> Sequence[pd.DataFrame]:
        """One table per model, a row per row; see demeanor.data.raw_rows.COLUMNS for the rows."""
        ...


def answer_of(record: Mapping[str, Any], task: Task) -> Answer:
    """The answer in one record of a model; what the model does not give (an interval, say) is None."""

    def number(name: str) -> float | None:
        value = record.get(name)
        return None if missing(value) else float(value)  # type: ignore[arg-type]

    value = record.get(task.name)
    of_several = task.kind == "multilabel" and isinstance(value, str)
    notes = str(record.get("notes") or "")
    if not record.get("modalities") or (missing(value) and not of_several):
        return Answer(notes=notes)
    shares = {label: number(f"probability_{label}") for label in task.classes}
    probabilities = {label: share for label, share in shares.items() if share is not None}
    confidence = number("confidence")
    if confidence is None and task.kind == "classification" and probabilities:
        confidence = max(probabilities.values())
    parts = {name: number(f"contribution_{name}") for name in MODALITIES}
    answered = record.get("answered")
    return Answer(
        value=float(value) if task.kind == "regression" and value is not None else str(value),
        probabilities=probabilities, low=number("low"), high=number("high"), confidence=confidence,
        answered=answered is None or bool(answered),
        contributions={name: part for name, part in parts.items() if part is not None}, conflict=number("conflict"),
        notes=notes,
    )  # fmt: skip


def mean_answer(answers: Sequence[Answer], task: Task) -> Answer:
    """One answer for an utterance from those of its windows: means of numbers and of probabilities."""
    given = [answer for answer in answers if answer.answered and answer.value is not None]
    if not given:
        return Answer()

    def mean(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    shares = {label: mean(answer.probabilities.get(label) for answer in given) for label in task.classes}
    probabilities = {label: share for label, share in shares.items() if share is not None}
    value: float | str | None
    if task.kind == "regression":
        value = mean(float(answer.value) for answer in given if answer.value is not None)
    elif task.kind == "classification":
        value = max(probabilities, key=lambda label: probabilities[label])
    else:
        value = "+".join(label for label, share in probabilities.items() if share > 0.5)
    names = {name for answer in given for name in answer.contributions}
    parts = {name: mean(answer.contributions.get(name) for answer in given) for name in sorted(names)}
    return Answer(
        value=value, probabilities=probabilities, low=mean(answer.low for answer in given),
        high=mean(answer.high for answer in given), confidence=mean(answer.confidence for answer in given),
        answered=True, contributions={name: part for name, part in parts.items() if part is not None},
        conflict=mean(answer.conflict for answer in given),
        notes="; ".join(dict.fromkeys(answer.notes for answer in given if answer.notes)),
    )  # fmt: skip


_scorer: list[Scorer] = []


def _start(make: Callable[[], Scorer]) -> None:
    """What a worker does first: it loads its own models and keeps to one thread."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    _scorer[:] = [make()]


def _work(rows: Sequence[Row]) -> Answers:
    return [records_of(table) for table in _scorer[0].score(rows)]


def score_all(
    batches: Sequence[Sequence[Row]], scorer: Scorer, make: Callable[[], Scorer] | None = None, processes: int = 1
) -> Iterator[tuple[int, Answers]]:
    """(number of the batch, its answers) as they come; the answers do not depend on the number of processes.

    make  makes the scorer again in another process; without it everything is done here
    """
    if make is None or processes <= 1 or len(batches) <= WORTH:
        for number, rows in enumerate(batches):
            yield number, [records_of(table) for table in scorer.score(rows)]
        return
    from joblib.externals.loky import ProcessPoolExecutor

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    pool = ProcessPoolExecutor(
        max_workers=min(processes, len(batches)), initializer=_start, initargs=(make,), env=dict.fromkeys(names, "1")
    )
    try:
        flying: dict[Future, int] = {}
        waiting = iter(enumerate(batches))
        while True:
            while len(flying) < 2 * processes and (following := next(waiting, None)) is not None:
                flying[pool.submit(_work, following[1])] = following[0]
            if not flying:
                return
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                yield flying.pop(future), future.result()
    finally:
        pool.shutdown(wait=True, kill_workers=True)
