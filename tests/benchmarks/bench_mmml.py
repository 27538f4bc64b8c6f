"""MMML's training step and evaluation against a straight way to compute the same network, in one process.

    python -m tests.benchmarks.bench_mmml [--depths 4] [--batch 4] [--threads 2] [--device cpu]

The straight way is how one writes the network down: eager attention that returns every map, texts padded to 96 tokens
and sounds to 6 s, valid frames counted in a loop over the first map of each sample, means in a loop over samples, an
utterance and its context in two passes, the frozen convolutions inside the graph. Both have the same weights, real
layer sizes (1024 wide, 16 heads, 512 convolution channels; random weights) and fewer layers; dropout is on in training.
Before anything is timed their evaluation outputs are compared.

Clips are like MOSI's: 4.2 s and 16 tokens in the mean, dialogues of eight. Memory is what autograd keeps for the
backward pass: bytes of all distinct saved arrays that are no weights. Fewer layers make the convolutional encoder weigh
more than in the published networks, where it is a third of data2vec-base and an eighth of data2vec-large.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.provenance import Provenance
from demeanor.data.task import Task
from demeanor.kernels.linear import use_onednn_linear
from demeanor.models.blocks.layers import QuickDropout
from demeanor.models.mmml.dialogue import rows_before
from demeanor.models.mmml.frames import valid_frames
from demeanor.models.mmml.inputs import join_tokens, normalise_waveform
from demeanor.models.mmml.system import MMML

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
SAMPLES, TOKENS, VOCABULARY, TURNS = 96_000, 96, 1_000, 8
TASK = Task(name="sentiment", kind="regression", column="sentiment")
MAKER = Provenance(extractor="benchmark", version="1")
INPUTS = {
    "text": InputSpecification(stream="text.tokens", dimension=1, integer=True, provenance=MAKER),
    "audio": InputSpecification(stream="audio.waveform", dimension=1, provenance=MAKER),
}


def settings(depth: int, fusion: int, width: int = 1024, channels: int = 512, **more: Any) -> MMML.Settings:
    text = {
        "model_type": "roberta", "vocab_size": VOCABULARY, "hidden_size": width, "num_hidden_layers": depth,
        "num_attention_heads": width // 64, "intermediate_size": 4 * width, "max_position_embeddings": 514,
        "type_vocab_size": 1, "layer_norm_eps": 1e-5,
    }  # fmt: skip
    audio = {
        "model_type": "data2vec-audio", "hidden_size": width, "num_hidden_layers": depth,
        "num_attention_heads": width // 64, "intermediate_size": 4 * width, "conv_dim": [channels] * 7,
        "layerdrop": 0.0, "apply_spec_augment": False, "feat_proj_dropout": 0.0,
    }  # fmt: skip
    return MMML.Settings(
        context="dialogue",
        text_configuration=text,
        audio_configuration=audio,
        freeze_feature_encoder=True,
        layers=fusion,
        reference=True,
        **more,
    )


def clips(count: int, seed: int = 0) -> Batch:
    """Dialogues of eight utterances; raw sounds and tokens of MOSI-like lengths."""
    generator = np.random.default_rng(seed)
    samples = np.clip(generator.lognormal(np.log(3.8), 0.5, count) * 16_000, 8_000, 160_000).astype(int)
    tokens = np.clip(generator.lognormal(np.log(14), 0.5, count), 4, 60).astype(int)
    samples = np.minimum(samples, SAMPLES)
    sound = np.zeros((count, samples.max(), 1), np.float32)
    words = np.ones((count, tokens.max(), 1), np.int64)
    for row, (heard, said) in enumerate(zip(samples, tokens, strict=True)):
        sound[row, :heard, 0] = generator.standard_normal(heard) * 0.1
        words[row, :said, 0] = [0, *generator.integers(5, VOCABULARY, said - 2), 2]
    rows = torch.arange(count)
    inputs = {
        "text": Padded(torch.from_numpy(words), torch.from_numpy(np.arange(tokens.max()) < tokens[:, None])),
        "audio": Padded(torch.from_numpy(sound), torch.from_numpy(np.arange(samples.max()) < samples[:, None])),
    }
    labels = {"target": torch.from_numpy(generator.uniform(-3, 3, count).astype(np.float32))}
    ids = tuple(map(str, range(count)))
    return Batch(inputs, ids, rows, rows // TURNS, rows % TURNS, torch.full_like(rows, -1), labels)


class Straight(nn.Module):
    """The network as one writes it down, with the weights of `system`."""

    def __init__(self, system: MMML):
        super().__init__()
        self.system = copy.deepcopy(system)
        for network in (self.system.words.network, self.system.speech.network):
            network.set_attn_implementation("eager")
            for module in list(network.modules()):
                for name, child in module.named_children():
                    if type(child) is QuickDropout:
                        setattr(module, name, nn.Dropout(child.p))

    def load(self, batch: Batch, rows: list[int]) -> list[Tensor]:
        """Each row and its context, tokenised rows joined, waveforms read and normalised, padded to the fixed sizes."""
        said, heard = batch["text"], batch["audio"]
        words, past_words = rows_before(batch, 2), rows_before(batch, 1)
        arrays: list[list[np.ndarray]] = [[], []]
        sounds: list[list[np.ndarray]] = [[], []]
        for row in rows:
            tokens = [said.tokens[n, said.mask[n]].cpu().numpy() for n in (row, *words[row])]
            arrays[0].append(tokens[0])
            arrays[1].append(join_tokens(tokens[1:], TOKENS, "oldest") if words[row] else np.array([0, 2]))
            sounds[0].append(normalise_waveform(heard.values[row, heard.mask[row], 0].cpu().numpy()))
            before = past_words[row]
            sounds[1].append(
                normalise_waveform(heard.values[before[0], heard.mask[before[0]], 0].cpu().numpy())
                if before
                else np.zeros(0)
            )
        result = []
        for part, size, padding in (
            (arrays[0], TOKENS, 1),
            (arrays[1], TOKENS, 1),
            (sounds[0], SAMPLES, 0),
            (sounds[1], SAMPLES, 0),
        ):
            values = np.full((len(rows), size), padding, np.int64 if size == TOKENS else np.float32)
            mask = np.zeros((len(rows), size), np.int64)
            for n, row_values in enumerate(part):
                values[n, : len(row_values)] = row_values
                mask[n, : len(row_values)] = 1
            result += [torch.from_numpy(values).to(batch.device), torch.from_numpy(mask).to(batch.device)]
        return result

    def forward(self, batch: Batch, rows: list[int]) -> dict[str, Tensor]:
        values = self.load(batch, rows)
        fusion = self.system.fusion
        pooled: dict[str, list[Tensor]] = {"text": [], "audio": []}
        first: dict[str, list[Tensor]] = {"text": [], "audio": []}
        for ids, mask, sound, heard in (values[0:2] + values[4:6], values[2:4] + values[6:8]):
            words = self.system.words.network(input_ids=ids, attention_mask=mask, output_attentions=True)
            hidden, vectors, frames = self.hear(sound, heard)
            pooled["text"].append(words.pooler_output)
            pooled["audio"].append(vectors)
            streams = {"text": (words.last_hidden_state, mask > 0), "audio": (hidden, frames)}
            for name, state in self.cross(streams).items():
                first[name].append(state[:, 0])
        heads = {name: fusion.heads[name](torch.cat(parts, dim=1)) for name, parts in pooled.items()}
        joint = fusion.joint(torch.cat([*first["text"], *first["audio"]], dim=1))
        return {"M": joint, "T": heads["text"], "A": heads["audio"]}

    def hear(self, sound: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        encoder = self.system.speech
        result = encoder.network(sound, attention_mask=mask, output_attentions=True)
        hidden, weights = result.last_hidden_state, result.attentions[0]
        total = hidden.shape[1]
        valid = valid_frames(mask.sum(dim=1), total, encoder.convolutions, reference=True).tolist()
        vectors, frames = [], torch.zeros((len(sound), total), dtype=torch.bool, device=sound.device)
        for row in range(len(sound)):
            counted = 0
            for weight in weights[row, 0, 0]:
                counted += int(weight != 0)
            # Dropout hides weights in training: the loop costs what it costs, the number is the right one.
            count = counted if not self.training else valid[row]
            vectors.append(hidden[row, :count].mean(dim=0))
            for frame in range(count):
                frames[row, frame] = True
        return hidden, torch.stack(vectors), frames

    def cross(self, streams: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        stack = self.system.fusion.stack
        states, masks = {}, {}
        for name, (hidden, mask) in streams.items():
            states[name] = torch.cat([stack.cls[name].expand(len(hidden), 1, -1), hidden], dim=1)
            masks[name] = torch.cat([mask.new_ones((len(mask), 1)), mask], dim=1)
        for layer in stack.layers:
            new = {}
            for name, other in (("text", "audio"), ("audio", "text")):
                crossed = eager(layer.cross[name], states[name], states[other], masks[other])
                new[name] = layer.feed_forward[name](eager(layer.own[name], crossed, crossed, masks[name]))
            states = new
        return states


def eager(block: nn.Module, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    asked, held, read = block._split(block.query(query)), block._split(block.key(keys)), block._split(block.value(keys))
    scores = asked @ held.transpose(2, 3) / asked.shape[3] ** 0.5
    scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, float("-inf"))[:, None, None]
    weights = nn.functional.dropout(scores.softmax(dim=3), block.attention_dropout, block.training)
    result = block.output((weights @ read).transpose(1, 2).flatten(2))
    return block.norm(query + block.dropout(result))


def straight_loss(heads: dict[str, Tensor], target: Tensor) -> Tensor:
    return torch.stack([(value[:, 0] - target).abs().mean() for value in heads.values()]).sum()


def saved_bytes(run: Callable[[], Any], weights: nn.Module) -> int:
    """Bytes that autograd keeps between forward and backward."""
    own = {value.untyped_storage().data_ptr() for value in weights.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        result = run()
    del result
    return sum(kept.values())


def seconds(run: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """The fastest of some runs; everything was run once before it is timed."""
    taken = []
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken)


def trainer(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-9)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return step


def measure(depth: int, fusion: int, size: int, device: torch.device, repeats: int, **sizes: int) -> dict[str, Any]:
    torch.manual_seed(0)
    system = MMML(settings(depth, fusion, **sizes), INPUTS, TASK).to(device)
    remembering = MMML(settings(depth, fusion, **sizes, cache_gigabytes=1.0), INPUTS, TASK).to(device)
    remembering.load_state_dict(system.state_dict())
    straight = Straight(system)
    for ours in (system, remembering):  # as `fit` does
        use_onednn_linear(ours)
    batch, evaluated = clips(size).to(device), clips(2 * TURNS, seed=1).to(device)

    def evaluate_straight() -> Tensor:
        with torch.inference_mode():
            parts = [straight(evaluated, list(range(n, n + TURNS))) for n in range(0, len(evaluated), TURNS)]
        return torch.cat([part["M"] for part in parts])

    def evaluate_ours() -> Tensor:
        with torch.inference_mode():
            return system(evaluated).prediction

    system.eval(), straight.eval()
    difference = float((evaluate_straight() - evaluate_ours()).abs().max())
    found: dict[str, Any] = {"depth": depth, "cross_modality_layers": fusion, "batch": size, "difference": difference}
    found["evaluation"] = {
        "straight": seconds(evaluate_straight, device, repeats),
        "ours": seconds(evaluate_ours, device, repeats),
    }
    for model in (system, remembering, straight):
        model.train()
    losses = {
        "straight": lambda: straight_loss(straight(batch, list(range(size))), batch.target),
        "ours": lambda: system.loss(system(batch), batch)["total"],
        "ours, features cached": lambda: remembering.loss(remembering(batch), batch)["total"],
    }
    models = {"straight": straight, "ours": system, "ours, features cached": remembering}
    found["saved"] = {name: saved_bytes(loss, models[name]) for name, loss in losses.items()}
    found["training"] = {}
    for name, loss in losses.items():
        found["training"][name] = seconds(trainer(models[name], loss), device, repeats)
        models[name].zero_grad(set_to_none=True)  # one model's gradients and moments at a time
    return found


def table(found: list[dict[str, Any]], about: str) -> str:
    lines = [
        "# MMML", "", "Generated by `python -m tests.benchmarks.bench_mmml`; " + about, "",
        *(line.strip() for line in (__doc__ or "").split("\n\n")[2:]), "",
    ]  # fmt: skip
    for one in found:
        lines += [
            f"## {one['depth']} encoder layers, {one['cross_modality_layers']} cross-modality, "
            f"batch {one['batch']} with context", "",
            f"Largest difference of the outputs before timing: {one['difference']:.1e}.", "",
            "| | straight | ours | ratio | features cached | ratio |", "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for name, key, unit in (
            ("training step, s", "training", 1), ("evaluation of 16 clips, s", "evaluation", 1),
            ("kept for backward, MiB", "saved", 2**20),
        ):  # fmt: skip
            values = one[key]
            base, ours = values["straight"] / unit, values["ours"] / unit
            third = values.get("ours, features cached")
            more = f"{third / unit:.2f} | {base / (third / unit):.1f}" if third else " | "
            lines.append(f"| {name} | {base:.2f} | {ours:.2f} | {base / ours:.1f} | {more} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--depths", type=int, nargs="+", default=[4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4, help="8 takes about 20 GiB in the straight way")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    found = []
    for depth in chosen.depths:
        found.append(measure(depth, max(depth // 5, 1), chosen.batch, device, chosen.repeats))
        print(json.dumps(found[-1], indent=1), flush=True)
    about = (
        f"{date.today()}, torch {torch.__version__}, {chosen.device}, {chosen.threads} threads of {os.cpu_count()} "
        f"cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}: ratios are what counts."
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "mmml.json").write_text(json.dumps({"about": about, "results": found}, indent=1) + "\n")
    (RESULTS / "mmml.md").write_text(table(found, about))
    print(table(found, about))


if __name__ == "__main__":
    main()
