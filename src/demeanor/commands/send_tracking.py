"""`demeanor send-tracking`: what a run had to keep, handed to MLflow."""

from __future__ import annotations

from pathlib import Path

import click

from demeanor.arguments import HomePath
from demeanor.commands.models import project_folder


@click.command("send-tracking")
@click.argument("folder", type=HomePath(exists=True, file_okay=False))
def send_tracking(folder: Path) -> None:
    """Hand MLflow what a run had to keep in FOLDER because the tracking server did not answer."""
    from demeanor.mlflow_sender import send_kept
    from demeanor.tracking_store import connect

    uri = connect(project_folder(), writing=True)
    click.echo(f"{send_kept(folder)} reports handed to {uri}")
