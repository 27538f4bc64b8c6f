"""`kedro run` ends with a sentence where a sentence says it all, also where it is stopped."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from demeanor.arguments import HomePath
from demeanor.cli import cli, in_sentences, kedro_keeps_quiet, log_as_at_the_root, message_of, problems_of
from demeanor.data.errors import InputError, MissingExtraError, Stopped
from demeanor.data.progress import LogLines
from demeanor.stopping import asked_to_stop, orderly_stop
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.project import PROJECT


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A command whose body raises what it is given, outside of any project."""
    monkeypatch.chdir(tmp_path)

    def invoke(error: BaseException) -> Result:
        def body() -> None:
            raise error

        return CliRunner().invoke(click.Command("run", callback=in_sentences(body)))

    return invoke


def wrapped(error: Exception) -> Exception:
    """As Kedro raises what happens while a dataset is saved."""
    outer = RuntimeError("Failed while saving data to dataset")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize("text", ["007", "1e3", "no", "null", "2024", "nan", "~/clips"])
def test_what_a_corpus_is_called_stays_as_it_is_typed(text: str):
    option = next(one for one in cli.get_command(click.Context(cli), "run").params if one.name == "params")
    typed = f"corpus.options.name={text},corpus.options.path={text},workers=2,corpus.options.low=1e0"
    made = option.process_value(click.Context(cli), typed)
    assert made == {"corpus": {"options": {"name": text, "path": text, "low": 1.0}}, "workers": 2}


def test_a_path_in_quotation_marks_begins_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.csv").touch()
    assert HomePath(exists=True).convert("~/rows.csv", None, None) == tmp_path / "rows.csv"
    assert HomePath().convert("a~/b", None, None) == Path("a~/b")


def test_a_run_below_the_root_logs_as_one_at_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.kedro]\n")
    (tmp_path / "conf/logging.yml").write_text((PROJECT / "conf/logging.yml").read_text(encoding="utf-8"))
    loggers = [logging.getLogger(), logging.getLogger("kedro"), logging.getLogger("demeanor")]
    before = [(one.level, list(one.handlers)) for one in loggers]
    try:
        logging.getLogger("kedro").setLevel(logging.INFO)
        monkeypatch.chdir(tmp_path)
        log_as_at_the_root()
        assert logging.getLogger("kedro").level == logging.INFO, "at the root Kedro has read it itself"
        monkeypatch.chdir(tmp_path / "notebooks")
        log_as_at_the_root()
        assert logging.getLogger("kedro").level == logging.WARNING
        assert any(isinstance(one, LogLines) for one in logging.getLogger().handlers)
    finally:
        for one, (level, handlers) in zip(loggers, before, strict=True):
            one.setLevel(level)
            one.handlers[:] = handlers


@pytest.mark.parametrize("around", [lambda error: error, wrapped], ids=["in a node", "in a dataset"])
@pytest.mark.parametrize(
    "error",
    [
        InputError("table", ["no column 'mode'"]),
        MissingExtraError("tuning", "tune"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_deliberate_error_is_its_message(run: Callable[..., Result], tmp_path: Path, error: Any, around: Any):
    done = run(around(error))
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    # What is free on the disk changes from one moment to the next.
    free = re.compile(r"[\d,.]+ MiB")
    assert free.sub("", done.output).startswith(free.sub("", f"Error: {message_of(error)}"))
    log = tmp_path / "info.log"
    assert f"(The traceback is in {log}.)" in done.output
    assert "Traceback (most recent call last)" in log.read_text()


def test_a_fault_of_the_program_keeps_its_traceback(run: Callable[..., Result], tmp_path: Path):
    done = run(ZeroDivisionError("a fault"))
    assert isinstance(done.exception, ZeroDivisionError)
    assert not (tmp_path / "info.log").exists()


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (Stopped(15), 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_run_that_is_stopped_says_so(run: Callable[..., Result], monkeypatch, error: BaseException, code: int):
    ended = []
    monkeypatch.setattr("demeanor.cli.end_tracking", lambda: ended.append(True))
    done = run(error)
    assert done.exit_code == code
    assert done.output.startswith("Stopped by ")
    assert ended == [True]


def test_sigterm_becomes_an_exception_and_a_second_one_ends_the_process():
    def told_to_stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as raised, orderly_stop():
        told_to_stop()
    assert raised.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_interrupt_that_a_library_takes_for_an_error_of_its_own_is_told_as_what_it_is():
    """As the loading of a native library does, which an interrupt meets."""

    def run() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt as stop:
            assert asked_to_stop() == signal.SIGINT
            raise ImportError("initialization failed") from stop

    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # processes of a test run may ignore it
    try:
        done = CliRunner().invoke(click.command()(in_sentences(run)))
    finally:
        signal.signal(signal.SIGINT, former)
    assert done.exit_code == 130
    assert done.output.startswith("Stopped by Ctrl-C")
    assert asked_to_stop() is None


def test_a_signal_that_is_ignored_on_purpose_stays_ignored():
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with orderly_stop():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, former)


def test_parameters_that_do_not_fit_are_told_without_links_and_values():
    from kedro.validation.exceptions import ParameterValidationError

    with pytest.raises(ValueError, match="epochs") as raised:
        TrainingSettings(epochs="many", patience="secret")  # type: ignore[arg-type]
    direct = problems_of(raised.value)
    assert [line.partition(":")[0] for line in direct] == ["epochs", "patience"]
    text = f"Parameter 'late_fusion': Failed to instantiate: {raised.value}"
    kedro = ParameterValidationError(f"Parameter validation failed:\n- {text}\n- Parameter 'workers': value is None")
    told = problems_of(kedro)
    assert [line.partition(":")[0] for line in told] == [
        "late_fusion.epochs", "late_fusion.patience", "Parameter 'workers'",
    ]  # fmt: skip
    for line in direct + told:
        assert not any(word in line for word in ("http", "input_value", "secret", "[type="))


def test_what_is_wrong_with_a_block_as_a_whole_has_its_name():
    from kedro.validation.exceptions import ParameterValidationError

    with pytest.raises(ValueError, match="foo") as raised:
        BranchSettings(system="foo", task="sentiment", streams={})
    kedro = ParameterValidationError(f"Parameter validation failed:\n- Parameter 'mine': Failed: {raised.value}")
    (told,) = problems_of(kedro)
    assert told.startswith("mine: system: 1 problem - there is no system 'foo'.")


def test_kedro_does_not_say_it_twice(caplog: pytest.LogCaptureFixture):
    logger = logging.getLogger("kedro.pipeline.node")
    root = logging.getLogger()
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    root.addHandler(handler)
    try:
        with kedro_keeps_quiet():
            logger.warning("an ordinary warning")
            for error in (InputError("table", ["wrong"]), ZeroDivisionError("a fault")):
                try:
                    raise error
                except Exception:
                    logger.error("node failed: %s", type(error).__name__)
    finally:
        root.removeHandler(handler)
    assert told == ["an ordinary warning", "node failed: ZeroDivisionError"]


def test_kedro_finds_the_command():
    assert cli.list_commands(click.Context(cli)) == ["run"]
    command = cli.get_command(click.Context(cli), "run")
    assert command is not None
    assert {"env", "pipelines", "params"} <= {parameter.name for parameter in command.params}
    assert cli.get_command(click.Context(cli), "catalog") is None
    assert "demeanor.cli" in sys.modules
