"""`demeanor serve`: models behind a door for others."""

from __future__ import annotations

from typing import Any

import click

from demeanor.commands.models import champions, project_folder


@click.command()
@click.argument("model", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: whoever reaches this machine.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", type=click.IntRange(1), help="Processes that decode and extract. Default: one per core.")
@click.option("--queue", type=click.IntRange(1), help="Requests that wait; one more is answered 429. Default: 64.")
@click.option("--deadline", type=click.FloatRange(0.1), help="Seconds that a request may take. Default: 30.")
@click.option("--batch-rows", type=click.IntRange(1), help="Rows that the model is given at once. Default: 16.")
@click.option("--poll", type=click.FloatRange(0.1), help="Seconds between two looks for a new champion. Default: 10.")
def serve(model: tuple[str, ...], host: str, port: int, **numbers: Any) -> None:
    """Answer over HTTP, with a page at /: recordings decoded in processes of their own, limits, metrics.

    MODEL is models:/NAME@ALIAS (followed when the alias moves), models:/NAME/VERSION, or the folder of a bundle; by
    default all champions. Keys, folders and what else is set by the environment: docs/serving.md.
    """
    from demeanor.server.start import start

    given = {name: value for name, value in numbers.items() if value is not None}
    start(model, host, port, given, project_folder, champions)
