"""The tables of the documentation that say what a registry says.

`python -m tests.pages` (part of `make lint`) writes them between their marks, `<!-- name -->` and
`<!-- end of name -->`, and a test holds them to the code: what is new is said where it is made, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from demeanor.commands.systems import systems_table
from demeanor.data.label_spaces import MAPS, SPACES
from demeanor.data.task import Task
from demeanor.evaluation.metrics import metrics_of
from tests import architecture

PROJECT = Path(__file__).resolve().parents[1]
#: Whatever the classes are called: their metrics stand in the page once, as `<class>_...`.
CLASS = "<class>"


def metrics_table(task: Task) -> str:
    defined = {name: metric.definition.replace("|", r"\|") for name, metric in metrics_of(task).items()}
    rows = (f"| `{name}` | {definition} |" for name, definition in defined.items())
    return "\n".join(["| metric | definition |", "|---|---|", *rows])


def spaces_table() -> str:
    rows = (
        f"| `{space.name}` | {space.title} | "
        f"{', '.join(space.classes) or f'a number from {space.low:g} to {space.high:g}'} |"
        for space in SPACES.values()
    )
    return "\n".join(["| space | what | labels |", "|---|---|---|", *rows])


def maps_table() -> str:
    rows = (f"| `{start}` | `{end}` | {'; '.join(one.lost) or 'nothing'} |" for (start, end), one in MAPS.items())
    return "\n".join(["| from | to | what is lost |", "|---|---|---|", *rows])


def task(kind: str, convention: str = "mosi") -> Task:
    classes = () if kind == "regression" else (CLASS, "other")[: 1 if kind == "multilabel" else 2]
    return Task(name="any", kind=kind, column="any", classes=classes, convention=convention)  # type: ignore[arg-type]


#: (page, name of the mark) -> what stands between its marks.
TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "systems"): systems_table,
    ("docs/architecture.md", "layers"): architecture.table,
    ("docs/corpora.md", "label spaces"): spaces_table,
    ("docs/corpora.md", "label maps"): maps_table,
    ("docs/metrics.md", "mosi"): lambda: metrics_table(task("regression")),
    ("docs/metrics.md", "sims"): lambda: metrics_table(task("regression", "sims")),
    ("docs/metrics.md", "classes"): lambda: metrics_table(task("classification")),
    ("docs/metrics.md", "labels"): lambda: metrics_table(task("multilabel")),
}


def shown(page: str, name: str) -> str:
    """What the page says between the marks."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    (found,) = re.findall(f"<!-- {name} -->\n(.*?)\n<!-- end of {name} -->", text, re.DOTALL)
    return found


def write() -> None:
    for (page, name), make in TABLES.items():
        path = PROJECT / page
        text = path.read_text(encoding="utf-8")
        start = f"<!-- {name} -->\n"
        path.write_text(text.replace(start + shown(page, name), start + make()), encoding="utf-8")


if __name__ == "__main__":
    write()
