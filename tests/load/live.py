"""How far live answers of `demeanor serve` are behind what is said, from recorded speech that is sent as it is spoken.

    python -m tests.load.live [--model FOLDER] [--seconds 40]

starts a server, speaks to it through /v1/live with the page's window and step, and writes the table of docs/serving.md:
without words, with words that are recognised, and two people at once. Delays are those of the client's own clock: from
when the last sample of a window was sent to when its answer was there. Without --model a bundle is trained on noise,
which recognises by the packaged Whisper as any other that reads words.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from tests.load.servers import started, stopped
from tests.project import DEMO, PROJECT

PAGE = PROJECT / "docs" / "serving.md"
START, END = "<!-- live delay -->\n", "\n<!-- end of live delay -->"
PORT = 8378
RATE, WINDOW, STEP = 16_000, 10.0, 3.0
#: Seconds between two messages with sound, as a browser sends them.
PIECE = 0.1


@dataclass(frozen=True)
class Heard:
    """One window's answer: seconds behind by the client's clock and by the server's, and what became of its words."""

    behind: float
    told: float
    words: str
    voice: bool


def speech(seconds: float) -> np.ndarray:
    """[T] int16 at 16 kHz: clips of the demo, one after the other."""
    from demeanor.features.clip import to_int16
    from demeanor.features.sound import stream_samples

    parts: list[np.ndarray] = []
    for clip in sorted((DEMO / "Raw").glob("*/*.mp4")):
        parts += [to_int16(block) for block in stream_samples(clip, RATE)]
        if sum(map(len, parts)) >= seconds * RATE:
            break
    return np.concatenate(parts)[: round(seconds * RATE)]


async def session(address: str, samples: np.ndarray, without: Sequence[str]) -> tuple[list[Heard], int]:
    """The windows of somebody who speaks, and how many were skipped."""
    async with connect(address) as socket:
        hello = {"type": "start", "sample_rate": RATE, "window": WINDOW, "step": STEP, "without": list(without)}
        await socket.send(json.dumps(hello))
        ready = json.loads(await socket.recv())
        if ready["type"] != "ready":
            raise SystemExit(f"no session: {ready}")
        begun = time.monotonic()
        speaking = asyncio.create_task(_speak(socket, samples, begun))
        heard, skipped = [], 0
        async for message in socket:
            told = json.loads(message)
            if told["type"] == "window":
                behind = time.monotonic() - (begun + told["end"])
                heard.append(Heard(behind, told["delay"], told["words"], told["voice"]))
            skipped += told["type"] == "skipped"
            if told["type"] in ("end", "error"):
                break
        await speaking
        return heard, skipped


async def _speak(socket: ClientConnection, samples: np.ndarray, begun: float) -> None:
    size = round(PIECE * RATE)
    for place in range(0, len(samples), size):
        part = samples[place : place + size]
        # A sample is there when it has been spoken.
        await asyncio.sleep(max(0.0, begun + (place + len(part)) / RATE - time.monotonic()))
        await socket.send(part.astype("<i2").tobytes())
    await socket.send(json.dumps({"type": "stop"}))


def row(name: str, found: Sequence[tuple[list[Heard], int]]) -> str:
    """A line of the table."""
    windows = [each for heard, _ in found for each in heard]
    spoken = [each for each in windows if each.voice]
    behind = np.array([each.behind for each in spoken])
    p50, p95, most = (f"{value:.2f}" for value in (np.median(behind), np.quantile(behind, 0.95), behind.max()))
    left_out, skipped = sum(each.words == "left out" for each in spoken), sum(count for _, count in found)
    return f"| {name} | {len(found)} | {len(spoken)} | {p50} | {p95} | {most} | {left_out} | {skipped} |"


async def measure(address: str, seconds: float) -> list[str]:
    samples = speech(seconds)
    await session(address, samples[: 4 * RATE], ())  # the detector of voice is loaded by the first session
    rows = []
    for name, without, people in (("no words", ("text",), 1), ("words recognised", (), 1), ("words recognised", (), 2)):
        found = await asyncio.gather(*(session(address, samples, without) for _ in range(people)))
        rows.append(row(name, found))
        print(rows[-1], flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.load.live", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder of a bundle; by default one is trained, on noise")
    parser.add_argument("--seconds", type=float, default=40.0, help="of speech, for each row of the table")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    load, processors = os.getloadavg()[0], len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="demeanor-live-") as place:
        model = options.model or _trained(Path(place) / "bundle")
        command = [sys.executable, "-m", "demeanor", "serve", str(model), "--port", str(PORT)]
        process, _ = started(command, f"http://127.0.0.1:{PORT}/health/ready", Path(place) / "log", {})
        try:
            rows = asyncio.run(measure(f"ws://127.0.0.1:{PORT}/v1/live", options.seconds))
        finally:
            stopped(process)
    table = "\n".join(
        [
            f"`python -m tests.load.live` on {processors} cores ({platform.machine()}), {time.strftime('%Y-%m-%d')}, "
            f"load of the machine at the start {load:.1f}: {options.seconds:g} s of speech for each row, windows of "
            f"{WINDOW:g} s every {STEP:g} s; seconds from a window's last sample to its answer, by the client's clock.",
            "",
            "| | sessions | windows | p50 | p95 | most | words left out | skipped |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            *rows,
        ]
    )
    options.page.write_text(put(table, options.page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def put(table: str, text: str) -> str:
    """The page with this table between its marks."""
    before, found, rest = text.partition(START)
    if not found or END not in rest:
        raise SystemExit(f"the page has no marks {START.strip()} and {END.strip()}")
    return f"{before}{START}{table}{END}{rest.partition(END)[2]}"


def _trained(folder: Path) -> Path:
    from tests.server.conftest import trained

    made: Any = trained()
    replace(made, card=made.card.model_copy(update={"recogniser": "auto"})).save(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
