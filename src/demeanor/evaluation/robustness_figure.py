"""How a system's score falls as its recordings get worse: a panel per system and degradation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from demeanor.data.task import Task
from demeanor.evaluation import style


@dataclass(frozen=True)
class Course:
    """One degradation: its name in the curves, the modality that gets worse, and what stands at its axis."""

    name: str
    title: str
    modality: str
    axis: str
    levels: Sequence[float]
    clean: str


def robustness_figure(
    tasks: dict[str, Task], curves: pd.DataFrame, courses: Sequence[Course], *, title: str = ""
) -> Figure:
    """A row of panels per model (model -> task), a column per degradation; a line per set of modalities that what gets
    worse is part of, and dashed what the model is worth without that modality, above which it is still of use.

    curves  columns model, kind, level (NaN for clean), modalities and the task's selection metric with its interval
    """
    figure = style.new_figure(3.3 * max(len(courses), 1) + 2.2, 3.4 * max(len(tasks), 1) + 0.4)
    if curves.empty:
        style.empty(figure.add_subplot(), "no recording to make worse")
        return figure
    panels = figure.subplots(len(tasks), len(courses), squeeze=False)
    for row, (model, task) in enumerate(tasks.items()):
        mine = curves[curves["model"] == model]
        limits = style.span(mine[task.selection_metric[0]].to_numpy(dtype=float))
        for column, course in enumerate(courses):
            axes = panels[row, column]
            own = mine[mine["kind"] == course.name]
            if own.empty:
                style.empty(axes, f"{model} reads no {course.modality}")
                continue
            _panel(axes, own, task, course)
            axes.set_ylim(*limits)
            ylabel = f"{model}\n{arrow(task)}" if column == 0 else ""
            style.label(axes, course.axis, ylabel, course.title if row == 0 else "")
            axes.xaxis.label.set_fontsize(9)
        handles = {
            line.get_label(): line for axes in panels[row] for line in axes.get_lines() if line.get_label()[0] != "_"
        }
        first = next((axes for axes in panels[row] if axes.get_lines()), None)
        if first is not None and handles:
            panels[row, -1].legend(
                handles.values(), handles.keys(), frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0)
            )
    style.headline(figure, title)
    return figure


def arrow(task: Task) -> str:
    """The selection metric and which way is better."""
    metric, better = task.selection_metric
    return f"{metric.replace('_', ' ')} {'↑' if better == 'max' else '↓'}"


def _panel(axes: Axes, own: pd.DataFrame, task: Task, course: Course) -> None:
    metric = task.selection_metric[0]
    style.tidy(axes)
    ordered = list(dict.fromkeys(own["modalities"]))
    whole = ordered[0]
    for name in ordered:
        parts = name.split(" + ")
        if course.modality not in parts:
            continue
        mine = own[own["modalities"] == name].set_index("level")
        first = mine[mine.index.isna()].iloc[0]
        rest = mine.reindex(list(course.levels))
        heights = [first[metric], *rest[metric]]
        colour = colour_of(parts)
        axes.plot(range(len(heights)), heights, color=colour, marker="o", markersize=4, label=name,
                  linewidth=2.4 if name == whole else 1.3)  # fmt: skip
        if name == whole:
            low = [first[f"{metric}_low"], *rest[f"{metric}_low"]]
            high = [first[f"{metric}_high"], *rest[f"{metric}_high"]]
            axes.fill_between(range(len(heights)), low, high, color=style.paler(colour, 0.2), linewidth=0)
    without = " + ".join(part for part in whole.split(" + ") if part != course.modality)
    left = own[(own["modalities"] == without) & own["level"].isna()]
    if len(left):
        axes.axhline(float(left[metric].iloc[0]), color=style.MUTED, linewidth=1.3, linestyle=(0, (4, 3)))
        axes.text(len(course.levels), float(left[metric].iloc[0]), f"without {course.modality}", ha="right",
                  va="bottom", fontsize=8, color=style.MUTED)  # fmt: skip
    axes.set_xticks(range(len(course.levels) + 1), [course.clean, *(f"{level:g}" for level in course.levels)])


COLOURS = {
    ("audio", "text", "vision"): style.PALETTE[0],
    ("audio", "text"): style.PALETTE[1],
    ("audio", "vision"): style.PALETTE[2],
    ("text", "vision"): style.PALETTE[3],
    ("audio",): style.PALETTE[4],
    ("text",): style.PALETTE[5],
    ("vision",): style.PALETTE[6],
}


def colour_of(parts: Sequence[str]) -> str:
    """Of a set of modalities, the same in every panel."""
    return COLOURS.get(tuple(sorted(parts)), style.MUTED)
