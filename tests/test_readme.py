"""The README keeps its word: its commands run, its example model trains, its table is the registry's."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from demeanor.__main__ import systems_table
from demeanor.models.base import System
from demeanor.training import fit as training
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.project import PROJECT, command
from tests.toy import SENTIMENT, toy_examples, toy_score

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_its_commands_run(finished_project: Path, tmp_path: Path):
    folder = tmp_path / "project"
    shutil.copytree(finished_project, folder)
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    lines = [line for line in lines if line]
    assert len(lines) >= 8
    for line in lines:
        if line == "kedro run":
            continue  # the project that was copied is what this command left
        done = command(folder, *shlex.split(line))
        assert done.stdout or done.stderr, line


def test_its_example_model_trains_like_any_other(monkeypatch):
    (code,) = blocks("python")
    space: dict = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), space)
    system = space["MeanOfWords"]
    assert issubclass(system, System)
    for module in ("demeanor.models", "demeanor.training.fit", "demeanor.training.inference"):
        monkeypatch.setattr(f"{module}.find_system", lambda name: system)
    settings = BranchSettings(
        system="mean_of_words", streams={"text": "text.words"}, training=TrainingSettings(epochs=2, threads=1)
    )
    development = toy_examples().split("train", "valid")
    trained = training.fit("mean", settings, SENTIMENT, development, 1, toy_score, progress=False)
    assert trained.bundle.parameters > 0


def test_its_table_of_systems_is_the_registrys():
    shown = README.split("<!-- systems -->\n")[1].split("<!-- end of systems -->")[0]
    assert shown.strip() == systems_table().strip()


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)h#][^)]*)\)", README))
def test_what_it_points_to_is_there(path: str):
    assert (PROJECT / path).exists()
