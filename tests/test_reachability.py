"""The tracking store's address is looked at before a run relies on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from demeanor import reachability
from demeanor.__main__ import main
from demeanor.data.errors import InputError
from demeanor.reachability import problem_of, readable, require_answer


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


@pytest.fixture
def server() -> Iterator[str]:
    """Answers everything with 404, as a server behind a prefix would answer /health."""

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *arguments: object) -> None:
            """The test's output stays clean."""

    made = HTTPServer(("127.0.0.1", 0), Nothing)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_nothing_answers_and_the_setting_is_named(closed_port: int, monkeypatch: pytest.MonkeyPatch):
    uri = f"http://127.0.0.1:{closed_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match=r"from MLFLOW_TRACKING_URI.*\n.*connection refused"):
        require_answer(uri)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(InputError, match=r"tracking_uri of conf/base/mlflow.yml"):
        require_answer(uri)


def test_a_database_server_is_asked_at_its_port(closed_port: int):
    told = problem_of(f"postgresql+psycopg2://me:secret@127.0.0.1:{closed_port}/mlflow")
    assert "connection refused" in told


def test_an_address_without_a_machine_is_found_out():
    assert problem_of("http://no-such-machine.invalid:5000").startswith("nothing answers there (")


def test_any_answer_will_do(server: str):
    require_answer(server, writing=True)


def test_a_server_that_takes_the_call_and_says_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reachability, "SECONDS", 0.2)
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        place.listen()
        assert "nothing answers there within" in problem_of(f"http://127.0.0.1:{place.getsockname()[1]}")


def test_passwords_are_not_told(closed_port: int):
    uri = f"http://me:secret@127.0.0.1:{closed_port}"
    with pytest.raises(InputError) as raised:
        require_answer(uri)
    assert "secret" not in str(raised.value)
    assert readable("sqlite:////somewhere/mlflow.db") == "sqlite:////somewhere/mlflow.db"


def test_a_database_file_has_to_be_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "there is no folder" in problem_of(f"sqlite:///{tmp_path}/nowhere/mlflow.db")
    assert "this is a folder" in problem_of(f"sqlite:///{tmp_path}")
    path = tmp_path / "mlflow.db"
    path.touch()
    assert problem_of(f"sqlite:///{path}", writing=True) == ""
    monkeypatch.setattr(reachability.os, "access", lambda place, mode: place != path)
    assert problem_of(f"sqlite:///{path}", writing=True) == f"permission to write {path} is denied"
    assert problem_of(f"sqlite:///{path}") == "", "who only reads needs no such permission"


@pytest.mark.parametrize("more", [[], ["--model", "models:/some@champion"]], ids=["champions", "one model"])
def test_predict_with_a_dead_address_is_one_message(closed_port: int, monkeypatch: pytest.MonkeyPatch, more: list[str]):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    done = CliRunner().invoke(main, ["predict", "--text", "Well.", *more])
    assert done.exit_code == 1
    assert "from MLFLOW_TRACKING_URI" in done.output
    assert "connection refused" in done.output
    assert "Traceback" not in done.output
