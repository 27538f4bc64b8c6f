"""Runs that are stopped at random moments, and what their next run makes of it.

    python -m tests.stress.stopped_runs --stops 10 --seed 0

Each trial starts `kedro run` on a small project of its own, stops it at a random moment in one of four ways, runs it
again to the end, and compares with a run that nobody stopped:

- kill -9     the main process dies at once; its workers find out by themselves
- Ctrl-C      SIGINT to all processes of the group, as a terminal sends it
- SIGTERM     to the main process alone, as a batch system sends it
- full disk   from that moment no process may make a file longer than some kilobytes (setrlimit from outside)

The next run must end with the same metrics and the same weights to the last bit. MLflow must have the stopped run as
KILLED (FAILED where the disk was full), every child that did not end by itself likewise, and nothing as RUNNING. After
Ctrl-C, SIGTERM and a full disk no process and no half-written file may be left, and the user must have seen a message.
Takes about a minute and a half for each stop on two cores, so it is no part of the test suite; Linux only.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.project import change_settings, environment, make_project

WAYS = ("kill -9", "Ctrl-C", "SIGTERM", "full disk")
RUN = ("kedro", "run", "--pipelines", "ingestion,feature_engineering,fusion_training,evaluation")
DIALOGUES = {"train": 2, "valid": 1, "test": 1}
#: Two are enough for a run to be stopped within one, between two, and before and after both.
BRANCHES = ["text_only", "late_fusion"]
#: Bytes of the longest file once the disk is "full", and seconds that processes may take to end.
ROOM, PATIENCE = 4096, 60.0
#: Runs that are started until one is still at work when it is to be stopped.
TRIES = 3


@dataclass
class Trial:
    """One stopped run and its next one; `problems` is empty where all is as it should be.

    stopped  was it still at work at the `moment`, seconds from its start?
    """

    way: str
    moment: float
    stopped: bool = True
    code: int | None = None
    seconds: float = 0.0
    statuses: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        told = "; ".join(self.problems) or "as it should be"
        return (f"{self.way:<10} after {self.moment:5.1f} s, ended with {self.code}, MLflow {'/'.join(self.statuses)}, "
                f"next run {self.seconds:5.1f} s: {told}")  # fmt: skip


def main() -> None:
    # A shell starts what it puts into the background deaf to Ctrl-C, and so would be all that is started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    draw = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="stopped-runs-") as place:
        root = Path(place)
        began = time.monotonic()
        expected_at = new_project(root / "reference")
        finish(expected_at)
        usual = time.monotonic() - began
        expected = metrics_of(expected_at)
        print(f"a run that nobody stops: {usual:.1f} s, {len(expected)} receipts", flush=True)
        trials = []
        for number in range(chosen.stops):
            share = draw.uniform(0.05, 0.95)
            # A machine that other programs keep busy for a while makes a run look longer than the next one is.
            for _ in range(TRIES):
                trial = Trial(WAYS[number % len(WAYS)], share * usual)
                usual = try_once(trial, root / f"stop_{number}", expected) or usual
                shutil.rmtree(root / f"stop_{number}")
                if trial.stopped:
                    break
            trials.append(trial)
            print(f"{number + 1:>2}. {trial.line()}", flush=True)
    bad = [trial for trial in trials if trial.problems]
    print(f"{len(trials) - len(bad)} of {len(trials)} as they should be")
    sys.exit(bool(bad))


def try_once(trial: Trial, folder: Path, expected: dict[str, dict]) -> float | None:
    """Stop a run, run again and judge; where it had ended before it was to be stopped, the seconds that it took."""
    new_project(folder)
    began = time.monotonic()
    output = folder / "stopped.log"
    with open(output, "w", encoding="utf-8") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", *RUN], cwd=folder, env=environment(folder), stdout=handle, stderr=handle,
            start_new_session=True,
        )  # fmt: skip
        if not stop(process, trial):
            trial.stopped, trial.code = False, process.returncode
            trial.problems.append(f"had ended before it was stopped, {TRIES} times over")
            return time.monotonic() - began
        try:
            trial.code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            trial.problems.append(f"did not end within {PATIENCE:.0f} s")
            os.killpg(process.pid, signal.SIGKILL)
            trial.code = process.wait()
    left_behind(trial, process.pid, folder, output.read_text(encoding="utf-8"))
    began = time.monotonic()
    told = finish(folder, check=False)
    trial.seconds = time.monotonic() - began
    if told:
        trial.problems.append(f"the next run failed: {told[-300:]}")
        return None
    found = metrics_of(folder)
    if found != expected:
        different = sorted(key for key in expected if expected[key] != found.get(key))
        trial.problems.append(f"other metrics or weights: {', '.join(different)}")
    judge_tracker(trial, folder)
    return None


def stop(process: subprocess.Popen, trial: Trial) -> bool:
    """Wait for the moment, then stop; False where the run has ended by then."""
    try:
        process.wait(trial.moment)
    except subprocess.TimeoutExpired:
        if trial.way == "kill -9":
            process.kill()
        elif trial.way == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        elif trial.way == "SIGTERM":
            process.terminate()
        else:
            for one in (process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))):
                resource.prlimit(one, resource.RLIMIT_FSIZE, (ROOM, ROOM))
        return True
    return False


def left_behind(trial: Trial, group: int, folder: Path, told: str) -> None:
    """Processes, half-written files and tracebacks."""
    ends = time.monotonic() + (PATIENCE if trial.way == "kill -9" else 5.0)
    while (alive := list(members(group))) and time.monotonic() < ends:
        time.sleep(0.5)
    for process in alive:
        trial.problems.append(f"process {' '.join(process.cmdline())[:60]} was left")
        process.kill()
    if trial.way == "kill -9":
        return  # who is killed cannot tidy up; the next run need not mind
    parts = [str(path.relative_to(folder)) for path in (folder / "data").rglob("*.part")]
    if parts:
        trial.problems.append(f"half-written: {', '.join(parts)}")
    if "Traceback (most recent call last)" in told:
        trial.problems.append(f"a traceback: {told.strip()[-200:]}")
    expected = {"Ctrl-C": 130, "SIGTERM": 143, "full disk": 1}[trial.way]
    if trial.code != expected:
        trial.problems.append(f"ended with {trial.code} instead of {expected}")


def members(group: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (ProcessLookupError, psutil.NoSuchProcess, PermissionError):
            continue


def judge_tracker(trial: Trial, folder: Path) -> None:
    """The stopped run and the children that fell with it are told as such, the next run as finished."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        rows = store.execute(
            "select r.run_uuid, r.status, t.value from runs r left join tags t "
            "on t.run_uuid = r.run_uuid and t.key = 'mlflow.parentRunId' order by r.start_time"
        ).fetchall()
    parents = [(run, status) for run, status, parent in rows if parent is None]
    trial.statuses = [status for _, status in parents]
    allowed = {"KILLED", "FAILED"} if trial.way == "full disk" else {"KILLED"}
    *former, (last, ended) = parents
    if ended != "FINISHED" or any(status != "FINISHED" for _, status, parent in rows if parent == last):
        trial.problems.append("the next run is not told as finished")
    if len(former) > 1 or any(status not in allowed for _, status in former):
        trial.problems.append(f"the stopped run is told as {'/'.join(status for _, status in former)}")
    below = [status for _, status, parent in rows if parent not in (None, last)]
    if any(status not in {"FINISHED", *allowed} for status in below):
        trial.problems.append(f"its children are told as {'/'.join(below)}")


