"""What an environment says comes to: conf/base, the environment, and on top one's own conf/local."""

from __future__ import annotations

from pathlib import Path

import pytest
from kedro.config import MissingConfigException
from kedro.io import DataCatalog
from kedro.validation import DataValidationError

from demeanor.configuration import ARGUMENTS, ConfigLoader, loader_of
from demeanor.data.errors import InputError
from demeanor.data.utterances import make_table
from demeanor.pipelines import fusion_training
from demeanor.pipelines.branches import REPRESENTATION, Selection, selection_of
from tests.project import PROJECT, parameters_of


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    write(tmp_path / "base/parameters.yml", "workers: auto\ncorpus: {options: {path: none, low: -3}}\n")
    write(tmp_path / "base/catalog.yml", 'table: {type: x, filepath: "data/${globals:corpus}/table"}\n')
    write(tmp_path / "demo/parameters.yml", "corpus: {options: {path: demo}}\n")
    write(tmp_path / "mosi/parameters.yml", "corpus: {options: {path: mosi}}\n")
    return tmp_path


def test_mappings_are_merged_and_the_demo_is_the_default(conf: Path):
    assert parameters_of("mosi", conf) == {"workers": "auto", "corpus": {"options": {"path": "mosi", "low": -3}}}
    assert ConfigLoader(str(conf), **ARGUMENTS)["parameters"]["corpus"]["options"]["path"] == "demo"


def test_ones_own_settings_are_read_in_every_environment(conf: Path):
    write(conf / "local/parameters.yml", "workers: 2\n")
    write(conf / "local/mosi/parameters.yml", "corpus: {options: {path: /data/mosi}}\n")
    mosi, demo = parameters_of("mosi", conf), parameters_of("demo", conf)
    assert (mosi["workers"], demo["workers"]) == (2, 2)
    assert mosi["corpus"] == {"options": {"path": "/data/mosi", "low": -3}}
    assert demo["corpus"]["options"]["path"] == "demo", "what is meant for one environment is read in another"
    given = parameters_of("mosi", conf, corpus={"options": {"path": "/elsewhere"}})
    assert given["corpus"]["options"]["path"] == "/elsewhere", "--params is not the last word"


def test_a_file_of_one_pipeline_takes_the_place_of_what_the_environment_says(conf: Path):
    write(conf / "mine/parameters.yml", "corpus: {reader: folder, options: {path: a, high: 3}}\nworkers: 2\n")
    write(conf / "mine/parameters_ingestion.yml", "corpus: {reader: cmu_sdk, options: {path: b}}\n")
    made = parameters_of("mine", conf)
    assert made == {"workers": 2, "corpus": {"reader": "cmu_sdk", "options": {"path": "b", "low": -3}}}
    write(conf / "mine/parameters_training.yml", "corpus: {options: {path: c}}\n")
    with pytest.raises(ValueError, match="Duplicate keys"):
        parameters_of("mine", conf)


def test_folders_are_called_like_the_environment_where_no_globals_say_otherwise(conf: Path):
    assert ConfigLoader(str(conf), env="mosi", **ARGUMENTS)["catalog"]["table"]["filepath"] == "data/mosi/table"
    write(conf / "mosi_tuned/globals.yml", "corpus: mosi\n")
    assert ConfigLoader(str(conf), env="mosi_tuned", **ARGUMENTS)["catalog"]["table"]["filepath"] == "data/mosi/table"


def test_credentials_may_stand_in_ones_own_settings_alone(conf: Path):
    loader = ConfigLoader(str(conf), env="mosi", **ARGUMENTS)
    with pytest.raises(MissingConfigException):
        loader["credentials"]
    write(conf / "local/credentials.yml", "store: {key: mine}\n")
    assert loader["credentials"] == {"store": {"key": "mine"}}


