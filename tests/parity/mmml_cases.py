"""MMML systems of the size of a golden file, and its batches."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.provenance import Provenance
from demeanor.data.task import Task
from demeanor.models.mmml.checkpoint import load_published
from demeanor.models.mmml.frames import EncoderOutput
from demeanor.models.mmml.system import MMML
from tests.parity.golden import golden_file

Arrays = Mapping[str, np.ndarray]
MSA = Task(name="sentiment", kind="regression", column="label")


def configurations() -> dict[str, Any]:
    return json.loads(golden_file("mmml", "tiny_configs.json").read_text())


def weights_of(path: Path, prefix: str = "w/") -> dict[str, Tensor]:
    """Published weights of a case; an edge case shares those of the case it is named after."""
    arrays = np.load(path)
    if not any(name.startswith(prefix) for name in arrays.files):
        arrays = np.load(path.with_name(path.name.replace("_edge", "")))
    return {name[len(prefix) :]: torch.from_numpy(arrays[name]) for name in arrays.files if name.startswith(prefix)}


def layers_in(state: Mapping[str, Tensor], pattern: str) -> int:
    found = {int(match.group(1)) for name in state if (match := re.match(pattern, name))}
    return len(found)


def encoder_configuration(state: Mapping[str, Tensor], prefix: str, kind: str) -> dict[str, Any]:
    """The tiny configuration of this kind and width, with the sizes that the weights have."""
    listed = configurations()["encoders_keyed_by_the_hub_name_they_stand_in_for"].values()
    if kind in ("roberta", "bert"):
        vocabulary, width = state[f"{prefix}.embeddings.word_embeddings.weight"].shape
        sizes = {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "max_position_embeddings": state[f"{prefix}.embeddings.position_embeddings.weight"].shape[0],
            "num_hidden_layers": layers_in(state, rf"{prefix}\.encoder\.layer\.(\d+)\."),
            "intermediate_size": state[f"{prefix}.encoder.layer.0.intermediate.dense.weight"].shape[0],
        }
    else:
        width = state[f"{prefix}.masked_spec_embed"].shape[0]
        convolutions = layers_in(state, rf"{prefix}\.feature_extractor\.conv_layers\.(\d+)\.")
        weights = [state[f"{prefix}.feature_extractor.conv_layers.{n}.conv.weight"] for n in range(convolutions)]
        sizes = {
            "hidden_size": width,
            "num_hidden_layers": layers_in(state, rf"{prefix}\.encoder\.layers\.(\d+)\."),
            "intermediate_size": state[f"{prefix}.encoder.layers.0.feed_forward.intermediate_dense.weight"].shape[0],
            "conv_dim": [weight.shape[0] for weight in weights],
            "conv_kernel": [weight.shape[2] for weight in weights],
        }
    same = [value for value in listed if value["model_type"] == kind]
    closest = next((value for value in same if value["hidden_size"] == width), same[0])
    return {**{name: value for name, value in closest.items() if name != "hf_class"}, **sizes}


def specification(stream: str, integer: bool) -> InputSpecification:
    maker = Provenance(extractor="golden", version="1", rate=16000.0 if "waveform" in stream else None)
    return InputSpecification(stream=stream, dimension=1, integer=integer, provenance=maker)


def roles(context: bool) -> dict[str, InputSpecification]:
    wanted = {"text": specification("text.tokens", True), "audio": specification("audio.waveform", False)}
    if context:
        wanted["text_context"] = specification("text.context", True)
        wanted["audio_context"] = specification("audio.context_waveform", False)
    return wanted


def system_settings(state: Mapping[str, Tensor], samples: int, version: str | None) -> dict[str, Any]:
    """Settings under which the system has the sizes of these weights. `samples`: length that rows are padded to."""
    constants = configurations()["scaled_constants"]
    chinese = any(name.startswith("hubert_model.") for name in state)
    audio = ("hubert_model", "hubert") if chinese else ("data2vec_model", "data2vec-audio")
    numbers = [int(name.split(".")[1]) for name in state if re.fullmatch(r"fused_output_layers\.\d+\.weight", name)]
    fused = [state[f"fused_output_layers.{number}.weight"].shape[0] for number in sorted(numbers)]
    chosen: dict[str, Any] = {
        "text_configuration": encoder_configuration(state, "roberta_model", "bert" if chinese else "roberta"),
        "audio_configuration": encoder_configuration(state, *audio),
        "freeze_feature_encoder": True,
        "fused": fused[:-1],
        "seconds": samples / 16000,
        "text_length": 32,
        "reference": True,
        "fusion": "cme" if any(name.startswith("CME_layers.") for name in state) else "cc",
    }
    if chosen["fusion"] == "cme":
        width, inner = state["CME_layers.0.lang_output.dense.weight"].shape
        large = width == constants["large width 1024"]
        chosen |= {
            "version": version,
            "layers": layers_in(state, r"CME_layers\.(\d+)\."),
            "heads": constants["CME heads large 16" if large else "CME heads base 12"],
            "inner": inner,
        }
    if version == "v3":
        chosen |= {
            "mixer_layers": layers_in(state, r"text_encoder\.layers\.(\d+)\."),
            "mixer_heads": constants["v3 TransformerEncoderLayer nhead 12"],
            "mixer_inner": state["text_encoder.layers.0.linear1.weight"].shape[0],
        }
    return chosen


def build(path: Path, samples: int, context: bool, prefix: str = "w/", **more: Any) -> MMML:
    """The system of a golden file with its weights, in evaluation mode."""
    state = weights_of(path, prefix)
    version = re.search(r"_(v[123])(?:_|$)", path.stem)
    settings = system_settings(state, samples, None if context or version is None else version.group(1))
    system = MMML(MMML.Settings(**{**settings, **more}), roles(context), MSA)
    load_published(system, state, str(path))
    return system.eval()


def padded(values: np.ndarray, mask: np.ndarray) -> Padded:
    return Padded(torch.from_numpy(values)[..., None], torch.from_numpy(mask) > 0)


def batch_of(arrays: Arrays, context: bool, target: str = "target/M") -> Batch:
    """Raw 16-bit waveforms and tokens of a model case, as training would hand them over."""
    inputs = {
        "text": padded(arrays["in/text_inputs"], arrays["in/text_mask"]),
        "audio": padded(arrays["in/audio_pcm16"], arrays["in/audio_mask"]),
    }
    if context:
        inputs["text_context"] = padded(arrays["in/text_context_inputs"], arrays["in/text_context_mask"])
        inputs["audio_context"] = padded(arrays["in/audio_context_pcm16"], arrays["in/audio_context_mask"])
    labels = {"target": torch.from_numpy(arrays[target])}
    for name, letter in (("text", "T"), ("audio", "A")):
        labels[name] = torch.from_numpy(arrays[f"target/{letter}"])
    count = len(arrays["in/text_inputs"])
    rows = torch.arange(count)
    ids = tuple(str(n) for n in range(count))
    return Batch(inputs, ids, rows, rows, torch.zeros_like(rows), torch.full_like(rows, -1), labels)


def forward(
    system: MMML, text: list[np.ndarray], audio: list[np.ndarray]
) -> tuple[dict[str, Tensor], list[dict[str, EncoderOutput]], Tensor]:
    """Heads from inputs that are tokenised and normalised already; one call of each encoder per pass, as golden.

    text and audio: ids, mask [, context ids, mask]; waveforms, masks.
    """
    passes = []
    for n in range(0, len(text), 2):
        ids, mask, waveform, heard = (torch.from_numpy(value) for value in (*text[n : n + 2], *audio[n : n + 2]))
        words = system.words(ids, mask > 0)
        sounds = system.speech(waveform, (heard > 0).sum(dim=1), system.padded)
        passes.append({"text": words, "audio": sounds})
    heads, joined = system.fusion(passes[0], passes[1] if len(passes) == 2 else None)
    return heads, passes, joined
