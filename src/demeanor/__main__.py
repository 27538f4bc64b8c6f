"""The command `demeanor`: predict, systems, doctor, ...; and `run`, which is Kedro's, for the installed wheel."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import Any

import click

from demeanor import __version__, packaged, remembered

# As in settings.py, for commands that do not go through Kedro.
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

#: name -> "module:function" of a command, imported when it is asked for.
COMMANDS: dict[str, str] = {
    "compare": "demeanor.commands.models:compare",
    "doctor": "demeanor.commands.doctor:doctor",
    "export": "demeanor.commands.models:export",
    "import-checkpoint": "demeanor.commands.checkpoints:import_checkpoint",
    "live": "demeanor.commands.timeline:live",
    "predict": "demeanor.commands.predict:predict",
    "promote": "demeanor.commands.models:promote",
    "robustness": "demeanor.commands.robustness:robustness",
    "send-tracking": "demeanor.commands.send_tracking:send_tracking",
    "serve": "demeanor.commands.serve:serve",
    "systems": "demeanor.commands.systems:systems",
    "timeline": "demeanor.commands.timeline:timeline",
}


class ReadableErrors(click.Group):
    """Errors that Demeanor raises on purpose are shown as their message, without a traceback.

    `run` is Kedro's.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        """Names of the commands, Kedro's `run` among them."""
        return sorted([*COMMANDS, packaged.RUN])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of this name, None where there is none."""
        if name == packaged.RUN:
            return packaged.run_command()
        if name not in COMMANDS:
            return None
        module, function = COMMANDS[name].split(":")
        return getattr(import_module(module), function)

    def invoke(self, context: click.Context) -> Any:
        """Run a command; an error that Demeanor raises on purpose becomes click's, which prints its message alone."""
        from demeanor.data.errors import DemeanorError

        try:
            return super().invoke(context)
        except DemeanorError as error:
            raise click.ClickException(str(error)) from error
        finally:
            remembered.use(None)  # what is asked next in this process may be another project's


@click.group(cls=ReadableErrors)
@click.version_option(__version__)
def main() -> None:
    """Sentiment and emotion from words, voice and face."""
    # Libraries make objects by the hundred thousand while they are imported, none of them garbage: looking for it every
    # 700 objects, as Python does, is a sixth of the time that a command for one sentence takes.
    gc.set_threshold(100_000, 20, 20)


if __name__ == "__main__":
    main(packaged.with_command(sys.argv[1:]), prog_name="python -m demeanor")
