"""Figures of one system's predictions and of several systems side by side; each function returns a Figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import ArrayLike

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation import style
from demeanor.evaluation.metrics import direction_of, metric_of, prepare, primary_metrics, score

ARROWS = {"min": "lower is better", "max": "higher is better"}
CROWD = 1500
"""Points from which a scatter is drawn as a density."""


def confusion_matrix(task: Task, prediction: ArrayLike, target: ArrayLike, *, title: str = "") -> Figure:
    """Counts with the share of each true class (row); prediction [N, classes], target [N] class indices.

    Utterances without a label, and predictions of NaN, are left out. InputError for a task without classes.
    """
    if task.kind != "classification":
        raise InputError("confusion matrix", [f"task '{task.name}' is a {task.kind}, not one of several classes"])
    values, truth = prepare(task, prediction, target)
    decided = ~np.isnan(values).any(axis=1)
    values, truth = values[decided], truth[decided]
    classes = len(task.classes)
    counts = np.bincount(truth * classes + values.argmax(axis=1), minlength=classes**2).reshape(classes, classes)
    support = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(support, 1)

    size = min(8.0, 3.2 + 0.75 * classes)
    figure = style.new_figure(size + 0.8, size)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    small = classes > 8
    for row in range(classes):
        for column in range(classes):
            share, count = shares[row, column], counts[row, column]
            text = f"{count}" if small or not support[row] else f"{share:.0%}\n{count}"
            colour = "white" if share > 0.55 else style.INK if count else style.MUTED
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8 if small else 10)
    longest = max(len(name) for name in task.classes)
    slanted = longest > 6 and classes > 4
    axes.set_xticks(range(classes), task.classes, rotation=35 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(classes), [f"{name} ({n})" for name, n in zip(task.classes, support[:, 0], strict=True)])
    axes.tick_params(length=0, labelsize=10, colors=style.INK)
    for side in axes.spines.values():
        side.set_visible(False)
    # White lines between the cells, so that equal neighbours stay apart.
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    scores = score(task, values, truth, warn=False)
    style.label(axes, "predicted", "true (utterances)", f"accuracy {scores['accuracy']:.3f}, UAR {scores['UAR']:.3f}")
    bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02, ticks=[0, 0.5, 1], format="{x:.0%}")
    bar.set_label("share of the true class", color=style.INK, fontsize=10)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=9, colors=style.INK)
    style.headline(figure, title)
    return figure


def regression_scatter(task: Task, prediction: ArrayLike, target: ArrayLike, *, title: str = "") -> Figure:
    """Predicted against true numbers, with the identity line, Pearson's r and the mean absolute error."""
    values, truth = prepare(task, prediction, target)
    p, t = values[:, 0], truth
    scores = score(task, values, truth, warn=False)
    figure = style.new_figure(6.4, 6.0)
    axes = figure.add_subplot()
    style.tidy(axes)
    finite = np.isfinite(p)
    low, high = style.span([task.low, task.high, *p[finite], *t], margin=0.04)
    if finite.sum() > CROWD:
        drawn = axes.hexbin(t[finite], p[finite], gridsize=40, extent=(low, high, low, high), mincnt=1, bins="log",
                            cmap=style.DENSITY, linewidths=0)  # fmt: skip
        bar = figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.02)
        bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        bar.ax.tick_params(labelsize=9, colors=style.INK)
        bar.set_label("utterances", color=style.INK, fontsize=10)
        bar.outline.set_visible(False)
    else:
        axes.scatter(t[finite], p[finite], s=22, color=style.PALETTE[0], alpha=0.55, linewidths=0)
    axes.plot([low, high], [low, high], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    # The least-squares line shows predictions that are drawn towards the mean.
    if finite.sum() > 1 and np.ptp(t[finite]) > 0:
        slope, intercept = np.polyfit(t[finite].astype(float), p[finite].astype(float), 1)
        ends = np.array([t[finite].min(), t[finite].max()])
        axes.plot(ends, slope * ends + intercept, color=style.PALETTE[1], linewidth=1.8)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    text = f"r = {scores['Corr']:.3f}\nMAE = {scores['MAE']:.3f}\nn = {len(t)}"
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", color=style.INK, fontsize=11, linespacing=1.4,
              bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 3})  # fmt: skip
    style.label(axes, f"true {task.name}", f"predicted {task.name}")
    axes.text(0.98, 0.03, "dashed: predicted = true, solid: least squares", transform=axes.transAxes, ha="right",
              color=style.MUTED, fontsize=9)  # fmt: skip
    style.headline(figure, title)
    return figure


