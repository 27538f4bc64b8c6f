"""One HTML file that a reader opens first: words, tables and figures, and nothing that is fetched from elsewhere."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from demeanor.data.errors import InputError

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #d9d9d9; }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0; font-variant-numeric: tabular-nums; }
.wide, pre { overflow-x: auto; }
pre { font-size: .8rem; white-space: pre-wrap; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #e6e6e6; white-space: nowrap; }
th { text-align: right; font-weight: 600; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child, .words { text-align: left; }
caption { text-align: left; padding-bottom: .3rem; color: #222; font-weight: 600; white-space: normal; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
figcaption, .note { color: #6b6b6b; font-size: .85rem; }
nav a { margin-right: 1rem; }
"""

END = "</body></html>\n"


@dataclass(frozen=True)
class Section:
    """A heading with words (one paragraph each), tables (caption -> rows), figures (caption -> figure, or the content
    of a PNG file of it) and text whose lines and columns stay as they are."""

    title: str
    words: Sequence[str] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure | bytes] = field(default_factory=dict)
    plain: str = ""


def html_report(title: str, sections: Sequence[Section]) -> str:
    """The whole file as text. All words, cells and captions are escaped; figures are PNG within it."""
    links = "".join(f'<a href="#part{n}">{escape(part.title)}</a>' for n, part in enumerate(sections))
    body = "\n".join(_section(f"part{n}", part) for n, part in enumerate(sections))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1><nav>{links}</nav>\n{body}\n{END}"
    )


def with_section(page: str, part: Section) -> str:
    """A page of `html_report` with one more section at its end, in the place of an earlier one of the same title.

    InputError for a page of another kind.
    """
    if END not in page or "</nav>" not in page:
        raise InputError("report", ["it is no page that Demeanor has written"])
    heading = f"<h2>{escape(part.title)}</h2>"
    pieces = [piece for piece in re.findall(r'<section id="[^"]*">.*?</section>', page, re.DOTALL) if heading in piece]
    for piece in pieces:
        name = piece.split('"')[1]
        page = page.replace(f"{piece}\n", "").replace(f'<a href="#{name}">{escape(part.title)}</a>', "")
    name = "".join(mark if mark.isalnum() else "_" for mark in part.title.lower())
    page = page.replace("</nav>", f'<a href="#{name}">{escape(part.title)}</a></nav>', 1)
    return page.replace(END, f"{_section(name, part)}\n{END}")


def _section(name: str, part: Section) -> str:
    lines = [f'<section id="{name}"><h2>{escape(part.title)}</h2>']
    lines += [f"<p>{escape(text)}</p>" for text in part.words if text]
    for caption, table in part.tables.items():
        lines.append(f'<div class="wide">{html_table(table, caption)}</div>')
    for caption, figure in part.figures.items():
        lines.append(f"<figure>{picture(figure, caption)}<figcaption>{escape(caption)}</figcaption></figure>")
    lines += [f"<pre>{escape(part.plain)}</pre>"] if part.plain else []
    return "\n".join([*lines, "</section>"])


def html_table(table: pd.DataFrame, caption: str = "") -> str:
    """Rows as an HTML table below its caption: whole numbers as they are, others with three decimals, a dash for what
    is undefined; a column of words is flush left."""
    columns = [list(table[name]) for name in table.columns]
    texts = [any(isinstance(value, str) for value in column) for column in columns]
    words = ' class="words"'
    head = "".join(
        f"<th{words if text else ''}>{escape(str(name).replace('_', ' '))}</th>"
        for name, text in zip(table.columns, texts, strict=True)
    )
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in zip(*columns, strict=True))
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f'<td class="words">{escape(value)}</td>'
    if isinstance(value, bool | np.bool_):
        return f"<td>{'yes' if value else ''}</td>"
    if value is None or not np.isfinite(value):
        return "<td>-</td>"
    if isinstance(value, int | np.integer):
        return f"<td>{value}</td>"
    # What rounds to zero is zero, and not minus zero.
    return f"<td>{round(float(value), 3) + 0.0:.3f}</td>"


def picture(figure: Figure | bytes, caption: str) -> str:
    """A figure, or a PNG file, as an image whose bytes are in its address."""
    if isinstance(figure, bytes):
        drawn = figure
    else:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        drawn = buffer.getvalue()
    content = base64.b64encode(drawn).decode("ascii")
    return f'<img alt="{escape(caption, quote=True)}" src="data:image/png;base64,{content}">'
