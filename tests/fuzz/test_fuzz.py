"""Hostile inputs of every kind, in a process of its own that is watched: no traceback, no hang, no memory.

`make fuzz` runs 2,000 of them; the suite a few. The same number always gives the same inputs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from queue import Empty, Queue

import psutil
import pytest

from tests.fuzz.worker import MOST_MEMORY

COUNT = int(os.environ.get("DEMEANOR_FUZZ", "140"))
FIRST = int(os.environ.get("DEMEANOR_FUZZ_FIRST", "0"))
KINDS = ("recording", "table", "pickle", "archive", "container", "card", "request")
#: Seconds of computing that a case may take, and seconds by the clock (a listener waits without computing).
MOST_SECONDS, MOST_WAITING = 20.0, 60.0


def watched(first: int, count: int) -> tuple[Counter, list[str], int]:
    """Outcomes by kind, findings, and the most memory that was held, of the cases from `first`."""
    project = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.worker", str(first), str(count), *KINDS],
        cwd=project, env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    lines: Queue[str] = Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    outcomes: Counter = Counter()
    findings: list[str] = []
    memory, current, since, spent = 0, "the imports", time.monotonic(), 0.0
    while True:
        try:
            said = json.loads(lines.get(timeout=0.5))
        except Empty:
            if process.poll() is not None and lines.empty():
                break
            waiting = time.monotonic() - since
            too_long = _cpu(process.pid) - spent > MOST_SECONDS or waiting > MOST_WAITING
            if too_long and current != "the imports":
                findings.append(f"{current}: still at work after {waiting:.0f} s")
                process.kill()
                break
            continue
        since, spent = time.monotonic(), _cpu(process.pid)
        if "ended" in said:
            ended = said["ended"]
            outcomes[said["kind"], ended if ended in ("well", "refused") else "finding"] += 1
            if ended not in ("well", "refused"):
                findings.append(f"{said['kind']} {said['number']}:\n{ended}")
            if said["memory"] > max(memory, MOST_MEMORY):
                findings.append(f"{said['kind']} {said['number']}: {said['memory'] >> 20} MiB held")
            memory = max(memory, said["memory"])
        elif "number" in said:
            current = f"{said['kind']} {said['number']}"
    process.wait()
    if not findings and (process.returncode or sum(outcomes.values()) != count):
        findings.append(f"{current}: the process ended with {process.returncode}")
    return outcomes, findings, memory


def _cpu(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


@pytest.mark.timeout(7200)
def test_hostile_inputs():
    outcomes, findings, memory = watched(FIRST, COUNT)
    print(f"{dict(outcomes)}; {memory >> 20} MiB at most")
    assert not findings, "\n".join(findings[:40])
    assert sum(outcomes.values()) == COUNT
    refused = {kind for kind, ended in outcomes if ended == "refused"}
    assert refused >= set(KINDS) - {"request"}, "every kind has inputs that are refused"


def test_the_watch_sees_what_it_is_there_for(monkeypatch):
    """A kind that there is not raises what is not meant in every case, and each is a finding."""
    monkeypatch.setattr(sys.modules[__name__], "KINDS", ("nothing of the kind",))
    _, findings, _ = watched(0, 3)
    assert len(findings) == 3
    assert all("KeyError" in finding for finding in findings)
