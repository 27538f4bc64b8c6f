"""`python -m demeanor` in an installed wheel: Kedro's `run`, beside the commands of `demeanor`."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from demeanor.__main__ import main
from demeanor.packaged import run_command, with_command
from demeanor.pipeline_registry import register_pipelines
from demeanor.pipelines import branches


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], ["run"]),
        (
            ["--conf-source=conf.tar.gz", "--pipelines=ingestion"],
            ["run", "--conf-source=conf.tar.gz", "--pipelines=ingestion"],
        ),
        (["-e", "mosi"], ["run", "-e", "mosi"]),
        (["run", "--env", "mosi"], ["run", "--env", "mosi"]),
        (["predict", "--text", "x"], ["predict", "--text", "x"]),
        (["--help"], ["--help"]),
        (["--version"], ["--version"]),
    ],
)
def test_without_a_command_the_pipelines_run(given: list[str], meant: list[str]):
    assert with_command(given) == meant


def test_run_is_a_command_with_kedros_options():
    assert "run" in CliRunner().invoke(main, ["--help"]).output
    told = CliRunner().invoke(main, ["run", "--help"])
    assert told.exit_code == 0
    assert "--conf-source" in told.output
    option = next(one for one in run_command().params if one.name == "params")
    typed = option.process_value(click.Context(main), "corpus.options.name=007")
    assert typed == {"corpus": {"options": {"name": "007"}}}


def test_branches_outside_a_session_are_those_that_a_session_reads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(branches, "_selection", None)
    assert "late_fusion" in branches.selected().names


def test_without_a_configuration_there_are_pipelines_without_branches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """An installed wheel knows where its configuration lies only once `--conf-source` has been read."""
    monkeypatch.setattr(branches, "_selection", None)
    monkeypatch.chdir(tmp_path)
    assert branches.selected() == branches.Selection()
    assert "fusion_training" in register_pipelines()
