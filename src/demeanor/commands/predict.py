"""`demeanor predict`: recordings, words or rows in, the answers of models out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from demeanor.arguments import HomePath
from demeanor.commands.models import addresses


@click.command()
@click.argument("media", nargs=-1, type=HomePath())
@click.option("--text", multiple=True, help="Transcript; once per recording, in their order.")
@click.option("--rows", type=HomePath(exists=True), help="CSV of rows to score instead.")
@click.option("--dialogue", is_flag=True, help="The recordings are the turns of one conversation, in order.")
@click.option("--speaker", multiple=True, help="Who speaks; once per recording.")
@click.option("--model", multiple=True, help="models:/NAME@ALIAS or the folder of a bundle. Default: all champions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one list of rows per model.")
@click.option("--explain", is_flag=True, help="Say what each modality contributed, and whether they contradict.")
@click.option("--explain-anyway", is_flag=True, help="The same of models trained without leaving modalities out.")
@click.option("--over-time", is_flag=True, help="With --explain, of one recording: what each second of it contributed.")
@click.option("--window", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Seconds, of --over-time.")
@click.option("--only", type=click.Choice(["text"]), help="Words alone: no recording is opened.")
@click.option("--output", type=HomePath(), help="Score a FOLDER or a LIST.csv into a .parquet, .csv or .json.")
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
        from demeanor.commands.timeline import run_collection

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
    from demeanor.data.cells import EVERYWHERE
    from demeanor.inference.describe import as_text, records_of
    from demeanor.inference.model import TrainedModel, score_together
    from demeanor.serving.locating import load_bundle

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
