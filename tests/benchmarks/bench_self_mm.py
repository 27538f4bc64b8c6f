"""Seconds per training epoch and memory against MMSA from PyPI, each in a process of its own, one after the other.

    python tests/benchmarks/bench_self_mm.py --peer-python PYTHON [--models lf_dnn tfn self_mm mult] [--rounds 2]

PYTHON is that of an environment with MMSA 2.2.1; ../shared/specs/mmsa_performance.md says how to make one and
../shared/peers/mmsa holds what generates the data (shaped like MOSI, nothing in it is real), a BERT with random
weights and the timing of MMSA. Both sides have the same file, sizes, batch size, accumulation, optimiser and threads.
Epochs are timed without validation. `ours` honours masks; `as published` takes padding for data as MMSA does, where
that differs (`reference`). Settings are those of conf/mosi, which are MMSA's. Our file is imported once before, as
ingestion does, and is not part of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))  # for tests.project, where this is run as a script
RESULTS = PROJECT / "docs" / "benchmarks"
PEERS = PROJECT.parent / "shared" / "peers" / "mmsa"
#: model -> (data set, train samples, epochs); the heaviest one on a tenth of MOSI.
RUNS = {
    "lf_dnn": ("data_full", 1284, 4),
    "tfn": ("data_full", 1284, 3),
    "self_mm": ("data_full", 1284, 1),
    "mult": ("data_128", 128, 1),
}
REFERENCE = ("lf_dnn", "tfn", "mult")


def published() -> dict[str, Any]:
    """The branches of conf/mosi by name."""
    from tests.project import parameters_of

    return parameters_of("mosi")["branches"]


def ours(model: str, data: Path, bert: Path, epochs: int, threads: int, reference: bool) -> dict[str, Any]:
    """Train through `fit`, as a node does; the time of validation is taken off."""
    import torch

    from demeanor.corpora.mmsa_pickle import MmsaPickleReader, MmsaPickleSettings
    from demeanor.data.examples import Examples
    from demeanor.data.stream import load_streams
    from demeanor.data.task import Task
    from demeanor.evaluation.metrics import score
    from demeanor.training.fit import fit
    from demeanor.training.loop import Loop
    from demeanor.training.settings import BranchSettings

    settings = MmsaPickleSettings(path=data / "unaligned_50.pkl", name="mosi", check_hash=False, padding="trim")
    imported = data / "imported"
    if not imported.exists():
        corpus = MmsaPickleReader().read(settings, imported)
        corpus.utterances.to_parquet(data / "utterances.parquet")
        return {}
    import pandas as pd

    table = pd.read_parquet(data / "utterances.parquet")
    examples = Examples.of(table[table["split"] != "test"], load_streams(imported))
    tokens = model == "self_mm"
    block = BranchSettings(**published()[model])  # which fills in what was published
    options = {**block.model, **({"encoder": str(bert)} if tokens else {}), "reference": reference}
    branch = BranchSettings(
        system=model,
        streams={"text": "text.tokens" if tokens else "text.words", "audio": "audio.frames", "vision": "vision.frames"},
        max_lengths={"text": 50, "audio": 375, "vision": 500},
        normalise=False,
        model=options,
        training=block.training.model_copy(
            update={"seeds": (1111,), "epochs": epochs, "patience": epochs, "threads": threads}
        ),
    )  # fmt: skip
    column = next(name for name in ("sentiment", "label") if name in table)
    task = Task(name="sentiment", kind="regression", column=column)
    waited = {"seconds": 0.0, "cpu": 0.0}
    validate = Loop._validate

    def timed(loop: Loop) -> dict[str, float]:
        began, cpu = time.perf_counter(), time.process_time()
        row = validate(loop)
        waited["seconds"], waited["cpu"] = time.perf_counter() - began, time.process_time() - cpu
        return row

    Loop._validate = timed  # type: ignore[method-assign]
    found: list[dict[str, float]] = []
    cpu = time.process_time()

    def report(row: dict[str, float], epoch: int) -> None:
        nonlocal cpu
        now = time.process_time()
        found.append(
            {
                "train_s": row["seconds"] - waited["seconds"],
                "train_cpu_s": now - cpu - waited["cpu"],
                "valid_mae": row["valid_MAE"],
            }
        )
        cpu = now

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(dir=data) as checkpoints:  # as the node keeps them, outside the time of an epoch
        trained = fit("benchmark", branch, task, examples, 1111, score, report, checkpoints, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"epochs": found, "parameters": trained.bundle.parameters, "peak_rss_mib": peak}


def run(command: list[str], cwd: Path, threads: int) -> None:
    surroundings = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=cwd, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")


def peer(python: str, work: Path, model: str, threads: int) -> dict[str, Any]:
    data, samples, epochs = RUNS[model]
    out = work / "peer.json"
    command = [python, "run_mmsa.py", "--model", model, "--data", data, "--bert", "data_full/bert",
               "--train-samples", str(samples), "--epochs", str(epochs), "--threads", str(threads),
               "--json", str(out)]  # fmt: skip
    run(command, work, threads)
    result = json.loads(out.read_text())
    errors = [entry["result"].get("MAE") for entry in result["eval"] if entry["mode"] in ("VAL", "VALID")]
    for epoch, error in zip(result["epochs"], errors, strict=False):
        epoch["valid_mae"] = error
    return {**{key: result[key] for key in ("epochs", "peak_rss_mib")}, "parameters": result.get("params")}


def own(work: Path, model: str, threads: int, reference: bool = False) -> dict[str, Any]:
    data, _, epochs = RUNS[model]
    out = work / "ours.json"
    command = [sys.executable, str(Path(__file__).resolve()), "--ours", model, "--data", str(work / data),
               "--bert", str(work / "data_full" / "bert"), "--epochs", str(epochs), "--threads", str(threads),
               "--json", str(out), *(["--reference"] if reference else [])]  # fmt: skip
    run(command, PROJECT, threads)
    return json.loads(out.read_text())


def prepare(python: str, work: Path, models: list[str], threads: int) -> None:
    work.mkdir(parents=True, exist_ok=True)
    for name in ("make_data.py", "run_mmsa.py"):
        shutil.copy(PEERS / name, work / name)
    (work / "tmp").mkdir(exist_ok=True)
    full, part = work / "data_full", work / "data_128"
    if not (full / "unaligned_50.pkl").exists():
        run([python, "make_data.py", "--out", "data_full", "--bert", "base"], work, threads)
    if not (part / "unaligned_50.pkl").exists():
        sizes = ["--train", "128", "--valid", "64", "--test", "64", "--bert", "none"]
        run([python, "make_data.py", "--out", "data_128", *sizes], work, threads)
    for folder in {RUNS[model][0] for model in models}:
        if not (work / folder / "imported").exists():
            own(work, next(model for model in models if RUNS[model][0] == folder), threads)


def best(runs: list[dict[str, Any]], key: str) -> float:
    return min(epoch[key] for one in runs for epoch in one["epochs"])


def summary(side: str, model: str, runs: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, Any]:
    memory = min(one["peak_rss_mib"] for one in runs)
    return {
        "model": model,
        "side": side,
        "parameters": runs[0]["parameters"],
        "seconds": best(runs, "train_s"),
        "cpu_seconds": best(runs, "train_cpu_s"),
        "peak_mib": memory,
        "valid_mae": runs[0]["epochs"][-1]["valid_mae"],
        "faster": best(base, "train_s") / best(runs, "train_s"),
        "less_cpu": best(base, "train_cpu_s") / best(runs, "train_cpu_s"),
        "memory": memory / min(one["peak_rss_mib"] for one in base),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | side | parameters | s/epoch | CPU s/epoch | peak MiB | valid MAE | faster | less CPU | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['model']} | {r['side']} | {r['parameters']:,} | {r['seconds']:.2f} | {r['cpu_seconds']:.2f} "
        f"| {r['peak_mib']:.0f} | {r['valid_mae']:.3f} | {r['faster']:.1f}x | {r['less_cpu']:.1f}x "
        f"| {r['memory']:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)


def machines() -> list[dict[str, Any]]:
    """What was measured so far, one entry for each processor."""
    path = RESULTS / "self_mm.json"
    return json.loads(path.read_text())["machines"] if path.exists() else []


def merged(rows: list[dict[str, Any]], former: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These rows, and those of the models that were not run this time, in the order of RUNS."""
    new = {row["model"] for row in rows}
    return [row for model in RUNS for row in (rows if model in new else former) if row["model"] == model]


