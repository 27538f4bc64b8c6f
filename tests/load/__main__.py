"""`python -m tests.load --model FOLDER`: `demeanor serve` under load, MLflow's server beside it, into a table."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.load.traffic import Memory, Request, closed_loop, open_loop, summary
from tests.project import DEMO, PROJECT

PAGE = PROJECT / "docs" / "benchmarks" / "serving.md"
PORT = 8377
DEADLINE = 30.0
ABOUT = """Requests arrive at a fixed rate, at independent moments, whether or not those before them are answered;
seconds count from when a request should have left. The generator runs on the same cores. Half of the rows are words, a
quarter have a voice as well, a quarter a face too (clips of the demo, 2 to 4 s). Equal: byte for byte what the offline
model answers; differing: by more than 1e-4 in any number."""
COLUMNS = (
    "server", "traffic", "requests/s", "answered", "refused (429)", "late (504)", "failed", "p50 s", "p95 s", "p99 s",
    "equal", "differing", "largest difference", "memory MiB, early / most",
)  # fmt: skip
#: Share of the traffic by what a row holds.
SHARES = {"words": 0.5, "words and voice": 0.25, "words, voice and face": 0.25}


def requests_for(folder: Path) -> list[Request]:
    """Mixed rows, with the offline model's answers."""
    from demeanor.inference.describe import records_of
    from demeanor.inference.model import TrainedModel

    model, clips = TrainedModel.load(folder), sorted((DEMO / "Raw").glob("*/*.mp4"))[:8]
    made = []
    for number, clip in enumerate(clips):
        for kind, share in SHARES.items():
            row: dict[str, Any] = {"text": f"what a lovely day, number {number}"}
            if "voice" in kind:
                column = "video_bytes" if "face" in kind else "audio_bytes"
                row[column] = base64.b64encode(clip.read_bytes()).decode("ascii")
            body = json.dumps({"dataframe_records": [row]}).encode()
            made.append(Request(kind, body, records_of(model.score([row])), share / len(clips)))
    return made


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


async def measured(process: int, work: Any) -> tuple[Any, list[int]]:
    """What some work returns, and the memory of a process meanwhile."""
    memory = Memory(process)
    watch = asyncio.create_task(memory.watch())
    try:
        return await work, memory.samples
    finally:
        watch.cancel()


async def loaded(name: str, address: str, process: int, requests: list[Request], options: Any) -> dict[str, Any]:
    """Capacity, then open-loop traffic below, at and above it."""
    await closed_loop(address, requests, 2, options.warm)
    outcomes = await closed_loop(address, requests, options.clients, options.capacity)
    capacity = sum(each.status == 200 for each in outcomes) / options.capacity
    rows = []
    for share in (0.5, 1.0, 1.5):
        found, memory = await measured(process, open_loop(address, requests, capacity * share, options.seconds))
        rows.append({"share": share, "rate": capacity * share, **summary(found, DEADLINE), **_span(memory)})
        print(name, json.dumps(rows[-1]), flush=True)
    if options.soak:
        found, memory = await measured(process, closed_loop(address, requests, 50, options.soak))
        rows.append({"share": None, "rate": len(found) / options.soak, **summary(found, DEADLINE), **_span(memory)})
        print(name, json.dumps(rows[-1]), flush=True)
    return {"capacity": capacity, "rows": rows}


def _span(memory: list[int]) -> dict[str, int]:
    """Memory after a tenth of the run, and at most: flat where they are alike."""
    return {"memory_early": memory[len(memory) // 10], "memory_most": max(memory)}


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


def table(result: dict[str, Any]) -> str:
    """The page, from what was measured."""
    lines = [
        "# Under load",
        "",
        f"Generated by `python -m tests.load` on {result['machine']}, {result['cores']} cores, Python "
        f"{platform.python_version()}; {result['seconds']:g} s for each row; model: `{result['model']}`.",
        "",
        ABOUT,
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    for name, found in result["servers"].items():
        for row in found["rows"]:
            what = "50 clients, closed loop" if row["share"] is None else f"{row['share']:.0%} of capacity"
            times = " | ".join("-" if row[f"p{q}"] is None else f"{row[f'p{q}']:.2f}" for q in (50, 95, 99))
            lines.append(
                f"| {name} | {what} | {row['rate']:.2f} | {row['answered']} of {row['requests']} | {row['refused']} | "
                f"{row['late']} | {row['failed']} | {times} | {row['byte_equal']} | {row['wrong']} | "
                f"{row['largest_difference']:.1e} | {row['memory_early'] >> 20} / {row['memory_most'] >> 20} |"
            )
    lines += [
        "",
        "| server | capacity, requests/s | start to ready, s | told to stop to ended, s |",
        "|---|---|---|---|",
    ]
    for name, found in result["servers"].items():
        lines.append(f"| {name} | {found['capacity']:.2f} | {found['ready']:.1f} | {found['stopped']:.1f} |")
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.load", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a bundle")
    parser.add_argument("--mlflow", help="models:/NAME@ALIAS of the same model, for the comparison")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--soak", type=float, default=600.0, help="seconds with 50 clients; 0: none")
    parser.add_argument("--capacity", type=float, default=30.0, help="seconds for measuring capacity")
    parser.add_argument("--warm", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=8, help="of the measurement of capacity")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--logs", type=Path, default=Path("/tmp"))
    options = parser.parse_args(arguments)
    requests = requests_for(options.model)
    base = f"http://127.0.0.1:{PORT}"
    given = [str(options.model), "--port", str(PORT), "--workers", str(options.workers)]
    serving = [sys.executable, "-m", "demeanor", "serve", *given]
    servers = {"demeanor serve": (serving, f"{base}/health/ready", f"{base}/v1/predict")}
    if options.mlflow:
        command = ["mlflow", "models", "serve", "-m", options.mlflow, "--env-manager", "local", "-p", str(PORT)]
        servers["mlflow models serve"] = (command, f"{base}/ping", f"{base}/invocations")
    result: dict[str, Any] = {
        "machine": platform.machine(), "cores": os.cpu_count(), "seconds": options.seconds,
        "model": options.model.parent.name,
        "servers": {},
    }  # fmt: skip
    for name, (command, ready, address) in servers.items():
        process, seconds = started(
            command, ready, options.logs / f"{name.replace(' ', '_')}.log", {"OMP_NUM_THREADS": "1"}
        )
        try:
            found = asyncio.run(loaded(name, address, process.pid, requests, options))
        finally:
            ended = stopped(process)
        result["servers"][name] = {**found, "ready": seconds, "stopped": ended}
    PAGE.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(table(result), encoding="utf-8")
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
