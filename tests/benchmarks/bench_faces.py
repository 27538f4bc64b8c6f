"""CPU time per frame of the extractors of faces, side by side on the same clips.

    python tests/benchmarks/bench_faces.py [--film FILE] [--clips N] [--before FOLDER]

Clips are N of the demo's (drawn, 96 x 96) and real films (640 x 360), where those are at hand: three cuts of 3 s, and a
whole one of some seconds. Each extractor reads all of them twice in turn, one thread, and the least CPU time counts.
Decoding, which all do alike, is measured as well and taken off for the second ratio. `--before` is the folder `src` of
an older version: its `face_descriptors` is measured as well, in a process of its own between two of ours, and is then
what the others are compared with.

How much is lost where the mesh is drawn in one picture of so many (`every`): correlation with what drawing it in every
picture gives, over all pictures that show the face, median and least of the columns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
RESULTS = PROJECT / "docs" / "benchmarks"
FILMS = PROJECT.parent / "shared" / "data" / "clips" / "pyfeat"
BEFORE = "face_descriptors, before"
EXTRACTORS: dict[str, tuple[str, dict]] = {
    "face_descriptors": ("face_descriptors", {}),
    "face_mesh": ("face_mesh", {}),
    "face_mesh, gaze none": ("face_mesh", {"gaze": "none"}),
    "face_mesh, gaze iris": ("face_mesh", {"gaze": "iris"}),
    "face_mesh, every 2": ("face_mesh", {"every": 2}),
    "face_mesh, every 3": ("face_mesh", {"every": 3}),
}
ROUNDS = 2


def milliseconds(work: Callable[[], int]) -> float:
    """CPU time per frame of one round."""
    begun = time.process_time()
    frames = work()
    return 1000 * (time.process_time() - begun) / frames


def measure(clips: list, extractors: dict[str, tuple[str, dict]]) -> dict[str, float]:
    from demeanor.features import find_extractor

    makers = {label: find_extractor(name, settings) for label, (name, settings) in extractors.items()}
    work: dict[str, Callable[[], int]] = {
        label: lambda maker=maker: sum(len(maker.extract_clip(clip)) for clip in clips)
        for label, maker in makers.items()
    }
    work["decoding"] = lambda: sum(sum(1 for _ in clip.frames(5.0, 640)) for clip in clips)
    for maker in makers.values():
        maker.extract_clip(clips[0])
    rounds = [{label: milliseconds(run) for label, run in work.items()} for _ in range(ROUNDS)]
    return {label: min(row[label] for row in rounds) for label in work}


def agreement(clips: list, every: int) -> list[str]:
    """Median and least correlation of the measures' columns, then of their speeds'."""
    import numpy as np

    from demeanor.features import find_extractor
    from demeanor.features.face_measures import MEASURES
    from demeanor.features.face_mesh import MOVING

    makers = [find_extractor("face_mesh", settings) for settings in ({}, {"every": every})]
    full, part = (np.concatenate([maker.extract_clip(clip) for clip in clips]) for maker in makers)
    seen = (full[:, 0] > 0) & (part[:, 0] > 0)
    told = []
    for names in (MEASURES, [f"{name}_speed" for name in MOVING]):
        places = [makers[0].names.index(name) for name in names]
        found = [float(np.corrcoef(full[seen, n], part[seen, n])[0, 1]) for n in places if full[seen, n].std() > 0]
        told += [f"{np.median(found):.3f}", f"{min(found):.3f}"]
    return told


def material(films: Path, count: int) -> dict[str, list]:
    from demeanor.features.base import Clip

    drawn = sorted((PROJECT / "data" / "01_raw" / "demo" / "Raw").glob("*/*.mp4"))
    made = {"drawn": [Clip(path.stem, media=path) for path in drawn[:: max(len(drawn) // count, 1)]]}
    film, short = films / "WolfgangLanger_Pexels.mp4", films / "single_face.mp4"
    if film.is_file():
        made["cuts of a film"] = [Clip(str(n), media=film, start=3.0 * n, end=3.0 * n + 3.0) for n in range(3)]
    if short.is_file():
        made["a short film"] = [Clip("short", media=short)]
    return made


def of_before(options: argparse.Namespace) -> dict[str, float]:
    """Kind of clips -> milliseconds of the older version."""
    command = [sys.executable, __file__, "--films", str(options.films), "--clips", str(options.clips), "--descriptors"]
    environment = {**os.environ, "PYTHONPATH": str(options.before)}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(answer.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--films", type=Path, default=FILMS)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--descriptors", action="store_true", help="measure face_descriptors alone and write nothing")
    options = parser.parse_args()
    clips = material(options.films, options.clips)
    if options.descriptors:
        alone = {"face_descriptors": EXTRACTORS["face_descriptors"]}
        print(json.dumps({kind: measure(given, alone)["face_descriptors"] for kind, given in clips.items()}))
        return
    before = of_before(options) if options.before else {}
    rows = []
    for kind, given in clips.items():
        found = measure(given, EXTRACTORS)
        decoding = found.pop("decoding")
        found = ({BEFORE: before[kind]} if before else {}) | found
        base = next(iter(found.values()))
        rows += [
            {
                "clips": kind, "extractor": label, "ms": spent, "decoding_ms": decoding, "ratio": base / spent,
                "ratio_without_decoding": (base - decoding) / max(spent - decoding, 1e-9),
            }
            for label, spent in found.items()
        ]  # fmt: skip
    lines = [
        "| clips | extractor | ms of CPU a frame | of it decoding | times as fast | decoding taken off |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['clips']} | {row['extractor']} | {row['ms']:.1f} | {row['decoding_ms']:.1f} | {row['ratio']:.1f} "
        f"| {row['ratio_without_decoding']:.1f} |"
        for row in rows
    ]
    machine = f"{platform.machine()}, {os.cpu_count()} cores (load average {os.getloadavg()[1]:.1f})"
    (RESULTS / "faces.json").write_text(json.dumps({"machine": machine, "results": rows}, indent=2) + "\n")
    lines += ["", "| clips | every | measures, median | least | speeds, median | least |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {kind} | {every} | {' | '.join(agreement(given, every))} |"
        for kind, given in clips.items() for every in (2, 3)
    ]  # fmt: skip
    text = "\n".join(lines)
    print(text)
    (RESULTS / "faces.md").write_text(
        f"# Speed of the extractors of faces\n\nGenerated by `python tests/benchmarks/bench_faces.py` on {machine}.\n\n"
        f"{(__doc__ or '').split(chr(10) * 2, 2)[2].strip()}\n\n{text}\n"
    )


if __name__ == "__main__":
    main()
