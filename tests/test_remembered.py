"""Answers of a registry are remembered while its database is as it was, and no longer."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from demeanor import analyser, remembered, tracking_store
from demeanor.data.errors import InputError
from demeanor.remembered import ENDING, Registry, state_of
from demeanor.serving import locating


class Champion:
    """The registry's answer, and how often it was really asked for it."""

    def __init__(self, version: str):
        self.version, self.asked, self.connected = version, 0, 0

    def __call__(self) -> str:
        self.asked += 1
        return self.version

    def connect(self) -> None:
        self.connected += 1


@pytest.fixture(params=["delete", "wal"])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as store, store:
        store.execute(f"pragma journal_mode={request.param}")
        store.execute("create table aliases (version text)")
    return path


def ask(database: Path, champion: Champion, holds: bool = True) -> str:
    """As a new process does."""
    return Registry(database, champion.connect).asked("champion", champion, lambda answer: holds)


def test_what_was_asked_once_is_known_until_somebody_writes(database):
    champion = Champion("1")
    assert [ask(database, champion) for _ in range(3)] == ["1", "1", "1"]
    assert (champion.asked, champion.connected) == (1, 1)
    champion.version = "2"
    with closing(sqlite3.connect(database)) as store, store:
        store.execute("insert into aliases values ('2')")
    assert [ask(database, champion) for _ in range(2)] == ["2", "2"]
    assert (champion.asked, champion.connected) == (2, 2)


def test_an_answer_that_holds_no_longer_is_asked_for_again(database):
    champion = Champion("1")
    ask(database, champion)
    assert ask(database, champion, holds=False) == "1"
    assert champion.asked == 2


def test_one_who_connects_may_change_the_database_itself(database):
    """As MLflow does with one of an earlier version; what was said before that does not count."""
    champion = Champion("1")

    def migrate() -> None:
        with closing(sqlite3.connect(database)) as store, store:
            store.execute("create table more (version text)")

    registry = Registry(database, migrate)
    assert registry.asked("champion", champion, lambda answer: True) == "1"
    assert champion.asked == 2
    assert ask(database, champion) == "1"
    assert champion.asked == 2


def test_nothing_is_remembered_while_somebody_writes(database):
    champion = Champion("1")
    database.with_name("mlflow.db-journal").write_bytes(b"")
    assert state_of(database) is None
    assert [ask(database, champion) for _ in range(2)] == ["1", "1"]
    assert champion.asked == 2
    assert not database.with_name("mlflow.db" + ENDING).exists()


@pytest.mark.parametrize("content", ["", "[]", '{"state": 1}', "no JSON"])
def test_a_file_of_answers_that_is_none_is_not_believed(database, content):
    champion = Champion("1")
    database.with_name("mlflow.db" + ENDING).write_text(content, encoding="utf-8")
    assert [ask(database, champion) for _ in range(2)] == ["1", "1"]
    assert champion.asked == 1


def test_without_a_registry_in_use_everybody_is_asked(database):
    champion = Champion("1")
    assert [remembered.asked("champion", champion) for _ in range(2)] == ["1", "1"]
    remembered.use(Registry(database, champion.connect))
    try:
        assert [remembered.asked("champion", champion) for _ in range(2)] == ["1", "1"]
    finally:
        remembered.use(None)
    assert (champion.asked, champion.connected) == (3, 1)


def test_a_run_leaves_what_the_first_command_after_it_asks(database, tmp_path, monkeypatch):
    uri, folder = "models:/demeanor-some-sentiment@champion", tmp_path / "bundle"
    folder.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setattr(tracking_store, "_point_mlflow", lambda address: None)
    monkeypatch.setattr(analyser, "_champion_addresses", lambda: [uri])
    monkeypatch.setattr(locating, "_downloaded", lambda address: str(folder))
    analyser.remember_champions(tmp_path)
    for module, name in (
        (tracking_store, "_point_mlflow"),
        (analyser, "_champion_addresses"),
        (locating, "_downloaded"),
    ):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("MLflow was asked"))
    tracking_store.connect_when_asked(tmp_path)
    try:
        assert analyser.champion_addresses() == [uri]
        assert locating.folder_of(uri) == folder
    finally:
        remembered.use(None)


def test_a_run_without_a_champion_and_a_registry_that_is_no_file_leave_nothing(database, tmp_path, monkeypatch):
    def none() -> list[str]:
        raise InputError("model registry", ["no champion is registered"])

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setattr(tracking_store, "_point_mlflow", lambda address: None)
    monkeypatch.setattr(analyser, "_champion_addresses", none)
    analyser.remember_champions(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    analyser.remember_champions(tmp_path)
    assert not database.with_name(database.name + ENDING).exists()
