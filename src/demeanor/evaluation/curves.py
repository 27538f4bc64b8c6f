"""Figures along an axis of their own: training over epochs, accuracy over confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from demeanor.data.errors import InputError
from demeanor.data.task import Better
from demeanor.evaluation import style
from demeanor.evaluation.metrics import direction_of

ACROSS = 4
"""Systems beside each other before the next line of panels begins."""


def training_curves(
    history: pd.DataFrame,
    *,
    loss: str = "train_loss",
    metric: str = "valid_MAE",
    title: str = "",
) -> Figure:
    """Small multiples, one column per branch: training loss above, validation metric below, a thin line per seed.

    history: columns branch, seed, epoch, `loss`, `metric`; the dot is the best epoch of a seed. Losses of different
    systems are not comparable and have their own axes; the metric shares one.
    InputError for a history without one of the columns.
    """
    missing = [f"no column '{name}'" for name in ("branch", "seed", "epoch", loss, metric) if name not in history]
    if missing:
        raise InputError("training history", missing)
    branches = list(dict.fromkeys(history["branch"]))
    across = min(max(len(branches), 1), ACROSS)
    blocks = max(1, math.ceil(len(branches) / ACROSS))
    figure = style.new_figure(max(4.6, 1.8 * across + 0.8), 3.9 * blocks + (0.4 if title else 0.0))
    if not branches:
        style.empty(figure.add_subplot(), "no training history")
        return figure
    panels = figure.subplots(2 * blocks, across, squeeze=False)
    limits = style.span(history[metric].to_numpy(dtype=float))
    for place in range(blocks * across):
        block, column = divmod(place, across)
        upper, lower = panels[2 * block, column], panels[2 * block + 1, column]
        if place >= len(branches):
            upper.set_axis_off()
            lower.set_axis_off()
            continue
        own = history[history["branch"] == branches[place]]
        _lines(upper, own, loss, style.PALETTE[0])
        _lines(lower, own, metric, style.PALETTE[1], direction_of(metric))
        lower.set_ylim(*limits)
        lower.sharex(upper)
        upper.tick_params(labelbottom=False)
        style.label(upper, "", loss.replace("_", " ") if column == 0 else "", str(branches[place]))
        style.label(lower, "epoch", metric.replace("_", " ") if column == 0 else "")
        lower.tick_params(labelleft=column == 0)
    lines = (
        "thin: one seed, thick: their mean while all of them run" if history["seed"].nunique() > 1 else "line: one seed"
    )
    figure.supxlabel(f"{lines}; dot: best epoch of a seed", color=style.MUTED, fontsize=9)
    style.headline(figure, title)
    return figure


def _lines(axes: Axes, own: pd.DataFrame, column: str, colour: str, better: Better | None = None) -> None:
    """A thin line per seed and, with several, their mean over the epochs that all of them reached."""
    style.tidy(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    seeds = list(dict.fromkeys(own["seed"]))
    for seed in seeds:
        run = own[own["seed"] == seed].sort_values("epoch")
        several = len(seeds) > 1
        axes.plot(run["epoch"], run[column], color=colour, linewidth=1.0 if several else 1.8,
                  alpha=0.45 if several else 1.0, marker="." if len(run) == 1 else None)  # fmt: skip
        if better and run[column].notna().any():
            best = run.loc[run[column].idxmin() if better == "min" else run[column].idxmax()]
            axes.plot([best["epoch"]], [best[column]], marker="o", markersize=4.5, color=colour, linestyle="none",
                      markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip
    if len(seeds) > 1:
        wide = own.pivot_table(index="epoch", columns="seed", values=column).dropna()
        axes.plot(wide.index, wide.mean(axis=1), color=colour, linewidth=2.0)


def reliability_diagram(curve: pd.DataFrame, *, ece: float | None = None, title: str = "") -> Figure:
    """Accuracy against confidence per bin, as `reliability_curve` gives them, above how many claims each bin holds."""
    figure = style.new_figure(6.0, 6.2)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
    for axes in (upper, lower):
        style.tidy(axes)
    filled = curve[curve["n"] > 0]
    upper.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    ends = filled[["confidence", "accuracy"]]
    upper.vlines(ends["confidence"], ends.min(axis=1), ends.max(axis=1), color=style.PALETTE[1], alpha=0.5, linewidth=5)
    upper.plot(
        filled["confidence"], filled["accuracy"], color=style.PALETTE[0], marker="o", markersize=6, linewidth=1.8
    )
    upper.set(xlim=(0, 1), ylim=(0, 1))
    widths = (curve["high"] - curve["low"]).to_numpy()
    lower.bar(
        curve["low"], curve["n"], width=0.9 * widths, align="edge", color=style.PALETTE[0], alpha=0.6, linewidth=0
    )
    lower.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    note = "dashed: perfect calibration" if ece is None or not np.isfinite(ece) else f"ECE = {ece:.3f}"
    upper.text(0.97, 0.05, note, transform=upper.transAxes, ha="right", color=style.INK, fontsize=11)
    style.label(upper, "", "share that is right")
    style.label(lower, "confidence", "answers")
    style.headline(figure, title)
    return figure


def risk_coverage_figure(
    curves: Mapping[str, pd.DataFrame], *, loss: str = "share of wrong answers", title: str = ""
) -> Figure:
    """Risk over coverage, a line per system, as `risk_coverage` gives them: how much surer the surest answers are."""
    figure = style.new_figure(7.0, 4.6)
    axes = figure.add_subplot()
    style.tidy(axes)
    filled = {name: curve for name, curve in curves.items() if len(curve)}
    if not filled:
        style.empty(axes, "no answer to score")
        return figure
    for number, (name, curve) in enumerate(filled.items()):
        colour = style.PALETTE[number % len(style.PALETTE)]
        axes.plot(curve["coverage"], curve["risk"], color=colour, linewidth=1.8, label=name)
    highest = max(float(curve["risk"].max()) for curve in filled.values())
    axes.set(xlim=(0, 1), ylim=(0, min(1.0, highest * 1.1 + 0.02)))
    style.label(axes, "coverage: share of the answers given, the surest first", f"risk: {loss}")
    axes.legend(frameon=False, fontsize=10)
    style.headline(figure, title)
    return figure
