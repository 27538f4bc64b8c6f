"""Models by their addresses: which ones are meant, which one is the champion, which one is better."""

from __future__ import annotations

from pathlib import Path

import click

from demeanor.arguments import HomePath


def addresses(model: tuple[str, ...]) -> list[str]:
    """The models that were asked for, else all champions; the registry is asked only where it has to be."""
    if not model:
        return champions()
    if any(uri.startswith(("models:", "runs:")) for uri in model):
        from demeanor.tracking_store import connect_when_asked

        connect_when_asked(project_folder())
    return list(model)


def champions() -> list[str]:
    """Addresses of all registered champions of this project's tracking store."""
    from demeanor.tracking_store import connect_when_asked

    connect_when_asked(project_folder())
    from demeanor.analyser import champion_addresses

    return champion_addresses()


def project_folder() -> Path:
    """The Kedro project around the current folder, else that folder."""
    from kedro.utils import find_kedro_project

    return Path(find_kedro_project(Path.cwd()) or Path.cwd())


@click.command()
@click.argument("name")
@click.option("--version", default=None, help="Default: the challenger.")
def promote(name: str, version: str | None) -> None:
    """Make a registered model's challenger (or another version) its champion."""
    from demeanor.serving import registry
    from demeanor.tracking_store import connect

    connect(project_folder())
    made, former = registry.promote(name, version)
    before = f", version {former} was" if former not in (None, made) else ""
    click.echo(f"{name}: version {made} is the champion{before}")


@click.command()
@click.argument("model")
@click.argument("folder", type=HomePath(file_okay=False))
def export(model: str, folder: Path) -> None:
    """Write a MODEL (models:/NAME@ALIAS, hf://OWNER/NAME@REVISION or a folder) into FOLDER, with a model card as the
    Hugging Face hub reads it; figures come from this project's receipts."""
    (uri,) = addresses((model,))
    from demeanor.serving.exporting import export as write
    from demeanor.serving.locating import load_bundle

    click.echo(write(load_bundle(uri), folder, project_folder()))


@click.command()
@click.argument("one")
@click.argument("other")
def compare(one: str, other: str) -> None:
    """Compare two models (models:/NAME@ALIAS or folders) on validation of the data that both were trained on."""
    uris = addresses((one, other))
    from demeanor.serving.comparing import data_of, paired_on_validation
    from demeanor.serving.locating import load_bundle

    first, second = map(load_bundle, uris)
    difference = paired_on_validation(first, second, data_of(first, project_folder()))
    click.echo(f"{difference.describe(one, other)}; {difference.units} clips of validation")
