"""One page that needs nothing else: the figure, the words under it, a click to hear; no network.

The recording itself is named by its path relative to the page, so that both may be moved together.
"""

from __future__ import annotations

import html
import io
import os
from pathlib import Path
from urllib.parse import quote

from demeanor.data.task import Task
from demeanor.timeline.formats.wording import answer_text
from demeanor.timeline.pictures import colours_of, figure_of
from demeanor.timeline.summary import summary_of
from demeanor.timeline.table import Span, Timeline

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.3rem } figure { margin: 0 } svg { width: 100%; height: auto }
video, audio { width: 100%; max-height: 20rem; position: sticky; top: 0; background: #fff }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .85rem }
table { border-collapse: collapse; width: 100% }
td { padding: .3rem .5rem; border-top: 1px solid #ddd; vertical-align: top }
tr.span { cursor: pointer } tr.span:hover, tr.now { background: #eef3f8 }
button { font: inherit; border: 0; background: none; color: #0072b2; cursor: pointer; padding: 0 }
td.time { white-space: nowrap; color: #6b6b6b } .problem { color: #a33; font-size: .85rem }
small { color: #6b6b6b }
"""
#: Plays a span and marks the row that is heard.
SCRIPT = """
const player = document.getElementById('player'); let end = Infinity;
const rows = [...document.querySelectorAll('tr.span')];
rows.forEach(row => row.addEventListener('click', () => {
  player.currentTime = Number(row.dataset.start); end = Number(row.dataset.end); player.play(); }));
player.addEventListener('timeupdate', () => {
  if (player.currentTime >= end) { player.pause(); end = Infinity; }
  rows.forEach(row => row.classList.toggle('now',
    player.currentTime >= Number(row.dataset.start) && player.currentTime < Number(row.dataset.end))); });
"""


def page_of(timeline: Timeline, path: Path) -> str:
    """The page as it will stand at `path`."""
    header = timeline.header
    title = html.escape(header.recording)
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            '<meta name="viewport" content="width=device-width">',
            f"<style>{STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            _player(timeline, path),
            f"<figure>{_drawing(timeline)}</figure>",
            "<table>",
            *[_row(span, timeline) for span in timeline.utterances],
            "</table>",
            f"<pre>{html.escape(str(summary_of(timeline)))}</pre>",
            _about(timeline),
            f"<script>{SCRIPT}</script></body></html>",
            "",
        ]
    )


def _player(timeline: Timeline, path: Path) -> str:
    medium = timeline.header.medium
    if not medium:
        return '<audio id="player" controls></audio>'
    try:
        relative = os.path.relpath(Path(medium).absolute(), path.absolute().parent)
    except ValueError:  # on another drive
        relative = str(Path(medium).absolute())
    kind = "video" if timeline.header.frame_rate else "audio"
    source = html.escape(quote(relative.replace(os.sep, "/")))
    return f'<{kind} id="player" controls preload="metadata" src="{source}"></{kind}>'


def _drawing(timeline: Timeline) -> str:
    held = io.StringIO()
    figure_of(timeline).savefig(held, format="svg", metadata={"Date": None})
    return held.getvalue().partition("<svg")[1] + held.getvalue().partition("<svg")[2]


def _row(span: Span, timeline: Timeline) -> str:
    colours = colours_of(list(dict.fromkeys(one.speaker for one in timeline.utterances)))
    told = "<br>".join(html.escape(_told(span, task)) for task in timeline.tasks if _told(span, task))
    words = html.escape(span.text) if span.text else "<small>no words known</small>"
    if span.problem:
        words += f'<div class="problem">{html.escape(span.problem)}</div>'
    who = f'<b style="color:{colours[span.speaker]}">{html.escape(span.speaker or "speech")}</b>'
    return (
        f'<tr class="span" data-start="{span.start:.3f}" data-end="{span.end:.3f}">'
        f'<td class="time"><button aria-label="play from {span.start:.1f} seconds">&#9654; '
        f"{int(span.start // 60)}:{span.start % 60:04.1f}</button></td>"
        f"<td>{who}</td><td>{words}</td><td>{told}</td></tr>"
    )


def _told(span: Span, task: Task) -> str:
    answer = span.answers[task.name]
    text = answer_text(answer, task)
    if not text:
        return ""
    share = answer.probabilities.get(str(answer.value))
    return f"{task.name} {text}" + (f" ({share:.0%})" if share is not None else "")


def _about(timeline: Timeline) -> str:
    header = timeline.header
    models = "".join(
        f"<li>{html.escape(model.task.name)} by {html.escape(model.branch)} ({html.escape(model.system)}), "
        f"{model.weights_sha256[:12]}; calibration: {html.escape(model.calibration)}</li>"
        for model in header.models
    )
    return (
        f"<small><p>{html.escape(header.note)}</p><p>Voice: {html.escape(header.voice_activity or header.speakers)}; "
        f"speakers: {html.escape(header.speakers)}; words: {html.escape(header.recognition or 'given, or none')}.</p>"
        f"<ul>{models}</ul></small>"
    )
