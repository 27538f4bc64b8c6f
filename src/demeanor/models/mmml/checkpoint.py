"""Published MMML checkpoints: their names for weights and ours (docs/systems/mmml.md#weights)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from demeanor.data.errors import InputError

STREAMS = {"lang": "text", "audio": "audio", "text": "text"}
#: Published name (a pattern) -> ours. Applied in order, the first that fits wins.
RULES: tuple[tuple[str, str], ...] = (
    (r"roberta_model\.(.+)", r"words.network.\1"),
    (r"(?:data2vec|hubert)_model\.(.+)\.weight_g", r"speech.network.\1.parametrizations.weight.original0"),
    (r"(?:data2vec|hubert)_model\.(.+)\.weight_v", r"speech.network.\1.parametrizations.weight.original1"),
    (r"(?:data2vec|hubert)_model\.(.+)", r"speech.network.\1"),
    (r"T_output_layers\.(.+)", r"fusion.heads.text.\1"),
    (r"A_output_layers\.(.+)", r"fusion.heads.audio.\1"),
    (r"fused_output_layers\.(.+)", r"fusion.joint.\1"),
    (r"(text|audio)_cls_emb\.weight", r"fusion.stack.cls.\1"),
    (r"(text|audio)_mixed_cls_emb\.weight", r"fusion.mixers.\1.cls"),
    (r"(text|audio)_mixed_layer\.(.+)", r"fusion.mixed.\1.\2"),
    (r"(text|audio)_encoder\.(.+)", r"fusion.mixers.\1.encoder.\2"),
    (r"CME_layers\.(\d+)\.(lang|audio)_attention\.att\.(.+)", r"fusion.stack.layers.\1.cross.<\2>.\3"),
    (r"CME_layers\.(\d+)\.(lang|audio)_attention\.output\.(.+)", r"fusion.stack.layers.\1.cross.<\2>.[\3]"),
    (r"CME_layers\.(\d+)\.(lang|audio)_self_att\.self\.(.+)", r"fusion.stack.layers.\1.own.<\2>.\3"),
    (r"CME_layers\.(\d+)\.(lang|audio)_self_att\.output\.(.+)", r"fusion.stack.layers.\1.own.<\2>.[\3]"),
    (r"CME_layers\.(\d+)\.(lang|audio)_inter\.dense\.(.+)", r"fusion.stack.layers.\1.feed_forward.<\2>.inner.\3"),
    (r"CME_layers\.(\d+)\.(lang|audio)_output\.(.+)", r"fusion.stack.layers.\1.feed_forward.<\2>.[\3]"),
    (r"cls_emb\.weight", r"network.cls"),
    (r"transformer_encoder\.(.+)", r"network.encoder.\1"),
    (r"conv(\d)\.0\.(.+)", r"network.convolutions.{\1}.\2"),
    (r"conv(\d)\.2\.(.+)", r"network.norms.{\1}.\2"),
    (r"bn(\d)\.(.+)", r"network.norms.{\1}.\2"),
    (r"classifier\.1\.(.+)", r"network.classifier.\1"),
    (r"classifier\.(.+)", r"classifier.\1"),
)
#: Published checkpoints hold these whether they are used or not (docs/systems/mmml.md#q7, #q14); they are left where we
#: have no place.
OPTIONAL = re.compile(
    r"(text|audio)_(mixed_cls_emb|mixed_layer|encoder)\..+|.+\.masked_spec_embed|roberta_model\.pooler\..+"
    r"|.+\.position_ids"
)


def our_name(published: str) -> str | None:
    """Our name for a published one, None if it is no name of MMML."""
    for pattern, replacement in RULES:
        if re.fullmatch(pattern, published):
            name = re.sub(f"^{pattern}$", replacement, published)
            name = re.sub(r"<(\w+)>", lambda match: STREAMS[match.group(1)], name)
            name = re.sub(r"\{(\d)\}", lambda match: str(int(match.group(1)) - 1), name)
            return name.replace("[dense.", "output.").replace("[LayerNorm.", "norm.").replace("]", "")
    return None


def load_published(module: nn.Module, state: Mapping[str, Tensor], where: str = "published checkpoint") -> list[str]:
    """Load published weights into a system of the same shape; returns the published names that were left out.

    InputError names every weight without a place, of another shape, or missing. `weight_g` and `weight_v` of older
    torch versions are read too.

    `state` has the shapes [...] of our own state dict.
    """
    own = module.state_dict()
    loaded: dict[str, Tensor] = {}
    left, problems = [], []
    for published, value in state.items():
        name = our_name(published)
        if name == f"classifier.{published.rsplit('.', 1)[-1]}" and name not in own:
            name = f"network.{name}"
        if name in own and own[name].shape == value.shape:
            loaded[name] = value
        elif OPTIONAL.fullmatch(published) and name not in own:
            left.append(published)
        elif name in own:
            problems.append(f"'{published}' is {tuple(value.shape)}, here {tuple(own[name].shape)}")
        else:
            problems.append(f"'{published}' has no place")
    absent = sorted(name for name in own.keys() - loaded.keys() if not name.endswith("absence.vector"))
    problems += [f"nothing is given for '{name}'" for name in absent]
    if problems:
        raise InputError(where, problems, "Choose encoders, fusion, version, layers and context as it was trained.")
    module.load_state_dict({**own, **loaded})
    return left


def read_published(path: Path | str) -> dict[str, Tensor]:
    """The weights of a .pth (read without running any code in it) or .safetensors file.

    Tensors of any shape [...]; InputError for what is no readable checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), ["there is no such file"], "Give the .pth file that the original wrote.")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are not its own
        raise InputError(str(path), [f"not a readable checkpoint ({str(error).splitlines()[0][:160]})"]) from error
    named = state.get("state_dict", state) if isinstance(state, Mapping) else None
    if not isinstance(named, Mapping) or not all(isinstance(value, Tensor) for value in named.values()):
        raise InputError(
            str(path), ["holds something else than a state_dict"], "Give the file that the original wrote."
        )
    return dict(named)
