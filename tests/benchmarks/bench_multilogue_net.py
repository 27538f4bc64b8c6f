"""Training steps of Multilogue-Net against an implementation written straight from the equations.

    python tests/benchmarks/bench_multilogue_net.py [--rounds 3] [--threads 2] [--device cpu] [--only NAME]

A step is zero_grad, forward, loss, backward and Adam at the paper's sizes, 128 dialogues, dropout on. The oracle of
the tests is timed twice: picking each dialogue's speaker in a Python loop, as the published code does, and by one
gather. All implementations take turns in one process, so that ratios hold on a busy machine; peak memory is that of a
process of its own, above what it held before its first step. On a GPU the share of a step that is spent in kernels is
written down too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from demeanor.models.multilogue.network import MultilogueNetwork  # noqa: E402
from tests.models.multilogue_oracle import Oracle, loss_of, one_hot_speakers  # noqa: E402

RESULTS = ROOT / "docs" / "benchmarks"
DIMS = {"D_text": 300, "D_audio": 384, "D_video": 35, "D_ctx": 300, "D_g": 150, "D_p": 150, "D_e": 100, "D_h": 100}
WIDTHS = {"text": 300, "audio": 384, "vision": 35}
DIALOGUES = 128
WORKLOADS = {
    "classification, T=20, full": ("cat", 20, True, 1),
    "classification, T=20, full, two speakers": ("cat", 20, True, 2),
    "classification, T=50, MOSEI-like": ("cat", 50, False, 1),
    "classification, T=98, MOSEI-like": ("cat", 98, False, 1),
    "regression, T=20, full": ("reg", 20, True, 1),
    "regression, T=50, MOSEI-like": ("reg", 50, False, 1),
}
VARIANTS = ("oracle, loop", "oracle, gather", "reference mode", "masked")


class Workload:
    """Synthetic dialogues: all of length T, or log-normal lengths (mean about 8) of which one is T."""

    def __init__(self, name: str, device: str):
        self.kind, longest, full, parties = WORKLOADS[name]
        generator = np.random.default_rng(0)
        lengths = np.full(DIALOGUES, longest)
        if not full:
            lengths = np.clip(np.round(generator.lognormal(math.log(6.5), 0.65, DIALOGUES)), 1, longest).astype(int)
            lengths[0] = longest
        self.utterances = int(lengths.sum())
        speakers = [[int(party) for party in generator.integers(0, parties, length)] for length in lengths]
        # Two slots also for one speaker, as in the published loaders.
        self.qmask = one_hot_speakers(speakers, 2).to(device)
        self.umask = self.qmask.sum(dim=2).T.contiguous()
        self.valid = self.umask.bool()
        shape = (longest, DIALOGUES)
        self.features = {
            name: (torch.randn(*shape, width) * self.umask.T.cpu()[..., None]).to(device)
            for name, width in WIDTHS.items()
        }
        label = torch.randint(2, (DIALOGUES, longest)) if self.kind == "cat" else torch.randn(DIALOGUES, longest)
        self.label = (label * self.umask.cpu().to(label.dtype)).to(device)
        self.dialogue, self.turn = (index.flatten() for index in torch.nonzero(self.valid).split(1, dim=1))
        self.speaker = self.qmask.argmax(dim=2).T[self.valid]
        self.rows = {name: value.transpose(0, 1)[self.valid] for name, value in self.features.items()}
        self.rates = (0.1, 0.65, 0.5) if self.kind == "cat" else (0.1, 0.25, 0.25)


def step_of(variant: str, work: Workload, device: str) -> Callable[[], None]:
    """One training step of a variant; making it is not timed."""
    recurrent, emotion, fused = work.rates
    if variant.startswith("oracle"):
        select = variant.split(", ")[1]
        model: torch.nn.Module = Oracle(work.kind, DIMS, 2, recurrent, fused, emotion, select)  # type: ignore[arg-type]
        inputs = [work.features[name] for name in ("text", "audio", "vision", "text")]

        def loss() -> Tensor:
            return loss_of(work.kind, model(*inputs, work.qmask, work.umask), work.label, work.umask)
    else:
        categorical, masked = work.kind == "cat", variant == "masked"
        network = MultilogueNetwork(
            WIDTHS, dict.fromkeys(WIDTHS, 300), 2 if categorical else 1, bidirectional=categorical,
            rectified=categorical, masked=masked, emotion_chain="dialogue",
            recurrent_dropout=recurrent, emotion_dropout=emotion, fused_dropout=fused,
        )  # fmt: skip
        model = network
        contexts = dict.fromkeys(WIDTHS, work.rows["text"])
        real = torch.ones_like(work.umask)[work.valid]

        def loss() -> Tensor:
            layout = network.layout(work.dialogue, work.turn, work.speaker)
            logits, _ = network(layout, work.rows, contexts)
            if not masked:
                logits = logits.unflatten(0, work.umask.shape)[work.valid]
            if categorical:
                return torch.nn.functional.cross_entropy(logits, work.label[work.valid])
            return loss_of("reg", 3 * torch.tanh(logits[:, 0]), work.label[work.valid], real)

    model.to(device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-5)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
        if device != "cpu":
            torch.cuda.synchronize()

    return step


def resident(field: str) -> float:
    """MiB; Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure_memory(variant: str, name: str, device: str) -> None:
    """Print what two steps add to the resident set (or to the GPU's memory), in MiB."""
    work = Workload(name, device)
    step = step_of(variant, work, device)
    before = resident("VmRSS")
    for _ in range(2):
        step()
    if device == "cpu":
        print(resident("VmHWM") - before)
    else:
        print(torch.cuda.max_memory_allocated() / 2**20)


