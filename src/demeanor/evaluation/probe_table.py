"""What a linear probe makes of several representations, as one table that a reader can judge them by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from demeanor.data.task import Task
from demeanor.evaluation.metrics import direction_of
from demeanor.evaluation.tables import ABSENT, aligned

#: Columns of the table by kind of task; of the first one the 95 % interval is shown, too.
SHOWN = {
    "regression": ("Corr", "MAE", "non_negative.UAR", "positive.UAR"),
    "classification": ("UAR", "macro_F1", "weighted_F1", "accuracy"),
    "multilabel": ("UAR", "macro_F1", "weighted_F1", "accuracy"),
}


def probe_to_markdown(probe: pd.DataFrame, tasks: Sequence[Task], split: str = "valid") -> str:
    """One table per task; rows are representations, the majority (or mean) first."""
    parts = []
    for task in tasks:
        table = probe[probe["task"] == task.name]
        if not len(table):
            continue
        metrics = [name for name in SHOWN[task.kind] if name in table]
        header = ["representation", "R", metrics[0], "95% interval", *metrics[1:]]
        header = [
            name + (" ↓" if direction_of(name) == "min" else " ↑") if name in metrics else name for name in header
        ]
        body = [
            [
                str(row["representation"]).replace("_", " "), _number(row.get("dimension"), 0),
                _number(row[metrics[0]]), _interval(row, metrics[0]), *(_number(row[name]) for name in metrics[1:]),
            ]
            for _, row in table.iterrows()
        ]  # fmt: skip
        rows = int(table["utterances"].max())
        parts.append(
            "\n".join(
                [
                    f"{task.describe()}: a linear probe on {rows} utterances of the {split} split",
                    "",
                    *aligned(header, body),
                ]
            )
        )
    return "\n\n".join(parts) + "\n" if parts else "No representation was probed.\n"


def _number(value: object, decimals: int = 3) -> str:
    number = float(value) if isinstance(value, int | float | np.number) else float("nan")
    return ABSENT if np.isnan(number) else f"{number:.{decimals}f}"


def _interval(row: pd.Series, metric: str) -> str:
    low, high = row.get(f"{metric}.low", np.nan), row.get(f"{metric}.high", np.nan)
    return ABSENT if pd.isna(low) else f"{_number(low)} to {_number(high)}"
