"""Task: what is predicted, said once; head, loss, metrics and label names follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ConfigDict, Field, RootModel, model_validator

from demeanor.data.errors import InputError, nearest
from demeanor.data.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

IGNORED = -1
"""Class index of an utterance without a label: no loss, no metric."""
Better = Literal["min", "max"]
SELECTION: dict[str, tuple[str, Better]] = {
    "regression": ("MAE", "min"),
    "classification": ("weighted_F1", "max"),
    "multilabel": ("macro_F1", "max"),
}
"""Kind of task -> the metric that chooses, and its direction."""


class Task(Settings):
    """For example "sentiment, regression, [-3, 3]" or "emotion, one of 4".

    kind            what is learnt: a number, one of `classes`, or any number of `classes`
    column          label column of the utterances table (for multilabel: the prefix; columns are column_<class>)
    low, high       range of a regression label; labels outside are an error, predictions may leave it
    classes         class names in order of their index
    cut             makes two classes out of a number: "non_negative" (y >= 0) or "positive" (y > 0, zero dropped)
    merge           label -> class, for corpora that merge labels (IEMOCAP's excitement into happiness)
    convention      which published definition of the regression metrics: "mosi" (MOSI, MOSEI) or "sims"
    unimodal        modality -> column of that modality's own label, where a corpus has them (CH-SIMS, the demo)
    """

    name: str
    kind: Literal["regression", "classification", "multilabel"]
    column: str
    low: float = -3.0
    high: float = 3.0
    classes: tuple[str, ...] = ()
    cut: Literal["non_negative", "positive"] | None = None
    merge: dict[str, str] = Field(default_factory=dict)
    convention: Literal["mosi", "sims"] = "mosi"
    unimodal: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if self.kind == "regression" and self.low >= self.high:
            raise ValueError(f"task '{self.name}': low {self.low} must be below high {self.high}")
        if self.kind != "regression" and len(self.classes) < 1 + (self.kind == "classification"):
            raise ValueError(f"task '{self.name}': a {self.kind} task needs its classes")
        if self.cut and len(self.classes) != 2:
            raise ValueError(f"task '{self.name}': a cut makes two classes, {len(self.classes)} are named")
        return self

    @property
    def outputs(self) -> int:
        """Width of a model's head."""
        return 1 if self.kind == "regression" else len(self.classes)

    @property
    def selection_metric(self) -> tuple[str, Better]:
        """Validation metric that chooses epochs and systems, unless training says otherwise, and its direction."""
        return SELECTION[self.kind]

    def targets(self, table: pd.DataFrame) -> np.ndarray:
        """Labels of an utterances table.

        regression [N] float32, NaN where missing; classification [N] int64, -1 where missing or not a class of
        this task; multilabel [N, C] float32 in {0, 1}, NaN where missing.
        InputError if the table lacks a column of the task.
        """
        columns = [f"{self.column}_{name}" for name in self.classes] if self.kind == "multilabel" else [self.column]
        missing = [name for name in columns if name not in table]
        if missing:
            raise InputError(
                f"task '{self.name}'",
                [f"the utterances have no column '{name}'.{nearest(name, table.columns)}" for name in missing],
            )
        if self.kind == "regression":
            return table[self.column].to_numpy(dtype=np.float32, copy=True)
        if self.kind == "multilabel":
            known = table[columns].to_numpy(dtype=np.float32, copy=True)
            return np.where(np.isnan(known), np.nan, (known > 0).astype(np.float32)).astype(np.float32)
        if self.cut:
            values = table[self.column].to_numpy(dtype=np.float32, copy=True)
            index = (values >= 0 if self.cut == "non_negative" else values > 0).astype(np.int64)
            dropped = np.isnan(values) | ((values == 0) if self.cut == "positive" else False)
            return np.where(dropped, IGNORED, index)
        order = {name: n for n, name in enumerate(self.classes)}
        merged = (self.merge.get(name, name) for name in table[self.column].astype(object))
        return np.array([order.get(name, IGNORED) for name in merged], dtype=np.int64)

    def unimodal_targets(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        """Modality -> labels [N] float32, for the modalities whose own labels the corpus has."""
        return {
            modality: table[column].to_numpy(dtype=np.float32, copy=True)
            for modality, column in self.unimodal.items()
            if column in table
        }

    def labelled(self, table: pd.DataFrame) -> np.ndarray:
        """[N] True where there is a label to learn from or to score against."""
        values = self.targets(table)
        if self.kind == "classification":
            return values != IGNORED
        return ~np.isnan(values) if values.ndim == 1 else ~np.isnan(values).any(axis=1)

    def describe(self) -> str:
        """The task in one line, for people."""
        if self.kind == "regression":
            return f"{self.name}: regression in [{self.low:g}, {self.high:g}]"
        how = "one of" if self.kind == "classification" else "any of"
        return f"{self.name}: {how} {', '.join(self.classes)}"


class Tasks(RootModel[dict[str, Task]]):
    """The tasks of a corpus by name; the first one is the main one."""

    model_config = ConfigDict(frozen=True)

    def __getitem__(self, name: str) -> Task:
        if name not in self.root:
            raise InputError("parameter 'tasks'", [f"there is no task '{name}'.{nearest(name, self.root)}"])
        return self.root[name]

    @property
    def first(self) -> Task:
        """The task that comes first: a branch that names none is trained for it."""
        return next(iter(self.root.values()))
