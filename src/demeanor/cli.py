"""What Kedro's command line has of this project: `kedro run` that ends with a sentence where a sentence says it all.

Kedro looks for this module by its name, and prefers the commands in it to its own.
"""

from __future__ import annotations

import copy
import functools
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from demeanor.arguments import keeping_text
from demeanor.data.errors import DemeanorError, InputError, Stopped
from demeanor.data.files import disk_error
from demeanor.stopping import Request, orderly_stop

LOG = "info.log"
#: What pydantic adds for programmers: the kind of error, the value that was given, and a page of its manual.
_FOR_PROGRAMMERS = re.compile(r" \[type=.*\]$|^\s*For further information visit .*$", re.MULTILINE)


class ProjectCommands(click.Group):
    """`run` is made when it is asked for: Kedro imports this module for each of its commands."""

    def list_commands(self, context: click.Context) -> list[str]:
        """`run` alone: all else is Kedro's."""
        return ["run"]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Kedro's `run`, whose errors end in sentences; None for every other name."""
        if name != "run":
            return None
        from kedro.framework.cli.project import run

        return mended(run)


def mended(run: click.Command) -> click.Command:
    """Kedro's `run` as it is said here: its errors in sentences, names and paths as they are typed."""
    command = copy.copy(run)
    assert command.callback is not None
    command.callback = in_sentences(command.callback)
    command.params = [keeping_text(one) if one.name == "params" else one for one in command.params]
    return command


cli = ProjectCommands(name="demeanor")


def in_sentences(callback: Callable[..., Any]) -> Callable[..., Any]:
    """`callback`, whose deliberate errors are shown as their message; their tracebacks go to the log file."""

    @functools.wraps(callback)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        request = Request()
        try:
            log_as_at_the_root()
            with orderly_stop() as request, kedro_keeps_quiet():
                return callback(*arguments, **options)
        except KeyboardInterrupt as stop:
            end_stopped(stop.number if isinstance(stop, Stopped) else signal.SIGINT)
        except Exception as error:
            if request.number is not None:  # in disguise, as a library's own error
                end_stopped(request.number)
            message = message_of(error)
            if message is None:
                raise
            raise click.ClickException(f"{message}\n{keep_traceback(error)}") from error

    return wrapped


def message_of(error: BaseException) -> str | None:
    """What to tell of an error that somebody raised on purpose for the user to read; None for any other.

    Kedro wraps what is raised while a dataset is saved or loaded, so the causes are looked at too.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DemeanorError):
            return str(cause)
        if problems := problems_of(cause):
            return str(InputError("parameters", problems, "Mend them in conf/, or in what --params says."))
        cause = cause.__cause__
    told = disk_error(error)
    return None if told is None else str(told)


def problems_of(error: BaseException) -> list[str]:
    """Parameters that do not fit their types: one line each, without the values that were given."""
    kind = type(error)
    if kind.__name__ == "ValidationError" and kind.__module__.startswith("pydantic"):
        listed: Any = error
        locations = [".".join(map(str, entry["loc"])) or listed.title for entry in listed.errors()]
        messages = [" ".join(entry["msg"].removeprefix("Value error, ").split()) for entry in listed.errors()]
        return [f"{place}: {message}" for place, message in zip(locations, messages, strict=True)]
    if kind.__name__ not in ("ParameterValidationError", "ModelInstantiationError"):
        return []
    # "Parameter 'x': Failed to ...: 2 validation errors for Kind\nplace\n  message [type=...]\n    For further ..."
    problems: list[str] = []
    for part in re.split(r"^- (?=Parameter ')|^(?=Parameter ')", str(error), flags=re.MULTILINE):
        if not part.startswith("Parameter '"):
            continue
        lines = [line for line in _FOR_PROGRAMMERS.sub("", part).splitlines() if line.strip()]
        parameter = lines[0].split("'")[1]
        if len(lines) == 1:
            problems.append(lines[0])
        # A place stands at the margin, what is wrong there below it and indented; of the whole there is no place.
        place, new = parameter, True
        for line in lines[1:]:
            message = line.strip().removeprefix("Value error, ")
            if not line.startswith(" "):
                place, new = f"{parameter}.{line.strip()}", True
            elif new:
                problems.append(f"{place}: {message}")
                new = False
            else:
                problems[-1] += f" {message}"
    return problems


def log_as_at_the_root() -> None:
    """Kedro looks for conf/logging.yml in the working folder alone: below the root, a run would tell all it does."""
    from kedro.utils import find_kedro_project

    root = find_kedro_project(Path.cwd())
    place = None if root is None else Path(root) / "conf" / "logging.yml"
    if place is None or Path(root) == Path.cwd() or "KEDRO_LOGGING_CONFIG" in os.environ or not place.is_file():
        return
    import yaml
    from kedro.framework.project import LOGGING

    from demeanor.data.progress import use_log_lines

    LOGGING.configure(yaml.safe_load(place.read_text(encoding="utf-8")))
    use_log_lines()


@contextmanager
def kedro_keeps_quiet() -> Iterator[None]:
    """Kedro logs an error twice before it raises it, and how to resume: not where the error itself says all that."""

    def wanted(record: logging.LogRecord) -> bool:
        error = sys.exc_info()[1]
        about_it = record.name.startswith("kedro.") and error is not None
        return not (about_it and message_of(error) is not None)  # type: ignore[arg-type]

    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(wanted)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(wanted)


def keep_traceback(error: BaseException) -> str:
    """Add the traceback to the project's log file; a sentence on where it is."""
    from kedro.utils import find_kedro_project

    path = Path(find_kedro_project(Path.cwd()) or Path.cwd()) / LOG
    text = "".join(traceback.format_exception(error))
    try:
        with open(path, "a", encoding="utf-8") as handle:
            handle.write(f"{datetime.now().isoformat(timespec='seconds')} {' '.join(sys.argv[1:])}\n{text}\n")
    except OSError as problem:
        return f"(The traceback could not be written to {path}: {problem.strerror}.)"
    return f"(The traceback is in {path}.)"


def end_stopped(number: int) -> NoReturn:
    """Say that a signal stopped the run, and end as shells expect it of one."""
    end_tracking()
    how = "Stopped by Ctrl-C" if number == signal.SIGINT else f"Stopped by signal {number}"
    click.echo(f"{how}. What is finished is kept; the same command goes on from there.", err=True)
    sys.exit(128 + number)


def end_tracking() -> None:
    """Close the MLflow run of this process, if one is open, as what it is: killed."""
    tracking = sys.modules.get("demeanor.tracking")
    if tracking is not None:
        tracking.end(tracking.KILLED)