def write(rows: list[dict[str, Any]], arguments: argparse.Namespace, loads: list[float]) -> None:
    import torch

    from demeanor.evaluation.environment import this_machine
    from demeanor.kernels.linear import mkl_is_slow

    machine = f"{this_machine().processor}, {os.cpu_count()} cores, {arguments.threads} threads"
    known = {one["machine"]: one for one in machines()}
    former = known.get(machine, {}).get("rows", [])
    known[machine] = {
        "machine": machine,
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "MMSA": "2.2.1"},
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "linear": "oneDNN" if mkl_is_slow() else "MKL",
        "load": [round(value, 1) for value in (min(loads), max(loads))],
        "rounds": arguments.rounds,
        "rows": merged(rows, former),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "self_mm.json").write_text(json.dumps({"machines": list(known.values())}, indent=1) + "\n")
    (RESULTS / "self_mm.md").write_text(page(list(known.values())))


def page(measured: list[dict[str, Any]]) -> str:
    """A section for each processor, then what holds for all."""
    text = """# Training against MMSA 2.2.1

Generated by tests/benchmarks/bench_self_mm.py. MMSA and ours in turns, each in its own process; best of the rounds
(CPU seconds are steadier). Data shaped like MOSI, generated; BERT-base with random weights; settings of conf/mosi on
both sides. All on MOSI's 1284 clips, mult on 128. `ours` reads every clip to its own end; `as published` takes padding
for data as MMSA does. Seconds are those of training, without validation; memory is the process' peak with loading,
training and validation. The goal is three times the speed in half of the memory.
"""
    return "\n".join([text, *(section(one) for one in measured), EXPLANATION])


