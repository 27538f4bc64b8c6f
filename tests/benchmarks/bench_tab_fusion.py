"""Epochs of TAB fusion with frozen encoders: asked once per utterance against asked in every epoch.

    python -m tests.benchmarks.bench_tab_fusion [--threads 2]

Epochs of the project's own training loop, validation included, on synthetic utterances with the lengths of IEMOCAP's
(text 18 tokens in the mean, speech 455, cut at 1,024), context windows of three turns on each side, batches of 32. The
first cached epoch asks the encoders, the later ones do not; the baseline is the same system with `cached: false`, in
the same process, whose training losses are compared with the cached ones. MiniLM has its own weights, the speech-BERT
has the released size (12 layers of 768, 23,673 ids) and random weights, which cost the same.

Cached epochs are those of the head and of making batches; with few utterances the ratio says more about the fixed cost
of an epoch than about the memory, so it grows with the corpus until the batches decide.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demeanor.data.examples import Examples
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.data.utterances import make_table
from demeanor.evaluation.metrics import score
from demeanor.models.tab_fusion.system import memory
from demeanor.training.fit import Trained, fit
from demeanor.training.settings import BranchSettings

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
TASK = Task(
    name="emotion", kind="classification", column="emotion", classes=("anger", "happiness", "sadness", "neutral")
)
#: As import-checkpoint writes it for the released speech-BERT.
SPEECH_BERT = {
    "model_type": "roberta", "vocab_size": 23673, "hidden_size": 768, "num_hidden_layers": 12, "pad_token_id": 1,
    "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 2050, "type_vocab_size": 1,
}  # fmt: skip
WORKLOADS: dict[str, dict[str, Any]] = {
    "MiniLM and context": {"utterances": 1200, "roles": ("text", "context"), "epochs": 6},
    "MiniLM, speech-BERT and context": {"utterances": 40, "roles": ("text", "audio", "context"), "epochs": 6},
}
STREAMS = {"text": "text.tokens", "audio": "audio.tokens", "context": "text.context"}


def corpus(count: int) -> Examples:
    """Utterances of random ids and windows; four in five are for training."""
    draw = np.random.default_rng(0)
    rows, text, audio, context = [], {}, {}, {}
    for n in range(count):
        name = f"u{n:05d}"
        split = "valid" if n % 5 == 4 else "train"
        rows.append(
            {
                "utterance_id": name, "corpus": "synthetic", "split": split, "dialogue": f"{split}{n // 20}",
                "turn": n % 20, "text": "x", "emotion": TASK.classes[int(draw.integers(4))],
            }
        )  # fmt: skip
        words = int(np.clip(draw.lognormal(2.6, 0.7), 3, 129))
        frames = int(np.clip(draw.lognormal(5.9, 0.65), 60, 1024))
        text[name] = ids(draw, words, 30522, 101, 102)
        audio[name] = ids(draw, frames, 23672, 0, 2)
        context[name] = draw.standard_normal((1, 7 * 384)).astype(np.float32)
    streams = {
        "text.tokens": (text, {"model": "minilm"}),
        "audio.tokens": (audio, {}),
        "text.context": (context, {"before": 3, "after": 3}),
    }
    made = {
        name: Stream(name, Ragged.from_sequences(values), Provenance(extractor="draw", version="1", parameters=told))
        for name, (values, told) in streams.items()
    }
    return Examples.of(make_table(rows), made)


def ids(draw: np.random.Generator, count: int, vocabulary: int, first: int, last: int) -> np.ndarray:
    middle = draw.integers(1000, vocabulary, max(count - 2, 1))
    return np.array([first, *middle, last], dtype=np.int32)[:, None]


def train(examples: Examples, roles: tuple[str, ...], epochs: int, cached: bool, threads: int, folder: str) -> Trained:
    model: dict[str, Any] = {"cached": cached, "cache": folder}
    if "audio" in roles:
        model["speech_configuration"] = SPEECH_BERT
    settings = BranchSettings(
        system="tab_fusion",
        task="emotion",
        streams={role: STREAMS[role] for role in roles},
        model=model,
        training={"seeds": [1], "epochs": epochs, "patience": epochs, "batch_size": 32, "threads": threads},
    )
    return fit("bench", settings, TASK, examples, 1, lambda *given: score(*given, warn=False), progress=False)


def measure(name: str, threads: int) -> dict[str, Any]:
    work = WORKLOADS[name]
    examples, roles, epochs = corpus(work["utterances"]), work["roles"], work["epochs"]
    memory.forget()
    with tempfile.TemporaryDirectory() as folder:
        cached = train(examples, roles, epochs, True, threads, folder)
        memory.forget()
        from_disk = train(examples, roles, 2, True, threads, folder)
        stored = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))
    plain = train(examples, roles, 2, False, threads, "")
    seconds = [row["seconds"] for row in cached.history]
    baseline = min(row["seconds"] for row in plain.history)
    losses = [[row["train_loss"] for row in one.history[:2]] for one in (cached, plain)]
    return {
        "workload": name,
        "utterances": work["utterances"],
        "recomputed": baseline,
        "first": seconds[0],
        "later": float(np.median(seconds[1:])),
        "first_from_disk": from_disk.history[0]["seconds"],
        "ratio": baseline / float(np.median(seconds[1:])),
        "kept_bytes": stored,
        "loss_difference": float(np.abs(np.subtract(*losses)).max()),
    }


def table(found: list[dict[str, Any]], about: str) -> str:
    lines = [
        "# TAB fusion", "", f"Generated by `python -m tests.benchmarks.bench_tab_fusion`; {about}", "",
        *"\n\n".join((__doc__ or "").split("\n\n")[2:]).strip().splitlines(), "",
        "| encoders | utterances | every epoch, s | first epoch, s | later epochs, s | ratio | first epoch, vectors on "
        "disk, s | on disk, MiB | largest difference of training losses |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in found:
        lines.append(
            f"| {one['workload']} | {one['utterances']} | {one['recomputed']:.2f} | {one['first']:.2f} "
            f"| {one['later']:.3f} | {one['ratio']:.0f} | {one['first_from_disk']:.3f} "
            f"| {one['kept_bytes'] / 2**20:.1f} | {one['loss_difference']:.1e} |"
        )
    return "\n".join([*lines, "", "The target is an epoch that costs a twentieth of recomputing: a ratio of 20.", ""])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    found = []
    for name in WORKLOADS:
        found.append(measure(name, chosen.threads))
        print(json.dumps(found[-1]), flush=True)
    about = (
        f"{date.today()}, torch {torch.__version__}, CPU, {chosen.threads} threads of {os.cpu_count()} cores "
        f"({platform.machine()}), load {os.getloadavg()[0]:.1f}: ratios are what counts."
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "tab_fusion.json").write_text(json.dumps({"about": about, "results": found}, indent=1) + "\n")
    (RESULTS / "tab_fusion.md").write_text(table(found, about))
    print(table(found, about))


if __name__ == "__main__":
    main()
