"""`python -m tests.load`: `demeanor serve` under load and, with `--mlflow`, MLflow's server beside it, into a table.

A whole run with both servers takes about 2 * (60 + capacity + 3 * seconds + soak) seconds; `--mlflow 60` gives MLflow's
rows a minute each and no soak."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.load.servers import started, stopped
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
    "server", "traffic", "seconds", "requests/s", "answered", "refused (429)", "late (504)", "failed",
    "p50 s", "p95 s", "p99 s", "equal", "differing", "largest difference", "memory MiB, early / most",
)  # fmt: skip
#: Beside them, for one client alone.
LONG = "words, voice and face of 10 s"
#: Share of the traffic by what a row holds.
SHARES = {"words": 0.5, "words and voice": 0.25, "words, voice and face": 0.25}


def requests_for(folder: Path) -> list[Request]:
    """Mixed rows, with the offline model's answers; and a longer clip, which is no part of the traffic."""
    from demeanor.inference.describe import records_of
    from demeanor.inference.model import TrainedModel

    model, clips = TrainedModel.load(folder), sorted((DEMO / "Raw").glob("*/*.mp4"))[:8]

    def request(kind: str, row: dict[str, Any], content: bytes, share: float) -> Request:
        if "voice" in kind:
            column = "video_bytes" if "face" in kind else "audio_bytes"
            row = {**row, column: base64.b64encode(content).decode("ascii")}
        body = json.dumps({"dataframe_records": [row]}).encode()
        return Request(kind, body, records_of(model.score([row])), share)

    made = [
        request(kind, {"text": f"what a lovely day, number {number}"}, clip.read_bytes(), share / len(clips))
        for number, clip in enumerate(clips)
        for kind, share in SHARES.items()
    ]
    return [*made, request(LONG, {"text": "what a lovely day, and how long it is"}, long_clip(), 0.0)]


def long_clip(seconds: float = 10.0) -> bytes:
    """A film of a drawn face with a humming voice."""
    from demeanor.corpora.demo import face
    from demeanor.corpora.demo.latents import View
    from demeanor.corpora.demo.media import write_clip
    from demeanor.corpora.demo.speakers import make_speakers

    random, rate, frames = np.random.default_rng(1), 16_000, round(seconds * face.FRAME_RATE)
    time_of = np.arange(round(rate * seconds)) / rate
    voice = 0.2 * np.sin(2 * np.pi * 140 * time_of) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_of))
    look = make_speakers(1)["train"][0].look
    pictures = face.film(look, View(1.0, "happiness"), face.speech_energy(voice, rate, frames), random)
    with tempfile.TemporaryDirectory() as place:
        write_clip(Path(place) / "long.mp4", pictures, face.FRAME_RATE, voice, rate)
        return (Path(place) / "long.mp4").read_bytes()


def for_mlflow(folder: Path, place: Path) -> Path:
    """The bundle as the folder of a model that `mlflow models serve` takes, as the registry would hold it."""
    import mlflow

    from demeanor.data.bundle import Bundle
    from demeanor.serving import registry

    made = place / "mlflow_model"
    mlflow.pyfunc.save_model(
        made, python_model=str(Path(registry.__file__).with_name("mlflow_model.py")),
        artifacts={"bundle": str(folder)}, signature=registry.signature_of(Bundle.load(folder).card),
        pip_requirements=[],
    )  # fmt: skip
    return made


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
    long = [each for each in requests if each.kind == LONG]
    requests = [each for each in requests if each.kind != LONG]
    await closed_loop(address, requests, 2, options.warm)
    one_by_one = [
        outcome
        for kind in (*SHARES, LONG)
        for outcome in await closed_loop(address, [each for each in (*requests, *long) if each.kind == kind], 1, 1.5)
    ]
    alone = {}
    for kind in (*SHARES, LONG):
        times = [each.seconds for each in one_by_one if each.kind == kind and each.status == 200]
        alone[kind] = {"requests": len(times), "p50": float(np.median(times)) if times else None}
    outcomes = await closed_loop(address, requests, options.clients, options.capacity)
    capacity = sum(each.status == 200 for each in outcomes) / options.capacity
    rows = []
    for share in (0.5, 1.0, 1.5):
        found, memory = await measured(process, open_loop(address, requests, capacity * share, options.seconds))
        row = {"share": share, "seconds": options.seconds, "rate": capacity * share}
        rows.append({**row, **summary(found, DEADLINE), **_span(memory)})
        print(name, json.dumps(rows[-1]), flush=True)
    if options.soak:
        found, memory = await measured(process, closed_loop(address, requests, 50, options.soak))
        row = {"share": None, "seconds": options.soak, "rate": len(found) / options.soak}
        rows.append({**row, **summary(found, DEADLINE), **_span(memory)})
        print(name, json.dumps(rows[-1]), flush=True)
    return {"capacity": capacity, "alone": alone, "rows": rows}


