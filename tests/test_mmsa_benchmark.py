"""The benchmark against MMSA: it runs where MMSA is, so what it needs of this project is held here."""

from __future__ import annotations

from demeanor.training.settings import BranchSettings
from tests.benchmarks import bench_self_mm as benchmark


def test_the_systems_that_are_timed_are_those_of_the_environment_of_mosi():
    branches = benchmark.published()
    for model in benchmark.RUNS:
        block = BranchSettings(**branches[model])
        assert block.system == model
        assert block.training.seeds == (1111, 1112, 1113, 1114, 1115)


def test_the_page_says_what_was_measured_on_each_processor():
    measured = benchmark.machines()
    page = benchmark.page(measured)
    assert page == (benchmark.RESULTS / "self_mm.md").read_text(encoding="utf-8")
    for machine in measured:
        assert f"## {machine['machine']}" in page
        assert {row["side"] for row in machine["rows"]} >= {"MMSA", "ours"}
