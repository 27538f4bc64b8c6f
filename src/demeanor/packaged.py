"""Running the pipelines from an installed wheel: `python -m demeanor` is there what `kedro run` is within a project.

`kedro package` makes a wheel and an archive of the configuration; what the catalog names lies below the working folder:

    python -m demeanor --conf-source=conf-demeanor.tar.gz --pipelines=ingestion
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

PACKAGE = "demeanor"
RUN = "run"
#: Options of the command itself; all others of `python -m demeanor` without a command are those of `run`.
OWN_OPTIONS = ("--help", "--version")


def run_command() -> click.Command:
    """Kedro's `run`, for this package."""
    from kedro.framework.cli.project import run
    from kedro.framework.project import configure_project

    from demeanor.cli import mended

    configure_project(PACKAGE)
    return mended(run)


def with_command(arguments: Sequence[str]) -> list[str]:
    """Arguments of `python -m demeanor`: where no command is named the pipelines run, as Kedro's users expect."""
    named = bool(arguments) and (not arguments[0].startswith("-") or arguments[0] in OWN_OPTIONS)
    return list(arguments) if named else [RUN, *arguments]
