"""Comparison tables as markdown that reads as well in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from demeanor.data.errors import InputError, nearest
from demeanor.data.task import Task
from demeanor.evaluation.metrics import metrics_of, primary_metrics

ABSENT = "-"


def to_markdown(
    task: Task,
    table: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    reference: Mapping[str, Mapping[str, float]] | None = None,
    decimals: int = 3,
    notes: bool = True,
) -> str:
    """What `compare` made, as a markdown table with aligned columns.

    metrics     columns shown, by default the task's primary metrics; the first one with its interval
    reference   label -> metrics that were not measured but are known, such as the planted ceilings of the demo;
                shown as the last rows
    notes       a line above that says what was scored and one below that says how to read it

    InputError for a metric that is not there.
    """
    shown = list(metrics or primary_metrics(task))
    known = metrics_of(task)
    unknown = [f"there is no metric '{name}'.{nearest(name, known)}" for name in shown if name not in known]
    if unknown:
        raise InputError(f"task '{task.name}'", unknown)
    arrows = {name: "↓" if known[name].better == "min" else "↑" for name in shown}
    header = ["system", "seeds", f"{shown[0]} {arrows[shown[0]]}", "95% interval"]
    header += [f"{name} {arrows[name]}" for name in shown[1:]]
    body = []
    for _, row in table.iterrows():
        label = str(row["branch"]) if row["kind"] == "system" else f"({row['branch']})"
        seeds = str(row["seeds"]) if row["kind"] == "system" else ABSENT
        cells = [_value(row, name, decimals) for name in shown]
        body.append([label, seeds, cells[0], _interval(row, shown[0], decimals), *cells[1:]])
    for label, values in (reference or {}).items():
        cells = [_number(values.get(name, np.nan), decimals) for name in shown]
        body.append([f"*{label}*", ABSENT, cells[0], ABSENT, *cells[1:]])
    lines = aligned(header, body, left=1)
    if notes:
        lines = [_what(task, table), "", *lines, "", _how(table, bool(reference))]
    return "\n".join(lines) + "\n"


def aligned(header: Sequence[str], body: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a markdown table, columns padded to equal width; the first `left` ones flush left, the others right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [header, *body]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ("-" * (width + 2) if n < left else "-" * (width + 1) + ":" for n, width in enumerate(widths))
    return [line(cells[0]), f"|{'|'.join(rule)}|", *(line(row) for row in cells[1:])]


def differences_to_markdown(table: pd.DataFrame, decimals: int = 3) -> str:
    """What `paired.differences` made, with the words that such a table allows."""
    if table.empty:
        return "There is only one system, hence no difference to test.\n"
    against, metric, comparisons = (table[name].iloc[0] for name in ("against", "metric", "comparisons"))
    header = [f"{metric} minus that of {against}", "difference", "95% interval", "p", "p (Holm)", "verdict"]
    body = [
        [
            str(row["branch"]),
            _number(row["difference"], decimals, sign=True),
            _interval(row, "", decimals, sign=True),
            _probability(row["p"]),
            _probability(row["p_holm"]),
            str(row["verdict"]),
        ]
        for _, row in table.iterrows()
    ]
    note = (
        f"Paired bootstrap on the same utterances, means over seeds. Verdicts go by p adjusted (Holm) for "
        f"{comparisons} comparison{'s' if comparisons != 1 else ''}; intervals are not adjusted. "
        f'"No evidence" is not evidence that two systems are equal.'
    )
    return "\n".join([*aligned(header, body), "", note]) + "\n"


def _what(task: Task, table: pd.DataFrame) -> str:
    first = table.iloc[0]
    place = f"{task.describe()}; {first['split']} split of {first['corpus']}, {first['n']} utterances."
    if not first["synthetic"]:
        return place
    return (
        f"{place} **This is a synthetic corpus:** the figures show that the software works and say nothing about how "
        "well people's feelings are read."
    )


def _how(table: pd.DataFrame, reference: bool) -> str:
    systems = int((table["kind"] == "system").sum())
    parts = [
        "Mean ± standard deviation over seeds; the interval is a bootstrap over the scored utterances (of the mean "
        "over seeds). ↓ lower is better, ↑ higher is better."
    ]
    if (table["kind"] == "baseline").any():
        parts.append("In brackets: a constant answer, learnt from the train labels alone.")
    if reference:
        parts.append("In italics: known from how the corpus was made, not reached by a system.")
    if systems > 1:
        parts.append(
            f"The order is not a test: with {systems} systems the first one owes part of its place to chance, and "
            "overlapping intervals do not decide; see the paired differences."
        )
    return " ".join(parts)


def _number(value: float, decimals: int, sign: bool = False) -> str:
    if not np.isfinite(value):
        return ABSENT
    return f"{value:{'+' if sign else ''}.{decimals}f}"


def _value(row: pd.Series, name: str, decimals: int) -> str:
    mean, deviation = _number(row[name], decimals), _number(row[f"{name}_sd"], decimals)
    return mean if ABSENT in (mean, deviation) else f"{mean} ± {deviation}"


def _interval(row: pd.Series, name: str, decimals: int, sign: bool = False) -> str:
    low, high = (row[f"{name}_{end}" if name else end] for end in ("low", "high"))
    if not np.isfinite(low):
        return ABSENT
    return f"[{_number(low, decimals, sign)}, {_number(high, decimals, sign)}]"


def _probability(value: float) -> str:
    if not np.isfinite(value):
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
