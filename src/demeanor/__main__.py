"""The command `demeanor`: predict, systems, doctor."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from demeanor import __version__

# As in settings.py, for commands that do not go through Kedro.
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


class ReadableErrors(click.Group):
    """Errors that Demeanor raises on purpose are shown as their message, without a traceback."""

    def invoke(self, context: click.Context) -> Any:
        from demeanor.data.errors import DemeanorError

        try:
            return super().invoke(context)
        except DemeanorError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=ReadableErrors)
@click.version_option(__version__)
def main() -> None:
    """Sentiment and emotion from words, voice and face."""


@main.command()
@click.argument("media", nargs=-1, type=click.Path(path_type=Path))
@click.option("--text", multiple=True, help="Transcript; once per recording, in their order.")
@click.option("--rows", type=click.Path(exists=True, path_type=Path), help="CSV of rows to score instead.")
@click.option("--dialogue", is_flag=True, help="The recordings are the turns of one conversation, in order.")
@click.option("--speaker", multiple=True, help="Who speaks; once per recording.")
@click.option("--model", multiple=True, help="models:/NAME@ALIAS or the folder of a bundle. Default: all champions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one list of rows per model.")
def predict(
    media: tuple[Path, ...],
    text: tuple[str, ...],
    rows: Path | None,
    dialogue: bool,
    speaker: tuple[str, ...],
    model: tuple[str, ...],
    as_json: bool,
) -> None:
    """Score recordings (video or audio files), text, or both with the registered champions."""
    from demeanor.serving.answers import records_of
    from demeanor.serving.predictor import Predictor, as_text
    from demeanor.serving.reach import EVERYWHERE
    from demeanor.serving.registry import load_bundle

    table = rows_of(media, text, rows, dialogue, speaker)
    answers: dict[str, list[dict[str, Any]]] = {}
    failed = False
    for uri in model or champions():
        bundle = load_bundle(uri)
        # Whoever types the command may read these files anyway.
        answers[uri] = records_of(Predictor(bundle, EVERYWHERE).predict(table))
        failed = failed or any(row["problem"] and not row["modalities"] for row in answers[uri])
        if not as_json:
            click.echo("\n".join(as_text(row, bundle.card.task) for row in answers[uri]))
            click.echo(f"  by {uri} ({bundle.card.branch}, trained on {bundle.card.protocol.get('corpus', 'unknown')})")
    if as_json:
        click.echo(json.dumps(answers, indent=2, ensure_ascii=False, allow_nan=False))
    sys.exit(1 if failed else 0)


def rows_of(
    media: tuple[Path, ...], text: tuple[str, ...], rows: Path | None, dialogue: bool, speaker: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Raw rows from the command line; what does not fit together is an error before anything is loaded."""
    if rows is not None:
        if media or text:
            raise click.UsageError("Give either --rows or recordings and --text, not both.")
        import pandas as pd

        records = pd.read_csv(rows).to_dict(orient="records")
        return [{str(key): value for key, value in row.items()} for row in records]
    count = max(len(media), len(text))
    if count == 0:
        raise click.UsageError("Nothing to score: give a recording, --text, or --rows.")
    for name, values in (("--text", text), ("--speaker", speaker), ("recordings", media)):
        if values and len(values) != count:
            raise click.UsageError(f"{len(values)} {name} for {count} rows.")
    made = []
    for number in range(count):
        row: dict[str, Any] = {"utterance_id": media[number].stem if media else f"text_{number}"}
        if len({path.stem for path in media}) < len(media):
            row["utterance_id"] = f"{number}_{media[number].stem}"
        if media:
            row["video"] = str(media[number])
        if text:
            row["text"] = text[number]
        if speaker:
            row["speaker"] = speaker[number]
        if dialogue:
            row["dialogue"], row["turn"] = "conversation", number
        made.append(row)
    return made


def champions() -> list[str]:
    """Addresses of all registered champions of this project's tracking store."""
    from mlflow import MlflowClient

    from demeanor.data.errors import InputError
    from demeanor.serving.registry import CHAMPION
    from demeanor.tracking import connect

    uri = connect(project_folder())
    found = [
        f"models:/{model.name}@{CHAMPION}"
        for model in MlflowClient().search_registered_models(filter_string="name LIKE 'demeanor-%'")
        if CHAMPION in model.aliases
    ]
    if not found:
        raise InputError(f"model registry {uri}", ["no champion is registered"], "Run `kedro run`, or give --model.")
    return sorted(found, reverse=True)


