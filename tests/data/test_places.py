"""Relative paths among the parameters are meant from the project's root, and a tilde is the home folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from demeanor.corpora.base import CorpusSettings
from demeanor.corpora.label_csv import LabelCsvSettings
from demeanor.corpora.splits import SplitSettings
from demeanor.data.places import anchored, cache_folder, from_root, use_root
from demeanor.hooks import PathHooks


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, typed in a folder below it."""
    monkeypatch.delenv("DEMEANOR_PROJECT_ROOT", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "project" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "notebooks")
    return tmp_path / "project"


def test_a_hook_names_the_root_while_a_session_runs(project: Path):
    hooks = PathHooks()
    assert anchored("data/x") == Path("data/x")
    hooks.after_context_created(SimpleNamespace(project_path=project))
    assert anchored("data/x") == project / "data/x"
    assert anchored(project / "data") == project / "data"
    assert from_root(project / "data/x") == "data/x"
    assert from_root("/elsewhere/x") == "/elsewhere/x"
    hooks.after_pipeline_run()
    assert anchored("data/x") == Path("data/x")
    assert Path.cwd() == project / "notebooks"


def test_settings_take_paths_from_the_root_and_the_home_folder(project: Path, tmp_path: Path):
    use_root(project)
    assert LabelCsvSettings(path="data/mine").path == project / "data/mine"
    assert LabelCsvSettings(path="~/clips").path == tmp_path / "home" / "clips"
    assert SplitSettings(file="data/split.json").file == project / "data/split.json"
    assert anchored("~nobody-of-that-name/x").name == "x"


def test_a_variable_at_the_beginning_of_a_path_is_its_value(project: Path, tmp_path: Path, monkeypatch):
    use_root(project)
    monkeypatch.setenv("DATA", "/data")
    assert LabelCsvSettings(path="$HOME/clips").path == tmp_path / "home" / "clips"
    assert LabelCsvSettings(path="${DATA}").path == Path("/data")
    assert anchored("$NOBODY_SET_THIS/x") == project / "$NOBODY_SET_THIS/x"
    assert anchored("a/$HOME") == project / "a/$HOME"
    monkeypatch.setenv("DEMEANOR_CACHE", "~/cache")
    assert cache_folder() == tmp_path / "home" / "cache"


@pytest.mark.parametrize(("given", "text"), [(2024, "2024"), (1.5, "1.5"), ("mine", "mine"), (" a b ", "a b")])
def test_a_number_where_a_name_is_meant_is_its_text(given: object, text: str):
    assert LabelCsvSettings(path="x", name=given).name == text
    assert LabelCsvSettings(path="x", corpus=given).corpus == str(given)
    assert CorpusSettings(reader="label_csv", options={"path": "x", "name": given}).options["name"] == given


def test_a_folder_whose_name_is_a_number():
    assert LabelCsvSettings(path=2024).path.name == "2024"


def test_norwegian_is_no_no():
    assert LabelCsvSettings(path="x", language=False).language == "no"


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "..", "", "\u200b", "C:x", "/etc", "a\nb", "a\0b"])
def test_the_name_of_a_corpus_is_no_path(name: str):
    with pytest.raises(ValueError, match="the name of a corpus"):
        LabelCsvSettings(path="x", name=name)
