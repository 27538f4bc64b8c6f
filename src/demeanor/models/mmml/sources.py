"""Where encoders come from: a local folder or hub name through Hugging Face, a configuration, or a small preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from demeanor.data.errors import InputError, MissingExtraError, nearest
from demeanor.models.blocks.quick_encoder import quicken
from demeanor.models.blocks.text_encoder import locate

SMALL_SPEECH = "small"
#: A data2vec-like speech encoder for corpora of some hundred clips, always RANDOMLY INITIALISED and trained whole:
#: 40 ms frames from four convolutions, two transformer layers. A yardstick and a demo, no substitute for pretraining.
PRESETS: dict[str, dict[str, Any]] = {
    SMALL_SPEECH: {
        "model_type": "data2vec-audio",
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "conv_dim": [32, 48, 64, 96],
        "conv_kernel": [20, 8, 8, 8],
        "conv_stride": [10, 4, 4, 4],
        "num_feat_extract_layers": 4,
        "num_conv_pos_embeddings": 2,
        "conv_pos_kernel_size": 19,
        "num_conv_pos_embedding_groups": 16,
        "attention_dropout": 0.0,
        "apply_spec_augment": False,
        "mask_time_prob": 0.0,
        "layerdrop": 0.0,
        "vocab_size": 32,
    },
}
SPEECH_TYPES = ("data2vec-audio", "hubert", "wav2vec2")
#: Query and value projections, the usual places of low-rank adapters (LoRA, arXiv:2106.09685, section 4.2).
LORA_TARGETS = ("query", "value", "q_proj", "v_proj")


def build_encoder(
    what: str, name: str, configuration: Mapping[str, Any], among: tuple[str, ...] = ()
) -> tuple[nn.Module, dict[str, Any], bool]:
    """(network, its complete configuration, whether its weights are pretrained).

    what            "text encoder" or "audio encoder", for messages
    name            "minilm", a preset, a local folder, or a name on the hub
    configuration   as kept in a bundle: the network is built without weights, which are about to be loaded
    among           model types whose forward pass is known; empty: any

    InputError for an encoder that is not named, not among those asked for, or not to be had.
    """
    import transformers
    from transformers import AutoConfig, AutoModel

    transformers.logging.disable_progress_bar()  # a bar for reading a file of a moment hides what is going on
    if configuration or name in PRESETS:
        values = dict(configuration or PRESETS[name])
        kind = values.pop("model_type", None)
        if kind is None:
            raise InputError(what, ["its configuration names no model_type"], "Add it, for example 'hubert'.")
        if among and kind not in among:
            raise InputError(what, [f"'{kind}' is not among {', '.join(among)}"])
        config = AutoConfig.for_model(kind, **values)
        network = AutoModel.from_config(config, attn_implementation="sdpa")
        quicken(network)
        return network, config.to_dict(), False
    if not name:
        raise InputError(what, ["none is named"], f"Name a folder, a name on the hub, or {', '.join(PRESETS)}.")
    try:
        kind = AutoConfig.from_pretrained(locate(name)).model_type
        if among and kind not in among:
            raise InputError(what, [f"'{name}' is a '{kind}', not among {', '.join(among)}"])
        network = AutoModel.from_pretrained(locate(name), attn_implementation="sdpa")
    except (OSError, ValueError) as error:
        raise InputError(
            what,
            [
                f"'{name}' is neither a preset, nor a local folder, nor to be had from the model hub "
                f"({str(error).splitlines()[0][:160]}).{nearest(name, PRESETS)}"
            ],
            "Give a folder with config.json and model.safetensors.",
        ) from error
    quicken(network)
    return network, network.config.to_dict(), True


def add_adapters(network: nn.Module, rank: int) -> nn.Module:
    """LoRA: low-rank updates beside the query and value projections; all other weights of the encoder are frozen.
    InputError if it has no such projections. MissingExtraError without the extra `lora`."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError("lora_rank", "lora") from error
    present = {name.rsplit(".", 1)[-1] for name, _ in network.named_modules()}
    targets = [name for name in LORA_TARGETS if name in present]
    if not targets:
        raise InputError("lora_rank", [f"the encoder has none of {', '.join(LORA_TARGETS)}"], "Set lora_rank to 0.")
    network.requires_grad_(False)
    return inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), network)


def freeze_lower(below: list[nn.Module], layers: list[nn.Module], tuned: int | None) -> list[nn.Module]:
    """Freeze everything below the last `tuned` layers (None: nothing); returns the frozen modules."""
    if tuned is None:
        return []
    frozen = below + layers[: max(len(layers) - tuned, 0)]
    for module in frozen:
        module.requires_grad_(False)
    return frozen