def project_folder() -> Path:
    """The Kedro project around the current folder, else that folder."""
    from kedro.utils import find_kedro_project

    return Path(find_kedro_project(Path.cwd()) or Path.cwd())


@main.command()
@click.option("--markdown", is_flag=True, help="As the table of the README.")
def systems(markdown: bool) -> None:
    """List all systems: tasks, streams, paper, status."""
    from demeanor.models import SYSTEMS, find_system

    if markdown:
        click.echo(systems_table())
        return
    for name in SYSTEMS:
        card = find_system(name).card
        click.echo(f"{name:<16} {card.title}: {', '.join(card.tasks)}; {card.status}")
        click.echo(f"{'':<16} roles: {roles_of(card)}; settings: {', '.join(find_system(name).Settings.model_fields)}")
        if card.paper:
            click.echo(f"{'':<16} {card.paper}")


def roles_of(card: Any) -> str:
    return ", ".join(role if value.required else f"{role} (optional)" for role, value in card.roles.items())


def systems_table() -> str:
    """The README's table, made from the registry."""
    from demeanor.models import SYSTEMS, find_system

    lines = ["| system | what | tasks | roles | paper |", "|---|---|---|---|---|"]
    for name in SYSTEMS:
        card = find_system(name).card
        lines.append(f"| `{name}` | {card.title} | {', '.join(card.tasks)} | {roles_of(card)} | {card.paper} |")
    return "\n".join(lines)


@main.command()
@click.argument("environment", default="base")
@click.option("--quick", is_flag=True, help="Do not open the recordings.")
def doctor(environment: str, quick: bool) -> None:
    """Look at the corpus of a Kedro environment (base is the demo) and report what is wrong with it."""
    from kedro.config import OmegaConfigLoader

    from demeanor.corpora.base import CorpusSettings
    from demeanor.corpora.doctor import DoctorSettings
    from demeanor.pipelines.ingestion.nodes import examine_corpus, probe_media

    project = project_folder()
    known = sorted(path.name for path in (project / "conf").glob("*") if path.is_dir() and path.name != "local")
    if environment not in known:
        raise click.UsageError(f"There is no environment '{environment}'; there is {', '.join(known)}.")
    loader = OmegaConfigLoader(str(project / "conf"), base_env="base", default_run_env=environment, env=environment)
    parameters = loader["parameters"]
    os.chdir(project)
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        corpus = CorpusSettings(**parameters["corpus"]).read(Path(place))
        probes = {} if quick else probe_media(corpus)
        report, _, text = examine_corpus(corpus, probes, DoctorSettings(**parameters.get("doctor", {})))
    click.echo(text)
    sys.exit(1 if any(finding.severity == "error" for finding in report.findings) else 0)


@main.command("import-checkpoint")
@click.argument("system")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for the bundle.")
@click.option("--modalities", default="", help="conv_autoencoder: audio,text,vision, where the name does not say.")
@click.option("--force", is_flag=True, help="conv_autoencoder: import one that ignores its input all the same.")
@click.option("--variant", default="", help="mmml: v1 or v2, whose weights look alike.")
@click.option("--corpus", default="", help="mmml: mosi, mosei or sims, where the name does not say.")
@click.option("--tokenizer", default="", help="mmml: folder of the tokenizer, where the hub cannot be reached.")
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
    register: bool,
) -> None:
    """Turn a released checkpoint of a research system (conv_autoencoder, mmml, tab_fusion) into a bundle."""
    from demeanor.serving.import_checkpoint import import_checkpoint as load

    chosen = tuple(name.strip() for name in modalities.split(",") if name.strip())
    options = {"modalities": chosen, "force": force, "variant": variant, "corpus": corpus, "tokenizer": tokenizer}
    bundle = load(system, file, **options)
    bundle.save(output)
    click.echo(f"{bundle}\nwritten to {output}")
    if register:
        click.echo(f"registered as {register_checkpoint(bundle, file)}")


def register_checkpoint(bundle: Any, file: Path) -> str:
    """Address in this project's registry of what was imported from `file`."""
    from demeanor.data.bundle import Bundle
    from demeanor.data.errors import InputError
    from demeanor.serving.registry import register_imported
    from demeanor.tracking import choose_experiment, connect

    if not isinstance(bundle, Bundle):
        raise InputError(str(file), ["is no model by itself, so there is nothing to register"], "Leave --register out.")
    import mlflow

    project = project_folder()
    connect(project)
    with mlflow.start_run(experiment_id=choose_experiment("imported", project), run_name=file.stem):
        return str(register_imported(bundle, file)["uri"])


if __name__ == "__main__":
    main()
