"""`demeanor import-checkpoint`: what others have trained, as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from demeanor.arguments import HomePath
from demeanor.commands.models import project_folder


@click.command("import-checkpoint")
@click.argument("system")
@click.argument("file", type=HomePath())
@click.option("--output", type=HomePath(), required=True, help="Folder for the bundle.")
@click.option("--modalities", default="", help="conv_autoencoder: audio,text,vision, where the name does not say.")
@click.option("--force", is_flag=True, help="conv_autoencoder: import one that ignores its input all the same.")
@click.option("--variant", default="", help="mmml: v1 or v2, whose weights look alike.")
@click.option("--corpus", default="", help="mmml: mosi, mosei or sims, where the name does not say.")
@click.option("--tokenizer", default="", help="mmml: folder of the tokenizer, where the hub cannot be reached.")
@click.option("--published", default="", help="MMSA family: the corpus whose published settings it was trained with.")
@click.option("--set", "changed", multiple=True, metavar="NAME=VALUE", help="MMSA family: a setting that was another.")
@click.option("--widths", default="", help="MMSA family: text=768,audio=5,vision=20, where the weights do not tell.")
@click.option("--aligned", is_flag=True, help="MMSA family: it was trained on the aligned feature file.")
@click.option("--register", is_flag=True, help="Also put it into the MLflow registry, as a model of its own.")
def import_checkpoint(
    system: str,
    file: Path,
    output: Path,
    modalities: str,
    force: bool,
    variant: str,
    corpus: str,
    tokenizer: str,
    published: str,
    changed: tuple[str, ...],
    widths: str,
    aligned: bool,
    register: bool,
) -> None:
    """Turn a released checkpoint of a research system (conv_autoencoder, mmml, tab_fusion, MMSA's) into a bundle."""
    from demeanor.checkpoints.importing import import_checkpoint as load

    chosen = tuple(name.strip() for name in modalities.split(",") if name.strip())
    options = {
        "modalities": chosen, "force": force, "variant": variant, "corpus": corpus, "tokenizer": tokenizer,
        "published": published, "settings": named_values("--set", changed), "aligned": aligned,
        "widths": named_values("--widths", [part for part in widths.split(",") if part.strip()], int),
    }  # fmt: skip
    bundle = load(system, file, **options)
    bundle.save(output)
    click.echo(f"{bundle}\nwritten to {output}")
    if register:
        click.echo(f"registered as {register_checkpoint(bundle, file)}")


def named_values(option: str, given: Sequence[str], kind: type = object) -> dict[str, Any]:
    """NAME=VALUE, the values read as YAML; InputError for what is none, or no value of the kind."""
    import yaml

    from demeanor.data.errors import InputError

    values: dict[str, Any] = {}
    problems = []
    for number, part in enumerate(given, 1):
        name, equals, text = part.partition("=")
        try:
            values[name.strip()] = value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = None
        if not equals or not name.strip() or value is None or not isinstance(value, kind):
            problems.append(f"number {number} is not NAME=VALUE{' with a whole number' if kind is int else ''}")
    if problems:
        raise InputError(option, problems)
    return values


def register_checkpoint(bundle: Any, file: Path) -> str:
    """Address in this project's registry of what was imported from `file`.

    InputError for what is no model by itself.
    """
    from demeanor.data.bundle import Bundle
    from demeanor.data.errors import InputError
    from demeanor.serving.registry import register_imported
    from demeanor.tracking_store import choose_experiment, connect

    if not isinstance(bundle, Bundle):
        raise InputError(str(file), ["is no model by itself, so there is nothing to register"], "Leave --register out.")
    import mlflow

    project = project_folder()
    connect(project)
    with mlflow.start_run(experiment_id=choose_experiment("imported", project), run_name=file.stem):
        return str(register_imported(bundle, file)["uri"])
