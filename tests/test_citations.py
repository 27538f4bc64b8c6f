"""Every comment can be followed: what cites a page of docs/ cites one that is there, and an anchor that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
#: docs/systems/mmml.md#q4, and anchors of the same page that follow it: "#q7" in "(docs/systems/mmml.md#q4, #q7)".
CITED = re.compile(r"docs/([\w/-]+\.md)((?:#[\w-]+)?(?:(?:,| to|\s)+#[\w-]+)*)")
FOLDERS = ("src", "tests", "conf", "docs", "notebooks")
SUFFIXES = {".py", ".yml", ".md", ".ipynb"}


def texts() -> list[Path]:
    found = [path for folder in FOLDERS for path in (PROJECT / folder).rglob("*") if path.suffix in SUFFIXES]
    return sorted(path for path in [*found, *PROJECT.glob("*.md")] if path != Path(__file__).resolve())


def anchors_of(page: str) -> set[str]:
    """Anchors that a page states (<a id="q1"></a>), and those that its headings get."""
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return set(re.findall(r'<a id="([\w-]+)"></a>', text)) | slugs


def citations() -> list[tuple[str, str, tuple[str, ...]]]:
    found = []
    for path in texts():
        # A citation may be broken over lines, in a comment as well.
        text = re.sub(r"\n\s*(#:? )?", " ", path.read_text(encoding="utf-8"))
        for page, anchors in CITED.findall(text):
            found.append((path.relative_to(PROJECT).as_posix(), page, tuple(re.findall(r"#([\w-]+)", anchors))))
    return found


def test_every_cited_page_and_anchor_exists() -> None:
    pages = {page for _, page, _ in citations()}
    known = {page: anchors_of(page) for page in pages if (PROJECT / "docs" / page).is_file()}
    assert sorted(pages - known.keys()) == []
    wrong = [f"{path}: {page}#{name}" for path, page, names in citations() for name in names if name not in known[page]]
    assert wrong == []
    assert sum(page.startswith("systems/") for _, page, _ in citations()) > 80


def test_nothing_cites_what_a_reader_cannot_open() -> None:
    section = r"sections? [\d.]+ of (the |its |either )?(system's |\w+'s )?specification"
    hidden = re.compile(rf"specification, section|{section}")
    wrong = [path.as_posix() for path in texts() if hidden.search(path.read_text(encoding="utf-8"))]
    assert wrong == []


@pytest.mark.parametrize("page", sorted(path.name for path in (PROJECT / "docs/systems").glob("*.md")))
def test_a_page_of_a_system_states_each_anchor_once(page: str) -> None:
    stated = re.findall(r'<a id="([\w-]+)"></a>', (PROJECT / "docs/systems" / page).read_text(encoding="utf-8"))
    assert len(stated) == len(set(stated)) > 5
