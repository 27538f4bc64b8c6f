"""An hour of speech with pictures to its finished timeline: how fast, in how much memory, and what of it is right.

    python -m tests.benchmarks.bench_timeline --cache FOLDER [--seconds N] [--bundle FOLDER]... [--prepare]

writes docs/benchmarks/timeline.md and .json (or into --output). The recording is made by the demo's generator:
conversations of three invented people, each with a planted course of sentiment, a silence, an overlap and a stretch
without a face, one after the other until it is long enough. Nobody says who speaks, and the words are recognised.
Models: the folders of bundles, else `late_fusion` and `emotion_fusion` of a project that is made in the folder and
trained on the demo (no voice of the recording is among its training speakers). Recording and models are made once
(--prepare makes them and stops), before anything is measured. Seconds of processor are those of all processes.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

from demeanor.corpora.demo.long import make_long
from demeanor.data.bundle import Bundle
from demeanor.data.files import read_json, write_json
from demeanor.data.processors import available_cores
from demeanor.evaluation.environment import code_revision
from demeanor.evaluation.tables import aligned
from tests.benchmarks import timeline_clock as clock
from tests.benchmarks.timeline_truth import compared
from tests.project import PROJECT, change_settings, command, make_project

BRANCHES = ("late_fusion", "emotion_fusion")
WRITTEN = (".json", ".parquet", ".eaf", ".html")
LIMIT = 2.0  # GiB


def recording_of(cache: Path, seconds: float) -> Path:
    path = cache / f"conversation_{seconds:g}_s.mp4"
    if not path.with_suffix(".json").is_file():  # written last
        print(f"makes {path}", flush=True)
        make_long(path, seconds, cache / "parts")
    return path


def bundles_of(cache: Path) -> list[Path]:
    """Trained here unless that was done before."""
    project = cache / "project"
    found = [project / "data/06_models/demo/branches" / branch / "seed_1" for branch in BRANCHES]
    if all((folder / "card.json").is_file() for folder in found):
        return found
    print(f"trains {', '.join(BRANCHES)} in {project}", flush=True)
    shutil.rmtree(project, ignore_errors=True)
    make_project(project, {"train": 10_000, "valid": 10_000, "test": 10_000})
    shutil.copy(PROJECT / "conf/demo/parameters.yml", project / "conf/demo/parameters.yml")

    def few(settings: dict[str, Any]) -> None:
        settings["branches"] = {name: settings["branches"][name] for name in BRANCHES}

    change_settings(project, "demo", few)
    command(project, "kedro", "run", "--pipelines", "ingestion,feature_engineering,fusion_training", timeout=1800)
    return found


def measure(recording: Path, bundles: dict[str, Bundle], processes: int, work: Path) -> dict[str, Any]:
    from demeanor.timeline.formats import write_timeline
    from demeanor.timeline.pictures import write_picture
    from demeanor.timeline.planning import Options
    from demeanor.timeline.run import make_timeline

    kept = work / "spent"
    kept.mkdir(parents=True, exist_ok=True)
    clock.watch_planning()
    make = partial(clock.TimedScorer, bundles, kept)
    with clock.Memory() as memory:
        scorer = make()
        before, began = time.process_time(), time.monotonic()
        with clock.part("planning, what remains"):
            output = work / "timeline.json"
            made = make_timeline(recording, scorer, Options(processes=processes), make=make, output=output)
        with clock.part("writing"):
            for ending in WRITTEN:
                write = write_picture if ending == ".html" else write_timeline
                write(made, output.with_suffix(ending))
        wall, own = time.monotonic() - began, time.process_time() - before
    seconds = made.header.duration or 0.0
    spent = clock.spent_by_all(kept, clock.SPENT)
    parts = {name: value for name, value in clock.WALL.items() if name in ("voice activity", "words", "writing")}
    return {
        "seconds": seconds, "wall": wall, "times_real_time": seconds / wall, "processes": processes,
        "processor": sum(spent.values()), "own_processor": own, "spent": spent,
        "wall_parts": {**parts, "planning and scoring, what remains": wall - sum(parts.values())},
        "peak_gib": memory.peak / 2**30, "largest_gib": memory.largest / 2**30, "held_by": memory.processes,
        "spans": len(made.spans), "remarks": list(made.header.remarks), "voice": made.header.voice_activity,
        "words": made.header.recognition, "truth": compared(made, read_json(recording.with_suffix(".json"))),
    }  # fmt: skip


def page(facts: dict[str, Any]) -> str:
    truth, minutes = facts["truth"], facts["wall"] / 60
    total = facts["processor"]
    spent = sorted(((name, value) for name, value in facts["spent"].items()), key=lambda pair: -pair[1])
    told = [
        ("seconds of recording", f"{facts['seconds']:.0f}"), ("minutes to the finished files", f"{minutes:.1f}"),
        ("times real time", f"{facts['times_real_time']:.1f}"), ("processes that score", str(facts["processes"])),
        ("peak memory of all processes, GiB", f"{facts['peak_gib']:.2f}"),
        ("of it in the largest process, GiB", f"{facts['largest_gib']:.2f}"),
        ("spans, windows included", str(facts["spans"])),
    ]  # fmt: skip
    shares = {
        "turns_found": "planted turns with an utterance", "edges_near": "planted edges with one within .25 s",
        "speech_recall": "planted speech that is found", "speech_precision": "found speech that was planted",
        "silences_kept": "planted silences without an utterance",
        "faceless_from_the_rest": "utterances without a face, answered from the rest",
        "emotion_accuracy": "turns with the planted emotion", "word_error_rate": "words that are wrong",
    }  # fmt: skip
    numbers = {
        "turns": "planted turns", "utterances": "utterances found", "sentiment_correlation": "correlation of sentiment",
        "sentiment_error": "mean absolute error of sentiment, on [-3, 3]", "edge_median": "median error of an edge, s",
        "word_edge_median": "median error of a word's edge, s",
    }  # fmt: skip
    rows = [[what, f"{truth[name]:.0%}"] for name, what in shares.items() if name in truth]
    rows = [
        [what, f"{truth[name]:.3g}" if truth[name] < 100 else f"{truth[name]:.0f}"]
        for name, what in numbers.items()
        if name in truth
    ] + rows
    about = (__doc__ or "").partition("(or into --output). ")[2]
    lines = [
        "# A long recording to its timeline", "",
        "Generated by `python -m tests.benchmarks.bench_timeline` "
        f"on {facts['machine']}, revision {facts['revision']}.",
        "", " ".join(about.split()), "", f"Voice: {facts['voice']}. Words: {facts['words'] or 'none'}.", "",
        *[f"Remark: {remark}.\n" for remark in facts["remarks"]],
        *aligned(["what", "value"], [list(row) for row in told]), "", "## Where the time goes", "",
        "Seconds of wall clock, one after the other:", "",
        *aligned(["stage", "seconds"], [[name, f"{value:.1f}"] for name, value in facts["wall_parts"].items()]), "",
        f"Seconds of processor in all processes together, {total:.0f} ({facts['seconds'] / total:.1f} times real time "
        "a core); each is counted once:", "",
        *aligned(["part", "seconds", "share"], [[name, f"{v:.1f}", f"{v / total:.1%}"] for name, v in spent]), "",
        "## Found against planted", "", *aligned(["what", "value"], rows), "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps recording and models")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument(
        "--bundle", type=Path, action="append", default=[], help="a sentiment model, and an emotion one"
    )
    parser.add_argument("--processes", type=int, default=available_cores())
    parser.add_argument("--prepare", action="store_true", help="make recording and models, and stop")
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "benchmarks")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    folders = options.bundle or bundles_of(options.cache)
    recording = recording_of(options.cache, options.seconds)
    if options.prepare:
        return
    work = options.cache / "work"
    shutil.rmtree(work, ignore_errors=True)  # what a run before kept is not used
    facts = measure(recording, {str(path): Bundle.load(path) for path in folders}, options.processes, work)
    facts["machine"] = f"{platform.machine()}, {os.cpu_count()} cores (load average {os.getloadavg()[1]:.1f})"
    facts["revision"] = code_revision(PROJECT)
    write_json(options.output / "timeline.json", facts)
    text = page(facts)
    (options.output / "timeline.md").write_text(text, encoding="utf-8")
    print(text)
    if facts["peak_gib"] > LIMIT:
        print(f"more than {LIMIT} GiB were held")


if __name__ == "__main__":
    main()
