"""Servers that are measured: started in a process group of their own, and told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import httpx


def started(command: list[str], ready: str, log: Path, environment: dict[str, str]) -> tuple[subprocess.Popen, float]:
    """A server in a process group of its own, and the seconds until it was ready."""
    begun = time.perf_counter()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, start_new_session=True, env={**os.environ, **environment}
        )
    while True:
        if process.poll() is not None:
            raise SystemExit(f"{command[0]} has ended; see {log}")
        try:
            if httpx.get(ready, timeout=2.0).status_code == 200:
                return process, time.perf_counter() - begun
        except httpx.HTTPError:
            pass
        time.sleep(0.1)


def stopped(process: subprocess.Popen) -> float:
    """Seconds until a server that is told to stop has ended."""
    begun = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return time.perf_counter() - begun
