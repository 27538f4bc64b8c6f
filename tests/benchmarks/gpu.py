"""What one graphics card does, in one go and without a network: every system at its real size, with random weights.

    python -m tests.benchmarks.gpu --minutes 12 [--device cuda] [--tiny] [--output docs/benchmarks/gpu.json]

Each measurement is a training step (zero_grad, forward, loss, backward, Adam) or a pass of an encoder, run once before
it is timed; the median of the rest counts. `matrix rate` is what the card reaches in bfloat16 on square matrices, and
the share of it that a step uses counts the step's own multiplications (torch's FLOP counter). Each loss is compared
with the CPU's on the same weights in float32 first. A measurement that finds no time left is left out and named.
`--tiny --device cpu` runs every measurement but torch.compile's on any machine in seconds; its figures say nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.provenance import Provenance
from demeanor.data.task import Task
from demeanor.kernels.allocator import retain_freed_memory
from demeanor.models import find_system
from demeanor.models.base import System
from demeanor.models.mmml.system import MMML
from demeanor.representations.base import Layout
from demeanor.representations.conv_autoencoder import ConvAutoencoder, ConvAutoencoderSettings
from demeanor.training.pretraining.loop import _train_epoch
from demeanor.training.pretraining.settings import RepresentationSettings
from tests.benchmarks import bench_mmml

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "gpu.json"
#: Of a loss in float32 against the CPU's, relative: other orders of summation, TF32 off.
TOLERANCE = 1e-3
TASK = Task(name="sentiment", kind="regression", column="sentiment")
MAKER = Provenance(extractor="benchmark", version="1")
Step = Callable[[], Any]


@dataclass(frozen=True)
class Run:
    """Where it runs, how large, and until when (monotonic seconds)."""

    device: torch.device
    tiny: bool
    until: float

    @property
    def left(self) -> float:
        return self.until - time.monotonic()


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(step: Step, run: Run, most: float = 20.0) -> float:
    """Median seconds of a step: once before the clock starts, then 3 to 30 times within `most` seconds."""
    step()
    synchronise(run.device)
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < 3 or (len(taken) < 30 and time.perf_counter() - began < min(0 if run.tiny else most, run.left)):
        start = time.perf_counter()
        step()
        synchronise(run.device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def matrix_rate(run: Run) -> float:
    """Multiplications and additions per second of bfloat16 matrices."""
    size = 256 if run.tiny else 8192
    left, right = (torch.randn(size, size, device=run.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: left @ right, run, most=3.0)


def training_step(model: nn.Module, loss: Callable[[], Tensor], run: Run, half: bool) -> Step:
    trained = [value for value in model.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-9, fused=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=half):
            value = loss()
        value.backward()
        optimiser.step()

    return step


def difference_from_cpu(model: nn.Module, loss: Callable[[nn.Module, torch.device], Tensor], run: Run) -> float:
    """Relative difference of the evaluation loss on this device and on the CPU, float32, same weights."""
    model.eval()
    with torch.no_grad():
        here = float(loss(model, run.device))
        there = float(loss(copy.deepcopy(model).to("cpu"), torch.device("cpu")))
    model.train()
    return abs(here - there) / max(abs(there), 1e-9)


def step_figures(model: nn.Module, loss: Callable[[nn.Module, torch.device], Tensor], run: Run) -> dict[str, Any]:
    """Seconds, memory and equality of one model's step, in float32 and bfloat16."""
    model.to(run.device)
    figures: dict[str, Any] = {"loss_difference_from_cpu": difference_from_cpu(model, loss, run)}
    if figures["loss_difference_from_cpu"] > TOLERANCE:
        figures["problem"] = f"the loss differs from the CPU's by more than {TOLERANCE:g}"
    for name, half in (("float32", False), ("bfloat16", True)):
        if run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(run.device)
        step = training_step(model, lambda: loss(model, run.device), run, half)
        figures[f"{name}_seconds"] = median_seconds(step, run)
        if run.device.type == "cuda":
            figures[f"{name}_peak_gib"] = torch.cuda.max_memory_allocated(run.device) / 2**30
    counter = FlopCounterMode(display=False)
    with counter:
        loss(model, run.device).backward()
    figures["operations_per_step"] = counter.get_total_flops()
    return figures


def system_loss(batch: Batch) -> Callable[[Any, torch.device], Tensor]:
    def loss(model: System, device: torch.device) -> Tensor:
        moved = batch.to(device)
        return model.loss(model(moved), moved)["total"]

    return loss


