"""Which network of MMML a file's weights belong to, read off their names and shapes (docs/systems/mmml.md#weights)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from demeanor.checkpoints.state import State, encoder_sizes, heads
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import DemeanorError, InputError
from demeanor.data.provenance import Provenance
from demeanor.features import find_extractor

TOKENIZERS = {"en": ("roberta-large", 96), "zh": ("hfl/chinese-roberta-wwm-ext", 64)}
STRIDES = (5, 2, 2, 2, 2, 2, 2)
VARIANTS = ("v1", "v2")


def describe(
    state: State, chinese: bool, variant: str, corpus: str, tokenizer: str
) -> tuple[str, dict[str, Any], dict[str, InputSpecification], list[str]]:
    """(system, its settings, its inputs, notes) that these weights belong to. InputError if they belong to no network
    of MMML."""
    if state.has("roberta_model."):
        return both_modalities(state, chinese, variant, tokenizer)
    if state.has("conv1.0."):
        return spectrogram(corpus, state.path)
    if state.has("transformer_encoder."):
        return descriptors(state)
    if state.has("data2vec_model.") or chinese:
        settings = {
            "audio_configuration": speech_configuration(state, chinese),
            "freeze_feature_encoder": True,
            "whole_mean": not chinese,
            "reference": True,
        }
        return "mmml_audio_waveform", settings, {"audio": waveform()}, []
    begins = ", ".join(sorted(state.weights)[:3]) or "nothing"
    raise InputError(
        str(state.path),
        [f"holds no network of MMML (no roberta_model, data2vec_model or hubert_model; it begins with {begins})"],
        "Give a .pth file that MMML's run.py or run_audio.py wrote.",
    )


def both_modalities(
    state: State, chinese: bool, variant: str, tokenizer: str
) -> tuple[str, dict[str, Any], dict[str, InputSpecification], list[str]]:
    """(system, its settings, its inputs, notes) of weights that read words and sound. InputError for weights without
    the joint head, or a variant that the file rules out."""
    text, audio = text_configuration(state, chinese), speech_configuration(state, chinese)
    context = state.shape("T_output_layers.1.weight")[1] == 2 * text["hidden_size"]
    numbers = sorted(int(name.split(".")[1]) for name in state.weights if re.match(r"fused_.+\.weight", name))
    fused = [state.shape(f"fused_output_layers.{number}.weight") for number in numbers]
    if not fused:
        raise InputError(str(state.path), ["'fused_output_layers' is missing"], "Give a whole checkpoint of MMML.")
    model, max_length = TOKENIZERS["zh" if chinese else "en"]
    settings: dict[str, Any] = {
        "text_configuration": text,
        "audio_configuration": audio,
        "freeze_feature_encoder": True,
        "fused": [shape[0] for shape in fused[:-1]],
        "text_length": max_length,
        "reference": True,
        "fusion": "cme" if state.has("CME_layers.") else "cc",
    }
    notes = ["Letters: MOSI's transcripts, all capitals, were read with the first letter kept and the rest small."]
    notes = [] if chinese else notes
    if settings["fusion"] == "cme":
        width, inner = state.shape("CME_layers.0.lang_output.dense.weight")
        settings |= {"width": width, "inner": inner, "layers": state.count(r"CME_layers\.(\d+)\.")}
        if not context and fused[0][1] == 4 * width:
            mixer = state.shape("text_encoder.layers.0.linear1.weight")
            settings |= {"version": "v3", "mixer_inner": mixer[0]}
            settings["mixer_layers"] = state.count(r"text_encoder\.layers\.(\d+)\.")
        elif not context:
            settings["version"] = variant or "v1"
            if not variant:
                notes.append("Taken as v1, the program's default; v2 has the same weights (--variant v2).")
    if variant and settings.get("version") not in VARIANTS:
        raise InputError(str(state.path), [f"variant '{variant}': only cme v1 and v2 without context can be mistaken"])
    if context:
        settings |= {"context": "dialogue", "text_context": 2, "audio_context": 1}
        notes.append("Two utterances of words and one of sound before, the program's default, are taken as context.")
    inputs = {"text": tokens(tokenizer or model, max_length), "audio": waveform()}
    return "mmml", settings, inputs, notes


def text_configuration(state: State, chinese: bool) -> dict[str, Any]:
    """RoBERTa's for English, BERT's for Chinese, with the sizes of the weights (docs/systems/mmml.md#text-encoder)."""
    prefix = "roberta_model."
    special = {"layer_norm_eps": 1e-12, "pad_token_id": 0} if chinese else {"layer_norm_eps": 1e-5, "pad_token_id": 1}
    return {"model_type": "bert" if chinese else "roberta", **encoder_sizes(state, prefix), **special}


def speech_configuration(state: State, chinese: bool) -> dict[str, Any]:
    """data2vec's for English, HuBERT's for Chinese (docs/systems/mmml.md#speech-encoder). InputError for another number
    of convolutions than was published."""
    prefix = "hubert_model." if chinese else "data2vec_model."
    encoder_prefix = f"{prefix}feature_extractor.conv_layers."
    count = state.count(re.escape(encoder_prefix) + r"(\d+)\.")
    if count != len(STRIDES):
        raise InputError(
            str(state.path), [f"{count} convolutions in front of the speech encoder, {len(STRIDES)} were published"]
        )
    kernels = [state.shape(f"{encoder_prefix}{layer}.conv.weight") for layer in range(count)]
    width = state.shape(f"{prefix}feature_projection.projection.weight")[0]
    place = f"{prefix}encoder.pos_conv_embed."
    if chinese:
        name = "parametrizations.weight.original1" if state.has(f"{place}conv.parametrizations") else "weight_v"
        _, per_group, kernel = state.shape(f"{place}conv.{name}")
        position = {"num_conv_pos_embeddings": kernel, "feat_extract_norm": "group", "do_stable_layer_norm": False}
    else:
        _, per_group, kernel = state.shape(f"{place}layers.0.conv.weight")
        position = {
            "conv_pos_kernel_size": kernel,
            "num_conv_pos_embeddings": state.count(re.escape(place) + r"layers\.(\d+)\."),
        }
    return {
        "model_type": "hubert" if chinese else "data2vec-audio",
        "hidden_size": width,
        "num_hidden_layers": state.count(re.escape(prefix) + r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": heads(width, state.path),
        "intermediate_size": state.shape(f"{prefix}encoder.layers.0.feed_forward.intermediate_dense.weight")[0],
        "conv_dim": [shape[0] for shape in kernels],
        "conv_kernel": [shape[2] for shape in kernels],
        "conv_stride": list(STRIDES),
        "conv_bias": f"{encoder_prefix}0.conv.bias" in state.weights,
        "num_feat_extract_layers": count,
        "num_conv_pos_embedding_groups": width // per_group,
        "feat_proj_dropout": 0.0,
        **position,
    }


def spectrogram(corpus: str, path: Path) -> tuple[str, dict[str, Any], dict[str, InputSpecification], list[str]]:
    """The picture network, whose standardisation constants belong to a corpus.

    InputError where the corpus is not told.
    """
    if corpus not in ("mosi", "sims"):
        raise InputError(
            str(path), ["it does not say on which corpus the pictures were standardised"], "Give --corpus mosi or sims."
        )
    maker = find_extractor("mel_spectrogram", {"standardise": corpus, "padding": "random"})
    made = InputSpecification(stream="audio.spectrogram", dimension=maker.dimension, provenance=maker.provenance())
    return "mmml_audio_spectrogram", {"channels": 2, "reference": True}, {"audio": made}, []


def descriptors(state: State) -> tuple[str, dict[str, Any], dict[str, InputSpecification], list[str]]:
    """The openSMILE network; the statistics of its inputs were kept in another file."""
    inner, width = state.shape("transformer_encoder.layers.0.linear1.weight")
    maker = Provenance(
        extractor="opensmile_lld",
        version="opensmile",
        parameters={"features": "ComParE_2016", "deltas": True},
        rate=100.0,
        unit="frame",
        licence="openSMILE: research only",
        recomputable=False,
        notes="standardised with statistics of the train split that the checkpoint does not hold",
    )
    settings = {
        "heads": 2,
        "inner": inner,
        "layers": state.count(r"transformer_encoder\.layers\.(\d+)\."),
        "reference": True,
    }
    made = InputSpecification(stream="audio.frames", dimension=width, provenance=maker)
    return "mmml_audio_descriptors", settings, {"audio": made}, ["It cannot score a recording: see its input."]


def waveform() -> InputSpecification:
    """The input of a speech encoder: raw samples, six seconds of them at the most."""
    maker = find_extractor("waveform")
    return InputSpecification(
        stream="audio.waveform", dimension=1, integer=True, max_length=96_000, provenance=maker.provenance()
    )


def tokens(model: str, max_length: int) -> InputSpecification:
    """Ids of the tokenizer, or, where it cannot be had, a stream that cannot be made here and says why."""
    try:
        maker = find_extractor("hf_tokens", {"model": model, "max_length": max_length}).provenance()
    except (DemeanorError, OSError) as error:
        maker = Provenance(
            extractor="hf_tokens",
            version="1",
            parameters={"model": model, "max_length": max_length},
            unit="token",
            recomputable=False,
            notes=f"the tokenizer '{model}' was not to be had at import ({' '.join(str(error).split())[:120]}); "
            "import again with --tokenizer FOLDER",
        )
    return InputSpecification(stream="text.tokens", dimension=1, integer=True, max_length=max_length, provenance=maker)
