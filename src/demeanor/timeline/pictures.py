"""The timeline as a picture (.png, .svg, .pdf) and as one page (.html)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from demeanor.data.files import write_atomically
from demeanor.data.task import Task
from demeanor.evaluation.style import INK, MUTED, PALETTE, empty, label, new_figure, paler, tidy
from demeanor.timeline.table import Span, Timeline

PICTURES = (".png", ".svg", ".pdf", ".html")


def write_picture(timeline: Timeline, path: Path) -> None:
    """By the ending of the path's name."""
    with write_atomically(path) as temporary:
        if path.suffix.lower() == ".html":
            from demeanor.timeline.page import page_of

            temporary.write_text(page_of(timeline, path), encoding="utf-8")
        else:
            figure_of(timeline).savefig(temporary, format=path.suffix.lower()[1:])


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour per name, from the palette again and again."""
    return {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(names)}


def figure_of(timeline: Timeline):
    """A row for who speaks, one for every task; of a number its course with its interval, of classes their bands."""
    spans = timeline.utterances
    speakers = list(dict.fromkeys(span.speaker for span in spans))
    rows = 1 + len(timeline.tasks)
    figure = new_figure(10.0, 1.2 + 0.35 * max(len(speakers), 1) + 1.9 * len(timeline.tasks))
    ratios = [0.3 + 0.3 * max(len(speakers), 1), *[1.6 for _ in timeline.tasks]]
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    if not spans:
        for one in axes:
            empty(one, "no spans")
        return figure
    colours = colours_of(speakers)
    _draw_speakers(axes[0], spans, speakers, colours, timeline.header.recording)
    for one, task in zip(axes[1:], timeline.tasks, strict=True):
        if task.kind == "regression":
            _draw_number(one, spans, task, colours)
        else:
            _draw_classes(one, spans, task)
        tidy(one, "x")
    axes[-1].set_xlim(0, timeline.header.duration or max(span.end for span in spans))
    label(axes[-1], "seconds")
    return figure


def _draw_speakers(axes, spans, speakers, colours, title: str) -> None:
    for place, name in enumerate(speakers):
        own = [(span.start, span.seconds) for span in spans if span.speaker == name]
        axes.broken_barh(own, (place - 0.35, 0.7), facecolors=colours[name], linewidth=0)
    axes.set_yticks(range(len(speakers)), [name or "speech" for name in speakers])
    axes.invert_yaxis()
    tidy(axes, "x")
    label(axes, title=title)


def _draw_number(axes, spans: Sequence[Span], task: Task, colours) -> None:
    from matplotlib.collections import PolyCollection

    answered = [span for span in spans if span.answers[task.name].answered]
    # One collection for all spans: one for each takes minutes where there are thousands.
    boxes, paints = [], []
    for span in answered:
        answer = span.answers[task.name]
        if answer.low is not None and answer.high is not None:
            left, right, low, high = span.start, span.end, answer.low, answer.high
            boxes.append([(left, low), (right, low), (right, high), (left, high)])
            paints.append(paler(colours[span.speaker], 0.3))
    axes.add_collection(PolyCollection(boxes, facecolors=paints, linewidths=0))
    if answered:
        axes.hlines(
            [span.answers[task.name].value for span in answered], [span.start for span in answered],
            [span.end for span in answered], color=[colours[span.speaker] for span in answered], linewidth=3,
        )  # fmt: skip
    if len(answered) > 4:
        middle = np.array([(span.start + span.end) / 2 for span in answered])
        values = np.array([float(span.answers[task.name].value or 0.0) for span in answered])
        smooth = np.convolve(np.pad(values, 2, mode="edge"), np.full(5, 0.2), mode="valid")
        axes.plot(middle, smooth, color=INK, linewidth=1.2, label="mean of five utterances")
        axes.legend(loc="upper right", fontsize=8, frameon=False)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_ylim(task.low, task.high)
    label(axes, y=task.name)


def _draw_classes(axes, spans: Sequence[Span], task: Task) -> None:
    for place, name in enumerate(task.classes):
        given = [
            (span, share) for span in spans
            if (share := span.answers[task.name].probabilities.get(name)) is not None
            and span.answers[task.name].answered
        ]  # fmt: skip
        paints = [paler(PALETTE[place % len(PALETTE)], share) for _, share in given]
        bars = [(span.start, span.seconds) for span, _ in given]
        axes.broken_barh(bars, (place - 0.4, 0.8), linewidth=0, facecolors=paints)
    axes.set_yticks(range(len(task.classes)), task.classes)
    axes.set_ylim(len(task.classes) - 0.5, -0.5)
    label(axes, y=task.name)