def section(about: dict[str, Any]) -> str:
    """One processor: its kernels, its table, and what of the goal it misses."""
    missed = [
        f"{row['model']} ({row['faster']:.1f}x, {row['memory']:.2f} of the memory)"
        for row in about["rows"]
        if row["side"] == "ours" and (row["faster"] < 3.0 or row["memory"] > 0.5)
    ]
    load, told = about["load"], ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return f"""## {about["machine"]}

{about["date"]}, {told}; rounds: {about["rounds"]}, load {load[0]} to {load[1]}.
{about["instructions"]} kernels; ours multiplies large float32 matrices by {about["linear"]}, MMSA by MKL.

{table(about["rows"])}

{f"Missed by {', '.join(missed)}." if missed else "All reach the goal."}
"""


EXPLANATION = """## Why

Validation errors differ where the mathematics do: MMSA's LF-DNN and TFN average over padding and take the
LSTM's state behind it, and its MulT attends to padding and answers from a padded step. With padding taken
for data, too (`as published`), errors are as close as other draws and another order of clips let them be.
(MulT's epoch of 128 clips is one optimiser step, so that its errors say little more than where it began.)

What saves time: only real steps are computed, about a third of them, in batches of like lengths; memory
that tensors leave behind is kept for the next step; and linear layers go through oneDNN where torch's MKL
is the slower library (kernels/linear.py). TFN's time is its
outer product of 140,000 columns with nine million weights, which every step needs three times; the
product is made slice by slice and its dropout from single random bits. Of the memory, some 310 MiB are
Python with torch and pandas, and BERT's gradients and Adam's two moments are 1.3 GiB.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="python of an environment with MMSA")
    parser.add_argument("--work", type=Path, default=Path("/tmp/demeanor-bench-mmsa"))
    parser.add_argument("--models", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", choices=list(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--reference", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=1, help=argparse.SUPPRESS)
    for name in ("--data", "--bert", "--json"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        given = (arguments.ours, arguments.data, arguments.bert, arguments.epochs, arguments.threads)
        arguments.json.write_text(json.dumps(ours(*given, arguments.reference)))
        return
    if not arguments.peer_python or not PEERS.is_dir():
        raise SystemExit(f"needs --peer-python and {PEERS}: see the top of this file")
    prepare(arguments.peer_python, arguments.work, arguments.models, arguments.threads)
    rows, loads = [], [os.getloadavg()[0]]
    for model in arguments.models:
        sides: dict[str, list[dict[str, Any]]] = {"MMSA": [], "ours": [], "as published": []}
        for _ in range(arguments.rounds):
            sides["MMSA"].append(peer(arguments.peer_python, arguments.work, model, arguments.threads))
            sides["ours"].append(own(arguments.work, model, arguments.threads))
            if model in REFERENCE:
                sides["as published"].append(own(arguments.work, model, arguments.threads, reference=True))
            loads.append(os.getloadavg()[0])
        rows += [summary(side, model, runs, sides["MMSA"]) for side, runs in sides.items() if runs]
        print(table(rows), flush=True)
        write(rows, arguments, loads)


if __name__ == "__main__":
    main()
