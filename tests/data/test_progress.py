"""What a reader is told while work goes on."""

from __future__ import annotations

import io
import logging
import time

import pytest

from demeanor.data import progress
from demeanor.data.progress import LogLines, Progress, use_log_lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def silence(monkeypatch):
    """A reader who is told after a moment already."""
    monkeypatch.setattr(progress, "SILENCE", 0.0)


def wait_for(found, limit: float = 20.0) -> None:
    ends = time.monotonic() + limit
    while not found():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_step_that_says_nothing_itself_is_told_while_it_lasts(monkeypatch, silence):
    told = io.StringIO()
    monkeypatch.setattr("sys.stderr", told)
    with Progress("registering", 3, "models") as shown:
        shown.advance(note="the first is in")
        wait_for(lambda: told.getvalue().count("\n") >= 2)
    assert told.getvalue().startswith("registering: 1 of 3 models, the first is in, ")
    length = len(told.getvalue())
    time.sleep(1.2)
    assert len(told.getvalue()) == length, "it goes on after its end"


def test_what_is_short_is_not_told(capfd):
    with Progress("short", 3) as shown:
        shown.advance(3)
    assert capfd.readouterr().err == ""


def test_the_innermost_of_several_tells(monkeypatch, silence):
    told = io.StringIO()
    monkeypatch.setattr("sys.stderr", told)
    with Progress("the whole"), Progress("a part"):
        wait_for(lambda: "a part" in told.getvalue())
    assert "the whole" not in told.getvalue()


def test_a_terminal_has_a_bar_that_is_gone_afterwards(monkeypatch):
    told = Terminal()
    monkeypatch.setattr("sys.stderr", told)
    with Progress("audio.frames", 4, "clips") as shown:
        shown.advance(2)
        shown.say("a line that stays")
    assert "audio.frames" in told.getvalue()
    assert "2/4 [" in told.getvalue()
    assert "a line that stays\n" in told.getvalue()
    assert told.getvalue().rsplit("\r", 1)[-1].strip() == ""


def test_a_log_record_is_one_line_however_long(monkeypatch):
    told = io.StringIO()
    monkeypatch.setattr("sys.stderr", told)
    handler = LogLines()
    for level, text in ((logging.INFO, "word " * 100), (logging.WARNING, "careful")):
        handler.handle(logging.LogRecord("demeanor", level, "", 0, text, (), None))
    assert told.getvalue() == "word " * 100 + "\nWARNING  careful\n"


def test_plain_handlers_of_the_root_give_way(monkeypatch):
    plain, other = logging.StreamHandler(), logging.NullHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [plain, other])
    use_log_lines()
    assert plain not in logging.getLogger().handlers
    assert other in logging.getLogger().handlers
    assert [type(handler) for handler in logging.getLogger().handlers] == [logging.NullHandler, LogLines]
