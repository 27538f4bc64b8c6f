"""Where the time of `make run` goes, by the clock of the tracker that recorded it.

    make run                                    # in a copy of the project, on a machine that does nothing else
    python -m tests.benchmarks.main_job FOLDER  # the copy; writes docs/benchmarks/main_job.md and .json

Nothing is measured here: the newest finished run of the whole job is read from FOLDER/mlflow.db. Its trainings are the
children of that run, each with its own start and end; what comes before the first of them is ingestion and features,
what comes after the last is evaluation.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from demeanor.data.files import write_json

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "benchmarks" / "main_job.md"
#: What `kedro run` without a name calls its run.
WHOLE = "all"
PARTS = ("ingestion and features", "representations and trainings", "evaluation")
BUSY = "system/cpu_utilization_percentage"
ABOUT = """Networks of this size gain nothing from a second thread: where two are there, much of their time goes into
waiting for each other. Each training therefore has one (`training.threads`), and as many trainings as there are cores
go on side by side (`workers`), each in a process of its own. They begin when the development examples are there,
whichever of them Kedro's runner asks for first, the long ones (pretraining) before the others; the weights are those
of a training in one process, bit for bit. On a GPU, or with several processes per training, trainings go one after
the other."""


def newest(folder: Path) -> tuple[Any, list[Any], list[Any]]:
    """The newest finished run of the whole job in a project, its children, and how busy the processors were."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    if not (folder / "mlflow.db").is_file():
        raise SystemExit(f"{folder} holds no mlflow.db: give the folder of a project whose job was run")
    client = MlflowClient(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    places = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(places, max_results=5000, order_by=["attributes.start_time DESC"])
    whole = [run for run in runs if run.info.run_name == WHOLE and run.info.status == "FINISHED"]
    if not whole:
        raise SystemExit(f"{folder}: no finished run of the whole job; `make run` makes one")
    parent = whole[0]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return parent, children[::-1], client.get_metric_history(parent.info.run_id, BUSY)


def measured(parent: Any, children: Sequence[Any], busy: Sequence[Any]) -> dict[str, Any]:
    """Seconds of each part and of each training, from the runs."""
    if not children:
        raise SystemExit("the run has trained nothing: all of it was there already; run the job in an empty folder")
    begun, ended = parent.info.start_time, parent.info.end_time
    edges = [begun, min(run.info.start_time for run in children), max(run.info.end_time for run in children), ended]
    parts = []
    for name, (start, end) in zip(PARTS, pairwise(edges), strict=True):
        shares = [one.value for one in busy if start <= one.timestamp < end]
        parts.append({"part": name, "seconds": (end - start) / 1000, "busy": mean(shares) if shares else None})
    trainings: dict[str, list[float]] = {}
    for run in children:
        name = re.sub(r" seed \d+$", "", run.info.run_name)
        trainings.setdefault(name, []).append((run.info.end_time - run.info.start_time) / 1000)
    tags = parent.data.tags
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime(begun / 1000)),
        "code": tags.get("code_revision", "unknown"),
        "machine": {
            key.removeprefix("machine."): value for key, value in sorted(tags.items()) if key.startswith("machine.")
        },
        "seconds": (ended - begun) / 1000,
        "parts": parts,
        "trainings": trainings,
    }


def page(found: dict[str, Any]) -> str:
    """The page of what was read."""
    machine = found["machine"]
    lines = [
        "# Where the time of `make run` goes",
        "",
        "Written by `python -m tests.benchmarks.main_job FOLDER` from the tracker's own times of a finished job on the "
        f"demo, {found['date']}, revision {found['code']}: {machine.get('cores', '?')} cores of "
        f"{machine.get('processor', 'an unknown processor')}, torch {machine.get('torch', '?')}. Seconds of wall "
        "clock; before them come the start of Kedro and of MLflow, after them the prediction for an unseen clip.",
        "",
        "| part | s | processors busy |",
        "|---|--:|--:|",
    ]
    for part in found["parts"]:
        busy = "" if part["busy"] is None else f"{part['busy']:.0f} %"
        lines.append(f"| {part['part']} | {part['seconds']:.0f} | {busy} |")
    lines += [
        f"| **all** | **{found['seconds']:.0f}** | |",
        "",
        ABOUT,
        "",
        "| training | seeds | s, each by its own clock |",
        "|---|--:|---|",
    ]
    for name, seconds in sorted(found["trainings"].items(), key=lambda item: -sum(item[1])):
        lines.append(f"| `{name}` | {len(seconds)} | {', '.join(f'{one:.1f}' for one in seconds)} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.main_job", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("project", type=Path, help="folder in which the job was run")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page goes, and its numbers beside it")
    options = parser.parse_args(arguments)
    found = measured(*newest(options.project))
    write_json(options.page.with_suffix(".json"), found)
    options.page.write_text(page(found), encoding="utf-8")
    print(page(found))


if __name__ == "__main__":
    main()