def new_project(folder: Path) -> Path:
    make_project(folder, DIALOGUES)
    # Where the disk fills while Python compiles, it leaves a file that is cut off (docs/faults.md): not tried here.
    compileall.compile_dir(folder / "src", quiet=1)

    def few(settings: dict) -> None:
        # Worker processes, so that there is something that could be left behind.
        settings["workers"] = "2"
        settings["branches"] = {name: settings["branches"][name] for name in BRANCHES}

    change_settings(folder, "demo", few)
    return folder


def finish(folder: Path, check: bool = True) -> str:
    """Run to the end; what it said if it failed."""
    done = subprocess.run(
        [sys.executable, "-m", *RUN], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    told = f"{done.stdout}\n{done.stderr}".strip() if done.returncode else ""
    if told and check:
        raise SystemExit(f"the run that nobody stops failed:\n{told}")
    return told


def metrics_of(folder: Path) -> dict[str, dict]:
    """branch and seed -> test metrics and the hash of the weights."""
    entries = json.loads((folder / "data/08_reporting/demo/receipts.json").read_text(encoding="utf-8"))
    return {
        f"{entry['branch']} seed {entry['seed']}": {"metrics": entry["metrics"], "weights": entry["weights_sha256"]}
        for entry in entries
    }


if __name__ == "__main__":
    main()
