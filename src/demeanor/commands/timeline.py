"""`demeanor timeline`, `live` and `predict --output`: recordings in, files out, a few lines for the reader."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from demeanor.arguments import HomePath
from demeanor.commands.models import addresses

if TYPE_CHECKING:
    from demeanor.timeline.table import Timeline

OUTPUT_HELP = (
    "X.json, .csv, .parquet, .audformat.csv, .vtt, .rttm, .TextGrid, .eaf, .html, .png; may be repeated. "
    "Default: RECORDING.timeline.json."
)


@click.command()
@click.argument("recording", type=HomePath())
@click.option(
    "--output",
    multiple=True,
    type=HomePath(),
    help=OUTPUT_HELP,
)
@click.option("--model", multiple=True, help="models:/NAME@ALIAS or the folder of a bundle. Default: all champions.")
@click.option("--speakers", help="Who speaks: a file (.rttm, .csv, .eaf, ...), or `channels`: one person per channel.")
@click.option("--spans", type=HomePath(), help="A file of spans to score.")
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
    choices = {"speakers": speakers, "spans": spans, "voice": voice, "recogniser": words, "language": language}
    click.echo(run(recording, output, addresses(model), choices, processes))


@click.command()
@click.argument("recording", type=HomePath())
@click.option("--model", multiple=True, help="models:/NAME@ALIAS or the folder of a bundle. Default: all champions.")
@click.option("--voice", type=click.Choice(["auto", "silero", "energy"]), default="auto", show_default=True)
@click.option("--window", type=click.FloatRange(0.25, 15), default=10.0, show_default=True, help="Seconds scored.")
@click.option("--step", type=click.FloatRange(0.25, 60), default=3.0, show_default=True, help="Seconds between them.")
@click.option("--patience", type=click.FloatRange(0.5), default=5.0, show_default=True, help="End after so much quiet.")
@click.option("--rate", type=click.IntRange(1000, 384_000), default=16_000, help="Of bare samples. Default: 16000.")
@click.option("--channels", type=click.IntRange(1, 64), default=1, help="Of bare samples. Default: 1.")
def live(
    recording: Path, model: tuple[str, ...], voice: str, window: float, step: float, patience: float, rate: int,
    channels: int,
) -> None:  # fmt: skip
    """Follow a RECORDING that is still being written, and score its last seconds every few seconds.

    A RECORDING `-` is standard input: WAV as `arecord` writes it, or bare samples of 16 bits (S16_LE).
    """
    times = {"window": window, "step": step, "patience": patience}
    for line in run_live(recording, addresses(model), voice, (rate, channels), **times):
        click.echo(line)


def run(
    recording: Path, output: Sequence[Path], models: Sequence[str], choices: Mapping[str, Any], processes: int | None
) -> str:
    """Writes every output, each whole or not at all; returns what to tell. Errors (an InputError for outputs
    that cannot be written) come before a model is loaded."""
    from demeanor.analyser import Demeanor
    from demeanor.data.errors import InputError
    from demeanor.data.processors import available_cores
    from demeanor.timeline.formats import format_of, write_timeline
    from demeanor.timeline.pictures import PICTURES, write_picture
    from demeanor.timeline.sides import KnownWords, SideFiles

    outputs = list(output) or [recording.with_suffix(".timeline.json")]
    problems = []
    for path in outputs:
        if path.suffix.lower() not in PICTURES:
            format_of(path)
        if path.absolute() == recording.absolute():
            problems.append("an output is the recording itself")
    if problems:
        raise InputError("--output", problems)
    began = time.monotonic()
    demeanor = Demeanor(*models)
    loaded = time.monotonic()
    cores = processes or available_cores()
    made = demeanor.timeline(recording, **choices, processes=cores, output=outputs[0])
    for path in outputs:
        if path.suffix.lower() in PICTURES:
            write_picture(made, path)
        else:
            write_timeline(made, path)
    SideFiles(outputs[0], "").remove()
    KnownWords(outputs[0], "").remove()
    return told(made, outputs, loaded - began, time.monotonic() - loaded)


def told(made: Timeline, outputs: Sequence[Path], loading: float, working: float) -> str:
    """The summary, what was written, and how fast."""
    from demeanor.timeline.summary import summary_of

    lines = [str(summary_of(made)), *(f"  {remark}" for remark in made.header.remarks)]
    failed = sum(1 for span in made.spans if span.problem)
    lines += [f"  {failed} spans have a problem, see column `problem`"] if failed else []
    duration = made.header.duration or 0.0
    if working > 0 and duration:
        lines.append(
            f"{duration:.1f} s of recording in {working:.1f} s: {duration / working:.1f} times real time, "
            f"{len(made.spans) / working:.1f} spans a second (and {loading:.1f} s to load the models)"
        )
    return "\n".join([*lines, *(f"written to {path}" for path in outputs)])


def run_collection(source: Path, output: Path, models: Sequence[str], processes: int | None) -> str:
    """Scores a folder or a list into a table; returns what to tell."""
    from functools import partial

    from demeanor.analyser import BundleScorer, Demeanor
    from demeanor.data.processors import available_cores
    from demeanor.timeline.collection import collection_of, predict_collection

    collection_of(source)  # an error before models are loaded
    demeanor = Demeanor(*models)
    done = predict_collection(
        source, demeanor.scorer, output, make=partial(BundleScorer, demeanor.bundles),
        processes=processes or available_cores(),
    )  # fmt: skip
    return f"{done}\nwritten to {output}"


def run_live(
    recording: Path, models: Sequence[str], voice: str, bare: tuple[int, int], patience: float, **times: Any
) -> Iterator[str]:
    """A line for every window, as it comes. A recording `-` is standard input; `bare`: rate and channels of samples
    that come without a header."""
    from demeanor.analyser import Demeanor
    from demeanor.timeline.formats.wording import answer_text
    from demeanor.timeline.live import follow, follow_pipe
    from demeanor.timeline.planning import hearing_of

    pipe = _standard_input() if str(recording) == "-" else None  # an error before models are loaded
    hearing = hearing_of(voice)
    scorer = Demeanor(*models).scorer
    yield f"windows of {times['window']:g} s every {times['step']:g} s; voice by {hearing.name}"
    if pipe is not None:
        from demeanor.features.piped import Bare

        windows = follow_pipe(pipe, scorer, hearing, bare=Bare(*bare), **times)
    else:
        windows = follow(recording, scorer, hearing, patience=patience, **times)
    for window in windows:
        told = [
            f"{model.task.name} {answer_text(window.answers[model.task.name], model.task) or 'no answer'}"
            for model in scorer.headers
            if window.voice
        ]
        what = ", ".join(told) or "no voice"
        what += f" ({window.problem})" if window.problem else ""
        what += f"  | {window.text}" if window.text else ""
        yield f"{window.start:7.1f} to {window.end:7.1f} s  {what}  {window.delay:.1f} s later"


def _standard_input() -> Callable[[int], bytes]:
    """What reads the bytes that are there; InputError at a keyboard, and without any."""
    from demeanor.data.errors import InputError

    if sys.stdin is None or sys.stdin.isatty():
        advice = "Pipe a recorder into it: arecord -f S16_LE -r 16000 | demeanor live -"
        raise InputError("standard input", ["no recording comes from there"], advice)
    return sys.stdin.buffer.read1  # type: ignore[union-attr]
