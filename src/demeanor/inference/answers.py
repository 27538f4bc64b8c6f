"""Answers as JSON has them: null where there is no number, never NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


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
