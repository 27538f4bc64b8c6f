"""The project's layers, drawn from its imports.

`python -m tests.architecture` draws docs/images/architecture.png; the table of docs/architecture.md is one of those
that `python -m tests.pages` writes.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import grimp

PROJECT = Path(__file__).resolve().parents[1]
PICTURE = PROJECT / "docs/images/architecture.png"


def layers() -> list[list[str]]:
    """Names of the packages by layer, the outermost first, as the import contract of pyproject.toml has them."""
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    listed = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip().removeprefix("demeanor.") for name in layer.split("|")] for layer in listed]


def imports() -> Counter[tuple[str, str]]:
    """(importing package, imported package) -> how many imports of modules cross from one to the other."""
    known = {name for layer in layers() for name in layer}
    graph = grimp.build_graph("demeanor", cache_dir=None)
    counted: Counter[tuple[str, str]] = Counter()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            ends = tuple([*name.split("."), "", ""][1] for name in (importer, imported))
            if ends[0] != ends[1] and set(ends) <= known:
                counted[ends] += 1
    return counted


def described() -> dict[str, tuple[int, str]]:
    """Package -> its number of modules, and the first sentence of its docstring."""
    found = {}
    for name in (name for layer in layers() for name in layer):
        folder = PROJECT / "src/demeanor" / name
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        sentence = re.match(r'"""(.*?)(?:\n\n|""")', text, re.DOTALL)
        found[name] = (len(list(folder.rglob("*.py"))), " ".join(sentence.group(1).split()) if sentence else "")
    return found


def table() -> str:
    """One row per package: what it is, how many modules it has, and what it imports."""
    crossing, about = imports(), described()
    lines = ["| layer | package | what | modules | imports |", "|---|---|---|---|---|"]
    for number, layer in enumerate(layers(), 1):
        for name in layer:
            modules, what = about[name]
            used = ", ".join(sorted(other for (one, other) in crossing if one == name))
            lines.append(f"| {number} | `{name}` | {what} | {modules} | {used or 'none'} |")
    return "\n".join(lines)


def draw(path: Path) -> None:
    """Layers from top to bottom, an arrow for each package that imports another one, as thick as they are many."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    rows, crossing = layers(), imports()
    figure = Figure(figsize=(10, 1.35 * len(rows)), dpi=130)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_xlim(0, 10)
    axes.set_ylim(0, len(rows))
    axes.axis("off")
    places: dict[str, tuple[float, float]] = {}
    for number, layer in enumerate(rows):
        for column, name in enumerate(layer):
            places[name] = (10 * (column + 1) / (len(layer) + 1), len(rows) - number - 0.5)
    for (one, other), count in sorted(crossing.items()):
        upward = places[one][1] <= places[other][1]
        axes.add_patch(
            FancyArrowPatch(
                (places[one][0], places[one][1] - 0.22), (places[other][0], places[other][1] + 0.22),
                arrowstyle="-|>", mutation_scale=9, linewidth=min(0.4 + count / 12, 3.0), zorder=1,
                color="firebrick" if upward else "#9aa7b5", connectionstyle="arc3,rad=0.12", alpha=0.8,
            )
        )  # fmt: skip
    for name, (x, y) in places.items():
        box = FancyBboxPatch(
            (x - 0.95, y - 0.2), 1.9, 0.4, boxstyle="round,pad=0.02,rounding_size=0.08", facecolor="#eef3f8",
            edgecolor="#35506b", zorder=2,
        )  # fmt: skip
        axes.add_patch(box)
        axes.text(x, y, name, ha="center", va="center", fontsize=12, zorder=3)
    figure.savefig(path)


def main() -> None:
    draw(PICTURE)
    sys.stdout.write(f"{PICTURE}\n")


if __name__ == "__main__":
    main()