def comparison_forest(
    task: Task,
    table: pd.DataFrame,
    *,
    metric: str | None = None,
    reference: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """Mean and 95% interval of each row that `compare` made; dashed lines for known values (the planted ceiling)."""
    name = metric or primary_metrics(task)[0]
    better = metric_of(task, name).better
    rows = table.sort_values(name, ascending=better == "min", na_position="last", kind="stable")
    figure = style.new_figure(8.0, 1.5 + 0.42 * max(len(rows), 2) + (0.3 if title else 0.0))
    axes = figure.add_subplot()
    style.tidy(axes, grid="x")
    known = {key: value for key, value in (reference or {}).items() if np.isfinite(value)}
    columns = [name, f"{name}_low", f"{name}_high"]
    low, high = style.span([*rows[columns].to_numpy(dtype=float).ravel(), *known.values()])
    labels = []
    for place, (_, row) in enumerate(rows.iterrows()):
        mean, lower, upper = (float(row[column]) for column in columns)
        system = row["kind"] == "system"
        colour = style.PALETTE[0] if system else style.MUTED
        if np.isfinite(lower):
            axes.plot([lower, upper], [place, place], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot([mean], [place], marker="o" if system else "D", markersize=8 if system else 6, color=colour,
                  markerfacecolor=colour if system else "white", linestyle="none")  # fmt: skip
        between = f"  [{lower:.3f}, {upper:.3f}]" if np.isfinite(lower) else ""
        said = f"{mean:.3f}{between}" if np.isfinite(mean) else "undefined"
        axes.text(1.02, place, said, transform=axes.get_yaxis_transform(), va="center", color=style.INK, fontsize=10)
        labels.append(f"{row['branch']}" if system else f"({row['branch']})")
    for count, (key, value) in enumerate(known.items()):
        axes.axvline(value, color=style.PALETTE[1 + count % 3], linewidth=1.4, linestyle=(0, (5, 3)), label=key)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
    axes.spines["left"].set_visible(False)
    style.label(axes, f"{name} ({ARROWS[better]}), mean over seeds, 95% bootstrap interval")
    if known:
        figure.legend(loc="outside lower right", frameon=False, fontsize=10, ncols=min(len(known), 3))
    style.headline(figure, title)
    return figure


def modality_ablation_bars(table: pd.DataFrame, *, metric: str, title: str = "") -> Figure:
    """The metric of each subset of modalities with its 95% interval; the full set is darkest and its value a line."""
    full = float(table[metric].iloc[0])
    figure = style.new_figure(8.0, 1.5 + 0.42 * max(len(table), 2) + (0.3 if title else 0.0))
    axes = figure.add_subplot()
    style.tidy(axes, grid="x")
    most = int(table["present"].max())
    shades = {present: 1.0 - 0.62 * (most - present) / max(most - 1, 1) for present in range(1, most + 1)}
    for place, (_, row) in enumerate(table.iterrows()):
        value, lower, upper = (float(row[column]) for column in (metric, f"{metric}_low", f"{metric}_high"))
        axes.barh(
            place, value, height=0.64, color=style.paler(style.PALETTE[0], shades[int(row["present"])]), linewidth=0
        )
        if np.isfinite(lower):
            axes.plot([lower, upper], [place, place], color=style.INK, linewidth=1.4)
        said = f"{value:.3f}" if np.isfinite(value) else "undefined"
        if place and np.isfinite(value):
            said += f"  ({value - full:+.3f})"
        axes.text(1.02, place, said, transform=axes.get_yaxis_transform(), va="center", color=style.INK, fontsize=10)
    if np.isfinite(full):
        axes.axvline(full, color=style.PALETTE[1], linewidth=1.4, linestyle=(0, (5, 3)))
    axes.set_yticks(range(len(table)), list(table["modalities"]))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(table) - 0.4, -0.6)
    reach = style.span([0.0, *table[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy(dtype=float).ravel()])
    axes.set_xlim(min(reach[0], 0.0) if (table[metric] < 0).any() else 0.0, reach[1])
    arrow = ARROWS[direction_of(metric)]
    style.label(axes, f"{metric} ({arrow}), 95% bootstrap interval; in brackets: change against all modalities")
    style.headline(figure, title)
    return figure
