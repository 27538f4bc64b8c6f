"""What kedro viz shows of a dataset that is clicked on.

It knows the kind by the name of the type that `preview()` is annotated with: these are its names
(https://docs.kedro.org/projects/kedro-viz/en/latest/preview_custom_datasets/).
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NewType

TablePreview = NewType("TablePreview", dict[str, Any])
HTMLPreview = NewType("HTMLPreview", str)

#: A longer text is cut: the page holds the previews of all datasets at once.
LONGEST_TEXT = 20_000


def table_of(rows: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]]) -> TablePreview:
    """Rows, by name or in order, as kedro viz wants a table; a column that a row lacks is empty there.

    Numbers are rounded to four decimals: what is shown is looked at, not computed with.
    """
    named = rows if isinstance(rows, Mapping) else {str(number): row for number, row in enumerate(rows, 1)}
    columns = list(dict.fromkeys(column for row in named.values() for column in row))
    data = [[_shown(row.get(column)) for column in columns] for row in named.values()]
    return TablePreview({"index": list(named), "columns": columns, "data": data})


def text_of(text: str, is_page: bool) -> HTMLPreview:
    """A page as it is, any other text as it is typed, at most LONGEST_TEXT characters of it."""
    if is_page:
        return HTMLPreview(text)
    rest = len(text) - LONGEST_TEXT
    cut = text if rest <= 0 else f"{text[:LONGEST_TEXT]}\n... and {rest} characters more"
    return HTMLPreview(f"<pre>{html.escape(cut)}</pre>")


def _shown(value: Any) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else str(value)  # NaN is no JSON
    return value if isinstance(value, str | int) else str(value)
