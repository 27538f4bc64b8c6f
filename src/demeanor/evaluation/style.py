"""One look for all figures: a palette that colour-blind readers can tell apart, and plain axes.

Figures are made through matplotlib's objects and never through pyplot: no global state, no open window, safe in
worker processes and servers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

#: Okabe and Ito, "Color Universal Design", 2008; blue and vermilion first, without yellow, too pale on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, MUTED, FAINT = "#222222", "#6B6B6B", "#D9D9D9"
DPI = 150
DENSITY = LinearSegmentedColormap.from_list("density", ["#C6DBEF", "#4292C6", "#08306B"])
"""Blues whose palest step still shows on white."""


def new_figure(width: float = 8.0, height: float = 4.8) -> Figure:
    """An empty figure in inches; 8 inches fill a page that is 800 pixels wide."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, grid: str = "both") -> None:
    """No box, thin marks, a faint grid behind the data ("x", "y", "both" or "")."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=10, width=0.8, length=3)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis=grid, color=FAINT, linewidth=0.7)  # type: ignore[arg-type]


def label(axes: Axes, x: str = "", y: str = "", title: str = "") -> None:
    """Name the axes and, at the left above them, the plot."""
    axes.set_xlabel(x, color=INK, fontsize=11)
    axes.set_ylabel(y, color=INK, fontsize=11)
    if title:
        axes.set_title(title, color=INK, fontsize=12, loc="left", pad=10)


def paler(colour: str, strength: float) -> str:
    """The colour mixed with white: strength 1 is the colour, 0 is white. Unlike transparency it hides the grid."""
    red, green, blue = (strength * part + (1.0 - strength) for part in to_rgb(colour))
    return to_hex((red, green, blue))


def headline(figure: Figure, title: str) -> None:
    """The figure's own title, flush left."""
    if title:
        figure.suptitle(title, color=INK, fontsize=13, x=0.01, ha="left")


def empty(axes: Axes, reason: str) -> None:
    """Say why there is nothing to see instead of an empty frame."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, reason, ha="center", va="center", color=MUTED, fontsize=11, transform=axes.transAxes)


def span(values: Sequence[float | np.floating] | np.ndarray, margin: float = 0.06) -> tuple[float, float]:
    """Limits around the finite values, with a margin on both sides. values [points], in the unit of the axis."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    room = (high - low) * margin or max(abs(high), 1.0) * margin
    return low - room, high + room