def test_pipelines_without_a_session_read_the_configuration_once(monkeypatch: pytest.MonkeyPatch):
    """`kedro registry list` took nine seconds when each branch asked for itself."""
    read: list[Path] = []
    monkeypatch.setattr("demeanor.pipelines.branches._selection", None)
    monkeypatch.setattr("demeanor.configuration.loader_of", lambda conf: (read.append(conf), loader_of(conf))[1])
    monkeypatch.chdir(PROJECT)
    assert len(fusion_training.create_pipeline().nodes) > 10
    assert read == [PROJECT / "conf"]


def test_branches_are_those_that_are_enabled():
    streams = {"text": f"{REPRESENTATION}.pca"}
    branches = {"one": {"streams": streams}, "two": {"enabled": False}, "three": {"enabled": True}}
    assert selection_of({"branches": branches}) == Selection(("one", "three"), frozenset({"one"}))


def test_what_is_joined_names_branches_that_are_trained():
    branches = {"words": {}, "voice": {}, "face": {"enabled": False}}
    joined = {"experts": {"members": ["words", "voice"]}, "later": {"members": ["face"], "enabled": False}}
    assert selection_of({"branches": branches, "joined": joined}).joined == (("experts", ("words", "voice")),)
    wrong = {"experts": {"members": ["words", "face", "vioce"]}, "voice": {"members": ["words"]}, "none": {}}
    with pytest.raises(InputError) as told:
        selection_of({"branches": branches, "joined": wrong})
    assert list(told.value.problems) == [
        "'face' is not enabled: joined.experts needs it, unless joined.experts.enabled=false.",
        "'vioce', a member of 'experts', is no branch. Did you mean 'voice'?",
        "'voice' is the name of a branch, too",
        "'none' lists no members",
    ]
    with pytest.raises(InputError, match="no mapping"):
        selection_of({"branches": branches, "joined": ["words", "voice"]})
    nested = {"both": {"members": ["mean", "voice"]}, "mean": {"members": ["words"]}}
    assert selection_of({"branches": branches, "joined": nested}).joined[0] == ("both", ("mean", "voice"))
    with pytest.raises(InputError, match=r"'mean' is not enabled: joined\.both needs it"):
        selection_of({"branches": branches, "joined": {**nested, "mean": {"members": ["words"], "enabled": False}}})
    with pytest.raises(InputError, match="both needs mean needs both: one of them has to come first"):
        selection_of({"branches": branches, "joined": {**nested, "mean": {"members": ["words", "both"]}}})


@pytest.mark.parametrize("branches", [None, ["late_fusion"], {}, {"one": {"enabled": False}}, {"one": "late_fusion"}])
def test_parameters_without_a_branch_are_refused(branches):
    with pytest.raises(InputError, match="branches"):
        selection_of({"branches": branches})


def test_the_catalog_checks_the_utterances_whoever_reads_or_writes_them(tmp_path: Path):
    from demeanor.cli import message_of

    entry = ConfigLoader(str(PROJECT / "conf"), **ARGUMENTS)["catalog"]["utterances"]
    catalog = DataCatalog.from_config({"utterances": {**entry, "filepath": str(tmp_path / "utterances.parquet")}})
    row = {"utterance_id": "a", "corpus": "c", "split": "train", "dialogue": "d", "turn": 0, "text": "Well."}
    catalog.save("utterances", make_table([row]))
    assert list(catalog.load("utterances")["utterance_id"]) == ["a"]
    wrong = catalog.load("utterances").assign(split="exam")
    with pytest.raises(DataValidationError) as caught:
        catalog.save("utterances", wrong)
    told = message_of(caught.value)
    assert told is not None
    assert "split" in told


def test_the_configuration_can_be_read_in_one_sitting():
    own = PROJECT / "conf/local"
    files = [path for path in (PROJECT / "conf").rglob("*.yml") if own not in path.parents]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    assert len(files) <= 30
    assert lines <= 1000, f"{len(files)} files, {lines} lines: say what is alike once, in conf/base"