def mmml(run: Run) -> dict[str, Any]:
    """RoBERTa-large and data2vec-large shapes, five cross-modality layers, a batch of 8 with context."""
    sizes = {"width": 64, "channels": 16} if run.tiny else {}
    settings = bench_mmml.settings(2 if run.tiny else 24, 1 if run.tiny else 5, **sizes)
    batch = shortened(bench_mmml.clips(2)) if run.tiny else bench_mmml.clips(8)
    model = MMML(settings, bench_mmml.INPUTS, bench_mmml.TASK)
    figures = step_figures(model, system_loss(batch), run)
    return {**figures, "batch": len(batch), "unit": "steps"}


def shortened(batch: Batch) -> Batch:
    """A quarter of a second of each sound."""
    sound = batch["audio"]
    inputs = {**batch.inputs, "audio": Padded(sound.values[:, :4000], sound.mask[:, :4000])}
    return replace(batch, inputs=inputs)


def clips(count: int, tiny: bool) -> tuple[Batch, dict[str, InputSpecification]]:
    """MOSI's shapes: 50 words, 375 frames of voice (5 wide) and 500 of the face (20 wide)."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"text": (50, 1), "audio": (375, 5), "vision": (500, 20)}
    inputs: dict[str, Padded] = {}
    for name, (published, width) in shapes.items():
        steps = 8 if tiny else published
        values = torch.randint(5, 1000, (count, steps, 1), generator=generator) if name == "text" else torch.randn(
            count, steps, width, generator=generator
        )  # fmt: skip
        inputs[name] = Padded(values, torch.ones(count, steps, dtype=torch.bool))
    rows = torch.arange(count)
    labels = {"target": torch.rand(count, generator=generator) * 6 - 3}
    batch = Batch(
        inputs, tuple(map(str, range(count))), rows, rows, torch.zeros_like(rows), -torch.ones_like(rows), labels
    )
    specifications = {
        name: InputSpecification(
            stream=f"{name}.{'tokens' if name == 'text' else 'frames'}", dimension=width, integer=name == "text",
            provenance=MAKER,
        )
        for name, (_, width) in shapes.items()
    }  # fmt: skip
    return batch, specifications


def fine_tuned(name: str) -> Callable[[Run], dict[str, Any]]:
    def measure(run: Run) -> dict[str, Any]:
        width, depth = (32, 1) if run.tiny else (768, 12)
        encoder = {
            "model_type": "bert", "vocab_size": 1000 if run.tiny else 30522, "hidden_size": width,
            "num_hidden_layers": depth, "num_attention_heads": width // 16 if run.tiny else 12,
            "intermediate_size": 4 * width,
        }  # fmt: skip
        batch, inputs = clips(4 if run.tiny else 64, run.tiny)
        system = find_system(name)
        model = system(system.Settings(encoder_configuration=encoder), inputs, TASK)
        model.on_train_start(lambda: iter([batch]), len(batch))
        figures = step_figures(model, system_loss(batch), run)
        return {**figures, "batch": len(batch), "unit": "clips"}

    measure.__doc__ = f"{name} with a BERT-base of random weights, trained along; MOSI's shapes."
    return measure


def conv_autoencoder(run: Run) -> dict[str, Any]:
    """True words per second of pretraining at the released size, float32, bfloat16, each compiled and not."""
    width = 40 if run.tiny else 409
    third = width // 3
    blocks = {"audio": (0, third), "text": (third, 2 * third), "vision": (2 * third, width)}
    layout = Layout(steps=20, blocks=blocks)
    batch, steps = (8, 2) if run.tiny else (512, 20)
    matrix = torch.rand(batch * steps, 20, width, device=run.device)
    mask = torch.ones(batch * steps, 20, 3, dtype=torch.bool, device=run.device)
    figures: dict[str, Any] = {"batch": batch, "unit": "words"}
    for precision in ("float32", "bfloat16"):
        for compiled in (False,) if run.tiny else (False, True):
            torch.manual_seed(0)
            model = ConvAutoencoder(ConvAutoencoderSettings(), layout).to(run.device)
            settings = RepresentationSettings(batch_size=batch, precision=precision, compile=compiled)
            optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
            name = f"{precision}{'_compiled' if compiled else ''}_words_per_second"
            with retain_freed_memory() as memory:
                try:
                    _train_epoch(model, settings, optimiser, matrix[:batch], mask[:batch], memory)
                    rates = [_train_epoch(model, settings, optimiser, matrix, mask, memory) for _ in range(2)]
                except RuntimeError as error:  # torch.compile wants a C compiler, which not every machine has
                    if not compiled:
                        raise
                    figures[f"{name}_problem"] = str(error).splitlines()[0][:160]
                    continue
            figures[name] = max(rate["words_per_second"] for rate in rates)
    return figures


def multilogue_net(run: Run) -> dict[str, Any]:
    """Utterances per second of 128 dialogues, and the share of a step that is spent in the card's kernels."""
    from tests.benchmarks import bench_multilogue_net as bench

    figures: dict[str, Any] = {"batch": bench.DIALOGUES, "unit": "utterances"}
    name = "classification, T=20, full"
    work = bench.Workload(name, str(run.device))
    step = bench.step_of("masked", work, run.device.type)
    seconds = median_seconds(step, run)
    figures |= {"float32_seconds": seconds, "utterances_per_second": work.utterances / seconds}
    if run.device.type == "cuda":
        figures["kernel_share"] = bench.kernel_share(step)
    return figures