def kernel_share(step: Callable[[], None]) -> float:
    """Share of a step's time during which the GPU computes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
    return sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6 / seconds


def run(name: str, options: argparse.Namespace) -> dict:
    """Times, memory and ratios of one workload."""
    work = Workload(name, options.device)
    steps = {variant: step_of(variant, work, options.device) for variant in VARIANTS}
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(options.rounds):
        for variant, step in steps.items():
            # The fast ones are repeated, so that each gets a fair share of the machine's quiet moments.
            for _ in range(1 if variant.startswith("oracle") else 3):
                start = time.perf_counter()
                step()
                seconds[variant].append(time.perf_counter() - start)
    rows = {}
    for variant in VARIANTS:
        arguments = [sys.executable, __file__, "--memory", variant, "--only", name, "--device", options.device]
        done = subprocess.run(
            [*arguments, "--threads", str(options.threads)], check=True, capture_output=True, text=True
        )
        rows[variant] = {
            "median_s": statistics.median(seconds[variant]),
            "min_s": min(seconds[variant]),
            "utterances_per_s": work.utterances / statistics.median(seconds[variant]),
            "peak_MiB": float(done.stdout.splitlines()[-1]),
        }
        if options.device != "cpu":
            rows[variant]["kernel_share"] = kernel_share(steps[variant])
    return {"utterances": work.utterances, "rows": rows}


def table(result: dict) -> str:
    """The page in docs."""
    where = f"{result['threads']} threads of {result['cores']} cores" if result["device"] == "cpu" else result["device"]
    lines = [
        "# Multilogue-Net: training steps", "",
        "Generated by `python tests/benchmarks/bench_multilogue_net.py`; its docstring says what is measured. "
        f"{where}, torch {result['torch']}, load average {result['load']:.1f} at the start, {result['date']}. "
        "Ratios are of medians (and of fastest steps) in the same process; on a busy machine trust the ratios.", "",
    ]  # fmt: skip
    for name, work in result["workloads"].items():
        rows = work["rows"]
        lines += [f"## {name} ({work['utterances']} utterances)", ""]
        share = "kernel_share" in rows["masked"]
        titles = ["", "median s", "fastest s", "utterances/s", "peak MiB", "times loop oracle", "times gather oracle"]
        lines.append("| " + " | ".join(titles) + " |" + (" in kernels |" if share else ""))
        lines += ["|---|---|---|---|---|---|---|" + ("---|" if share else "")]
        for variant, row in rows.items():
            ratios = [
                " / ".join(f"{rows[f'oracle, {select}'][key] / row[key]:.1f}" for key in ("median_s", "min_s"))
                for select in ("loop", "gather")
            ]
            cells = [variant, f"{row['median_s']:.3f}", f"{row['min_s']:.3f}", f"{row['utterances_per_s']:.0f}",
                     f"{row['peak_MiB']:.0f}", *ratios]  # fmt: skip
            if share:
                cells.append(f"{row['kernel_share']:.0%}")
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default=None, help="one workload; nothing is written")
    parser.add_argument("--memory", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.memory:
        measure_memory(options.memory, options.only, options.device)
        return
    result = {
        "device": "cpu" if options.device == "cpu" else torch.cuda.get_device_name(),
        "threads": options.threads, "cores": os.cpu_count(), "torch": torch.__version__,
        "load": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d"), "workloads": {},
    }  # fmt: skip
    for name in WORKLOADS:
        if options.only in (None, name):
            result["workloads"][name] = run(name, options)
            print(table({**result, "workloads": {name: result["workloads"][name]}}), flush=True)
    if options.only is None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        stem = "multilogue_net" if options.device == "cpu" else "multilogue_net_gpu"
        (RESULTS / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n")
        (RESULTS / f"{stem}.md").write_text(table(result))


if __name__ == "__main__":
    main()
