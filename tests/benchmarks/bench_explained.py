"""What an attributed answer costs: `--explain` against the plain answer, in one process.

    python tests/benchmarks/bench_explained.py RECORDINGS MODEL [MODEL ...]

RECORDINGS is a folder with clips, MODEL the folder of a bundle (after `kedro run`, data/06_models/demo/branches/*/*).
Both kinds of answers take turns on the same clips; the figure is the processor time of the process, which other work on
the machine does not lengthen much. Writes docs/benchmarks/explained.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demeanor.evaluation.environment import code_revision, this_machine
from demeanor.inference.model import TrainedModel

PROJECT = Path(__file__).resolve().parents[2]
RESULTS = PROJECT / "docs" / "benchmarks"


def seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turns(plain: Callable[[], Any], explained: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median processor seconds of both, and of their ratios pair by pair."""
    plain(), explained()  # what is loaded at the first call is not counted
    pairs = [(seconds(plain), seconds(explained)) for _ in range(repeats)]
    return {
        "plain": statistics.median(one for one, _ in pairs),
        "explained": statistics.median(other for _, other in pairs),
        "ratio": statistics.median(other / one for one, other in pairs),
        "worst": max(other / one for one, other in pairs),
    }


def measure(folder: Path, clips: list[Path], repeats: int) -> dict[str, Any]:
    """Of one model: a whole answer for recordings with words, and what the network alone takes for their features."""
    model = TrainedModel.load(folder)
    rows = [{"utterance_id": f"{n}", "video": str(path), "text": "I really like it."} for n, path in enumerate(clips)]
    examples = model.extraction(rows).examples
    return {
        "model": model.card.branch,
        "system": model.card.system,
        "modalities": len(model.modalities),
        "answer": in_turns(lambda: model.score(rows), lambda: model.score(rows, True, True), repeats),
        "network": in_turns(
            lambda: model.score_examples(examples), lambda: model.score_examples(examples, True, True), 3 * repeats
        ),
    }


def page(measured: dict[str, Any]) -> str:
    lines = [
        "# What an attributed answer costs",
        "",
        f"Made by `python tests/benchmarks/bench_explained.py` at revision {measured['code']}: {measured['clips']} "
        f"clips of the demo with given words, answered together, {measured['repeats']} times each way in turns, "
        f"processor time of one thread; {measured['machine']}.",
        "",
        "| model | sets of modalities | a clip, plain | a clip, attributed | times as much | worst pair "
        "| network alone, times as much |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for one in measured["models"]:
        answer, clips = one["answer"], measured["clips"]
        lines.append(
            f"| {one['model']} ({one['system']}) | {2 ** one['modalities']} "
            f"| {1000 * answer['plain'] / clips:.0f} ms | "
            f"{1000 * answer['explained'] / clips:.0f} ms | **{answer['ratio']:.2f}** | {answer['worst']:.2f} | "
            f"{one['network']['ratio']:.1f} |"
        )
    lines += [
        "",
        "A recording is decoded and its features are made once, whatever is asked of them afterwards; only the network "
        "is asked once for each set of modalities, in batches. Where the features are there already, the last column "
        "counts.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recordings", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = sorted(options.recordings.rglob("*.mp4"))[: options.clips]
    measured = {
        "code": code_revision(PROJECT),
        "machine": this_machine().processor,
        "clips": len(clips),
        "repeats": options.repeats,
        "models": [measure(folder, clips, options.repeats) for folder in options.models],
    }
    (RESULTS / "explained.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "explained.md").write_text(page(measured), encoding="utf-8")
    print(page(measured))


if __name__ == "__main__":
    main()