def _span(memory: list[int]) -> dict[str, int]:
    """Memory after a tenth of the run, and at most: flat where they are alike."""
    return {"memory_early": memory[len(memory) // 10], "memory_most": max(memory)}


def table(result: dict[str, Any]) -> str:
    """The page, from what was measured."""
    kinds = (*SHARES, LONG)
    lines = [
        "# Under load",
        "",
        f"Generated by `python -m tests.load` on {result['machine']}, {result['cores']} cores, Python "
        f"{platform.python_version()}, {result['date']}; load of the machine at the start: {result['load']:.1f}; "
        f"model: {result['model']}.",
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
                f"| {name} | {what} | {row['seconds']:g} | {row['rate']:.2f} | "
                f"{row['answered']} of {row['requests']} | {row['refused']} | "
                f"{row['late']} | {row['failed']} | {times} | {row['byte_equal']} | {row['wrong']} | "
                f"{row['largest_difference']:.1e} | {row['memory_early'] >> 20} / {row['memory_most'] >> 20} |"
            )
    lines += [
        "",
        "Capacity is what several clients get who each send the next request when the last one is answered; p50 alone",
        "is that of one client.",
        "",
        f"| server | capacity, requests/s | {' | '.join(f'p50 alone, {kind}, s' for kind in kinds)} | "
        "start to ready, s | told to stop to ended, s |",
        "|---" * (4 + len(kinds)) + "|",
    ]
    for name, found in result["servers"].items():
        times = (found["alone"][kind]["p50"] for kind in kinds)
        told = " | ".join("-" if one is None else f"{one:.3f}" for one in times)
        lines.append(f"| {name} | {found['capacity']:.2f} | {told} | {found['ready']:.1f} | {found['stopped']:.1f} |")
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.load", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a bundle; by default one is trained, on noise")
    parser.add_argument(
        "--mlflow", type=float, nargs="?", const=0.0, metavar="SECONDS",
        help="the same model by `mlflow models serve`, too; with a number, that long for each row and without a soak",
    )  # fmt: skip
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page goes, and its numbers beside it")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--soak", type=float, default=600.0, help="seconds with 50 clients; 0: none")
    parser.add_argument("--capacity", type=float, default=30.0, help="seconds for measuring capacity")
    parser.add_argument("--warm", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=8, help="of the measurement of capacity")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--logs", type=Path, help="folder for what the servers write")
    options = parser.parse_args(arguments)
    os.environ.update(OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", HF_HUB_OFFLINE="1")
    with tempfile.TemporaryDirectory(prefix="demeanor-load-") as place:
        return measure(options, Path(place))


def measure(options: argparse.Namespace, place: Path) -> int:
    """Both servers, one after the other, and the page."""
    import torch

    torch.set_num_threads(1)
    called = "the bundle given"
    if options.model is None:
        from tests.server.conftest import trained

        options.model = place / "bundle"
        trained().save(options.model)
        called = (
            "a late fusion of words, voice and face that has learnt from noise, which costs what any of its kind does"
        )
    requests = requests_for(options.model)
    base = f"http://127.0.0.1:{PORT}"
    given = [str(options.model), "--port", str(PORT), "--workers", str(options.workers)]
    serving = [sys.executable, "-m", "demeanor", "serve", *given]
    servers = {"demeanor serve": (serving, f"{base}/health/ready", f"{base}/v1/predict")}
    if options.mlflow is not None:
        given = ["-m", str(for_mlflow(options.model, place)), "--env-manager", "local", "-p", str(PORT)]
        command = [sys.executable, "-m", "mlflow", "models", "serve", *given]
        servers["mlflow models serve"] = (command, f"{base}/ping", f"{base}/invocations")
    result: dict[str, Any] = {
        "machine": platform.machine(), "cores": os.cpu_count(), "model": called, "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
        "servers": {},
    }  # fmt: skip
    for name, (command, ready, address) in servers.items():
        process, seconds = started(command, ready, (options.logs or place) / f"{name.replace(' ', '_')}.log", {})
        try:
            shorter = {"seconds": options.mlflow, "soak": 0.0} if options.mlflow and name != "demeanor serve" else {}
            asked = argparse.Namespace(**{**vars(options), **shorter})
            found = asyncio.run(loaded(name, address, process.pid, requests, asked))
        finally:
            ended = stopped(process)
        result["servers"][name] = {**found, "ready": seconds, "stopped": ended}
    options.page.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    options.page.write_text(table(result), encoding="utf-8")
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
