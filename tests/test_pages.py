"""The tables of the documentation say what the registries say."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.real_data import page as results_page
from tests.benchmarks.trust_page import page as trust_page
from tests.pages import PROJECT, TABLES, shown


@pytest.mark.parametrize(("page", "name"), TABLES)
def test_a_table_is_that_of_its_registry(page: str, name: str):
    assert shown(page, name) == TABLES[page, name](), "run `make lint`, which writes it"


def test_pages_of_results_name_the_code_that_made_them():
    for path in sorted((PROJECT / "docs" / "results").glob("*.md")):
        assert "code unknown" not in path.read_text(encoding="utf-8"), path.name
    receipt = {"task": "a", "n": 1, "seed": 1, "data_hash": "b", "code_revision": "0123456789ab-dirty"}
    assert "code 0123456789ab-dirty. Systems" in results_page("corpus", [receipt], "", "", "")
    with pytest.raises(SystemExit, match="name no revision"):
        results_page("corpus", [receipt, {**receipt, "code_revision": "unknown"}], "", "", "")


def test_the_page_of_trust_is_made_of_its_kept_figures():
    folder = PROJECT / "docs" / "results"
    kept = json.loads((folder / "trust.json").read_text(encoding="utf-8"))
    written = (folder / "trust.md").read_text(encoding="utf-8")
    assert written == trust_page(kept), "run `python -m tests.benchmarks.bench_trust --page`"