def encoders(run: Run) -> dict[str, Any]:
    """Clips of 4 s (speech) and 16 tokens (text) per second, bfloat16."""
    import transformers

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    sizes = small if run.tiny else {}
    convolutions = {"conv_dim": (8,) * 7} if run.tiny else {}
    count = 2 if run.tiny else 32
    sound = torch.randn(count, 4_000 if run.tiny else 64_000, device=run.device)
    bands = torch.randn(count, 80, 3000, device=run.device)
    ids = torch.randint(5, 1000, (count, 16), device=run.device)
    whisper = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "decoder_layers": 0} if run.tiny else {
        "d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048,
        "decoder_layers": 0,
    }  # fmt: skip
    models = {
        "wav2vec2-base": (
            lambda: transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**sizes, **convolutions)), sound
        ),
        "whisper-base encoder": (
            lambda: transformers.WhisperModel(transformers.WhisperConfig(**whisper)).encoder, bands
        ),
        "roberta-base": (
            lambda: transformers.RobertaModel(transformers.RobertaConfig(vocab_size=50265, **sizes)), ids
        ),
    }  # fmt: skip
    figures: dict[str, Any] = {"batch": count, "unit": "clips"}
    for name, (make, values) in models.items():
        model = make().to(run.device).eval()
        with torch.inference_mode(), torch.autocast(run.device.type, torch.bfloat16):
            figures[f"{name}_clips_per_second"] = count / median_seconds(lambda m=model, v=values: m(v), run, most=5.0)
    return figures


MEASUREMENTS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "mmml": mmml,
    "self_mm": fine_tuned("self_mm"),
    "mult": fine_tuned("mult"),
    "conv_autoencoder": conv_autoencoder,
    "multilogue_net": multilogue_net,
    "encoders": encoders,
}


def measure(run: Run) -> dict[str, Any]:
    """All figures; what failed or found no time is named under `problem`, never left out in silence."""
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rate = matrix_rate(run)
    figures: dict[str, Any] = {"matrix_rate_bfloat16": rate}
    for name, measurement in MEASUREMENTS.items():
        if run.left <= 0:
            figures[name] = {"problem": "no time was left"}
            continue
        began = time.monotonic()
        try:
            figures[name] = measurement(run)
        except torch.OutOfMemoryError as error:
            figures[name] = {"problem": str(error).splitlines()[0]}
        row = figures[name]
        if "bfloat16_seconds" in row:
            per_second = 1 / row["bfloat16_seconds"]
            row["share_of_matrix_rate"] = row["operations_per_step"] * per_second / rate
            row[f"{row['unit']}_per_second"] = per_second * (1 if row["unit"] == "steps" else row["batch"])
        row["measured_in_seconds"] = round(time.monotonic() - began, 1)
        print(json.dumps({name: row}, indent=1), flush=True)
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
    return figures


def about(run: Run) -> dict[str, Any]:
    card = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else platform.processor()
    return {"date": time.strftime("%Y-%m-%d"), "device": card, "torch": torch.__version__, "tiny": run.tiny}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes: to see that everything runs")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here; --tiny --device cpu shows that the script runs")
    np.random.seed(0)
    run = Run(device, chosen.tiny, time.monotonic() + 60 * chosen.minutes)
    result = {"about": about(run), **measure(run)}
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
