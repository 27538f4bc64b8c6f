"""What `demeanor timeline` and `demeanor predict --output` do: recordings in, files out, a few lines for the reader."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from demeanor.data.errors import InputError
from demeanor.features.pools import available_cores
from demeanor.timeline.formats import format_of, write_timeline
from demeanor.timeline.pictures import PICTURES, write_picture
from demeanor.timeline.sides import KnownWords, SideFiles
from demeanor.timeline.summary import summary_of
from demeanor.timeline.table import Timeline


def run(
    recording: Path, output: Sequence[Path], models: Sequence[str], choices: Mapping[str, Any], processes: int | None
) -> str:
    """Writes every output, each whole or not at all; returns what to tell. Errors (an InputError for outputs
    that cannot be written) come before a model is loaded."""
    outputs = list(output) or [recording.with_suffix(".timeline.json")]
    problems = []
    for path in outputs:
        if path.suffix.lower() not in PICTURES:
            format_of(path)
        if path.absolute() == recording.absolute():
            problems.append("an output is the recording itself")
    if problems:
        raise InputError("--output", problems)
    from demeanor.analyser import Demeanor

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
    if sys.stdin is None or sys.stdin.isatty():
        advice = "Pipe a recorder into it: arecord -f S16_LE -r 16000 | demeanor live -"
        raise InputError("standard input", ["no recording comes from there"], advice)
    return sys.stdin.buffer.read1  # type: ignore[union-attr]
