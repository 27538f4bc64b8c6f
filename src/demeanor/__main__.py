"""The command `demeanor`: predict, systems, doctor, ...; and `run`, which is Kedro's, for the installed wheel."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from demeanor import __version__, packaged, remembered

if TYPE_CHECKING:
    from demeanor.corpora.base import CorpusSettings

# As in settings.py, for commands that do not go through Kedro.
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


OUTPUT_HELP = (
    "X.json, .csv, .parquet, .audformat.csv, .vtt, .rttm, .TextGrid, .eaf, .html, .png; may be repeated. "
    "Default: RECORDING.timeline.json."
)


class ReadableErrors(click.Group):
    """Errors that Demeanor raises on purpose are shown as their message, without a traceback.

    `run` is Kedro's, and imported only when it is asked for.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), packaged.RUN])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return packaged.run_command() if name == packaged.RUN else super().get_command(context, name)

    def invoke(self, context: click.Context) -> Any:
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


@main.command()
@click.argument("media", nargs=-1, type=click.Path(path_type=Path))
@click.option("--text", multiple=True, help="Transcript; once per recording, in their order.")
@click.option("--rows", type=click.Path(exists=True, path_type=Path), help="CSV of rows to score instead.")
@click.option("--dialogue", is_flag=True, help="The recordings are the turns of one conversation, in order.")
@click.option("--speaker", multiple=True, help="Who speaks; once per recording.")
@click.option("--model", multiple=True, help="models:/NAME@ALIAS or the folder of a bundle. Default: all champions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one list of rows per model.")
@click.option("--explain", is_flag=True, help="Say what each modality contributed, and whether they contradict.")
@click.option("--explain-anyway", is_flag=True, help="The same of models trained without leaving modalities out.")
@click.option("--over-time", is_flag=True, help="With --explain, of one recording: what each second of it contributed.")
@click.option("--window", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Seconds, of --over-time.")
@click.option("--only", type=click.Choice(["text"]), help="Words alone: no recording is opened.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Score a FOLDER or a LIST.csv into a .parquet, .csv or .json."
)
@click.option("--processes", type=click.IntRange(1), default=None, help="With --output; default: one per core.")
def predict(
    media: tuple[Path, ...],
    text: tuple[str, ...],
    rows: Path | None,
    dialogue: bool,
    speaker: tuple[str, ...],
    model: tuple[str, ...],
    as_json: bool,
    explain: bool,
    explain_anyway: bool,
    over_time: bool,
    window: float,
    only: str | None,
    output: Path | None,
    processes: int | None,
) -> None:
    """Score recordings (video or audio files), text, or both with the registered champions.

    With --output: every recording below a folder, or every row of a list, into a table.
    """
    if output is not None:
        if len(media) != 1 or any((text, rows, speaker, dialogue, as_json, explain, explain_anyway, over_time, only)):
            raise click.UsageError("--output takes one folder, or one list (.csv), and nothing else to score.")
        from demeanor.command_timeline import run_collection

        click.echo(run_collection(media[0], output, addresses(model), processes))
        return
    if any(path.is_dir() for path in media):
        raise click.UsageError("A folder is scored into a table: add --output answers.parquet.")
    table = rows_of(media, text, rows, dialogue, speaker)
    if only == "text":
        table = words_alone(table)
    if over_time and (len(table) != 1 or not (explain or explain_anyway) or not (media or rows)):
        raise click.UsageError("--over-time goes with --explain (or --explain-anyway), and with one recording.")
    uris = addresses(model)
    # After the question whether the registry answers: these take seconds to import.
    from demeanor.inference.answers import records_of
    from demeanor.inference.describe import as_text
    from demeanor.inference.model import TrainedModel, score_together
    from demeanor.inference.reach import EVERYWHERE
    from demeanor.serving.registry import load_bundle

    answers: dict[str, list[dict[str, Any]]] = {}
    failed = False
    bundles = [load_bundle(uri) for uri in uris]
    # Whoever types the command may read these files anyway.
    models = [TrainedModel.load(bundle, reach=EVERYWHERE) for bundle in bundles]
    because = [explain or explain_anyway] * len(models)
    tables = score_together(models, table, because, explain_anyway)
    for uri, bundle, trained, scored in zip(uris, bundles, models, tables, strict=True):
        answers[uri] = records_of(scored)
        course = None
        if over_time and answers[uri][0]["modalities"] and bundle.card.kind == "predicts":
            from demeanor.inference.over_time import contributions_over_time, over_time_text

            course = contributions_over_time(trained, table, window, explain_anyway)
            answers[uri][0]["over_time"] = records_of(course)
        failed = failed or any(row["problem"] and not row["modalities"] for row in answers[uri])
        if not as_json:
            click.echo("\n".join(as_text(row, bundle.card) for row in answers[uri]))
            if course is not None:
                click.echo(over_time_text(course))
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
        from demeanor.serving.tables import read_rows

        return read_rows(rows)
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


def words_alone(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without their recordings, none of which is then opened; a row without words is an error."""
    columns = ("utterance_id", "text", "language", "dialogue", "turn", "speaker")
    silent = [n for n, row in enumerate(table, 1) if not row.get("text")]
    if silent:
        raise click.UsageError(f"--only text needs the words of every row; there are none in row {silent[0]}.")
    return [{name: row[name] for name in columns if name in row} for row in table]


@main.command()
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


@main.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "--output",
    multiple=True,
    type=click.Path(path_type=Path),
    help=OUTPUT_HELP,
)
@click.option("--model", multiple=True, help="models:/NAME@ALIAS or the folder of a bundle. Default: all champions.")
@click.option("--speakers", help="Who speaks: a file (.rttm, .csv, .eaf, ...), or `channels`: one person per channel.")
@click.option("--spans", type=click.Path(path_type=Path), help="A file of spans to score.")
@click.option("--voice", type=click.Choice(["auto", "silero", "energy"]), default="auto", show_default=True)
@click.option("--words", default="auto", show_default=True, help="Recogniser of words: auto, none, a model or folder.")
@click.option(
    "--language", help="ISO 639-1 code of what is said. Default: the one that the recogniser is sure of, or en."
)
@click.option("--processes", type=click.IntRange(1), default=None, help="Default: one per core.")
def timeline(
    recording: Path,
    output: tuple[Path, ...],
    model: tuple[str, ...],
    speakers: str | None,
    spans: Path | None,
    voice: str,
    words: str,
    language: str | None,
    processes: int | None,
) -> None:
    """Who spoke when in a long RECORDING, what was said, and how, span by span."""
    from demeanor.command_timeline import run

    choices = {"speakers": speakers, "spans": spans, "voice": voice, "recogniser": words, "language": language}
    click.echo(run(recording, output, addresses(model), choices, processes))


@main.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--model", multiple=True, help="models:/NAME@ALIAS or the folder of a bundle. Default: all champions.")
@click.option("--voice", type=click.Choice(["auto", "silero", "energy"]), default="auto", show_default=True)
@click.option("--window", type=click.FloatRange(0.25, 15), default=10.0, show_default=True, help="Seconds scored.")
@click.option("--step", type=click.FloatRange(0.25, 60), default=3.0, show_default=True, help="Seconds between them.")
@click.option("--patience", type=click.FloatRange(0.5), default=5.0, show_default=True, help="End after so much quiet.")
def live(recording: Path, model: tuple[str, ...], voice: str, window: float, step: float, patience: float) -> None:
    """Follow a RECORDING that is still being written, and score its last seconds every few seconds."""
    from demeanor.command_timeline import run_live

    for line in run_live(recording, addresses(model), voice, window=window, step=step, patience=patience):
        click.echo(line)


def addresses(model: tuple[str, ...]) -> list[str]:
    """The models that were asked for, else all champions; the registry is asked only where it has to be."""
    if not model:
        return champions()
    if any(uri.startswith(("models:", "runs:")) for uri in model):
        from demeanor.tracking import connect_when_asked

        connect_when_asked(project_folder())
    return list(model)


@main.command()
@click.argument("name")
@click.option("--version", default=None, help="Default: the challenger.")
def promote(name: str, version: str | None) -> None:
    """Make a registered model's challenger (or another version) its champion."""
    from demeanor.serving import registry
    from demeanor.tracking import connect

    connect(project_folder())
    made, former = registry.promote(name, version)
    before = f", version {former} was" if former not in (None, made) else ""
    click.echo(f"{name}: version {made} is the champion{before}")


@main.command()
@click.argument("one")
@click.argument("other")
def compare(one: str, other: str) -> None:
    """Compare two models (models:/NAME@ALIAS or folders) on validation of the data that both were trained on."""
    uris = addresses((one, other))
    from demeanor.serving.comparing import data_of, paired_on_validation
    from demeanor.serving.registry import load_bundle

    first, second = map(load_bundle, uris)
    difference = paired_on_validation(first, second, data_of(first, project_folder()))
    click.echo(f"{difference.describe(one, other)}; {difference.units} clips of validation")


@main.command()
@click.argument("model", nargs=-1)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder for tables, figure and report.")
@click.option("--recordings", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder of the corpus' recordings. Default: where ingestion found them.")  # fmt: skip
@click.option("--split", type=click.Choice(["valid", "test"]), default="valid", show_default=True,
              help="test is the sealed test: ask for it when nothing is chosen by it any more.")  # fmt: skip
@click.option("--kind", "kinds", multiple=True, help="white, babble, misalignment, frames, words; may be repeated.")
@click.option("--clips", type=click.IntRange(1), help="At most so many, spread over the split. Default: all.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--processes", type=click.IntRange(1), default=None, help="Default: one per core.")
def robustness(model: tuple[str, ...], output: Path, **choices: Any) -> None:
    """Make the recordings of a split worse step by step, and score models on them.

    Noise, other voices, late sound, lost pictures, misheard words.

    MODEL is models:/NAME@ALIAS or the folder of a bundle; by default all champions. They are scored on the data of this
    project that they were trained on.
    """
    from demeanor.command_robustness import Choices, run

    click.echo(run(addresses(model), output, Choices(named=bool(model), **choices), project_folder()))


def champions() -> list[str]:
    """Addresses of all registered champions of this project's tracking store."""
    from demeanor.tracking import connect_when_asked

    connect_when_asked(project_folder())
    from demeanor.analyser import champion_addresses

    return champion_addresses()


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
@click.argument("corpus", default="demo", metavar="[ENVIRONMENT|PATH]")
@click.option("--quick", is_flag=True, help="Do not open the recordings.")
@click.option("--reader", help="Of a path: how to read it, where that cannot be told from its names.")
@click.option("--name", help="Of a path: what to call the corpus. Default: what the folder or file is called.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Of a path: an option of its reader.")
def doctor(corpus: str, quick: bool, reader: str | None, name: str | None, options: tuple[str, ...]) -> None:
    """Look at a corpus and report what is wrong with it; nothing is written.

    The corpus is that of an environment of this project (by default the demo), or what lies at a path: a folder of
    recordings, a table or a feature file, read as its names say. Of an environment the catalog is looked at as well.
    """
    import tempfile

    from demeanor.corpora.doctor import DoctorSettings
    from demeanor.pipelines.ingestion.nodes import examine_corpus, probe_media

    project = project_folder()
    folders = (path.name for path in (project / "conf").glob("*") if path.is_dir())
    known = sorted(name for name in folders if name not in ("base", "local"))
    given = [f"--{key}" for key, value in (("reader", reader), ("name", name), ("option", options)) if value]
    sound = True
    if corpus in known and not given:
        from demeanor.catalog import examine_catalog

        settings, parameters = environment_corpus(project, corpus)
        catalog = examine_catalog(project / "conf", corpus)
        click.echo(catalog)  # at once: the corpus may be one that cannot be read at all
        sound = not catalog.problems
    else:
        settings, parameters = path_corpus(corpus, known, reader, name, options), {}
    with tempfile.TemporaryDirectory() as place:
        read = settings.read(Path(place))
        probes = {} if quick else probe_media(read)
        report, _, text = examine_corpus(read, probes, DoctorSettings(**parameters))
    click.echo(text)
    sys.exit(0 if sound and all(finding.severity != "error" for finding in report.findings) else 1)


def environment_corpus(project: Path, environment: str) -> tuple[CorpusSettings, dict[str, Any]]:
    """CorpusSettings of an environment and what its doctor is told; its paths are meant from the project's root."""
    from demeanor.configuration import loader_of
    from demeanor.corpora.base import CorpusSettings

    parameters = loader_of(project / "conf", environment)["parameters"]
    os.chdir(project)
    return CorpusSettings(**parameters["corpus"]), parameters.get("doctor", {})


def path_corpus(
    path: str, known: Sequence[str], reader: str | None, name: str | None, options: tuple[str, ...]
) -> CorpusSettings:
    """CorpusSettings of what lies at a path. InputError where its reader refuses an option."""
    import yaml
    from pydantic import ValidationError

    from demeanor.corpora.guessing import settings_for
    from demeanor.data.errors import InputError, nearest

    if not Path(path).exists():
        hint = nearest(path, known) if known else " Environments are known within a project only."
        raise click.UsageError(f"There is no file or folder '{path}' here, and no environment of that name.{hint}")
    pairs = [option.partition("=") for option in options]
    try:
        chosen = {key: yaml.safe_load(value) for key, equals, value in pairs if key and equals}
    except yaml.YAMLError as error:
        raise click.UsageError(f"--option holds a value that cannot be read: {error}") from None
    if len(chosen) < len(options):
        raise click.UsageError(f"--option takes KEY=VALUE, each key once, not {', '.join(options)}.")
    try:
        return settings_for(Path(path), reader, name, chosen)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors()]
        raise InputError(path, problems, "docs/corpora.md lists each reader's options.") from None


@main.command("import-checkpoint")
@click.argument("system")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for the bundle.")
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
    from demeanor.tracking import choose_experiment, connect

    if not isinstance(bundle, Bundle):
        raise InputError(str(file), ["is no model by itself, so there is nothing to register"], "Leave --register out.")
    import mlflow

    project = project_folder()
    connect(project)
    with mlflow.start_run(experiment_id=choose_experiment("imported", project), run_name=file.stem):
        return str(register_imported(bundle, file)["uri"])


@main.command("send-tracking")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def send_tracking(folder: Path) -> None:
    """Hand MLflow what a run had to keep in FOLDER because the tracking server did not answer."""
    from demeanor.tracking import connect, send_kept

    uri = connect(project_folder(), writing=True)
    click.echo(f"{send_kept(folder)} reports handed to {uri}")


if __name__ == "__main__":
    main(packaged.with_command(sys.argv[1:]), prog_name="python -m demeanor")
