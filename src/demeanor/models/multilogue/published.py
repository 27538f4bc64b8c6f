"""Weights, class weights and losses of the published Multilogue-Net code.

docs/systems/multilogue_net.md#losses, #weights: 82 tensors named
`multilogue_net_<f|r>_<t|a|v>.multilogue_cell.<cell>.<tensor>` and two linear maps. Both published models have all
of them, although the regression never runs its backward cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from demeanor.data.errors import InputError
from demeanor.models.multilogue.network import MODALITIES, MultilogueNetwork

LETTERS = {"text": "t", "audio": "a", "vision": "v"}

CLASS_WEIGHTS: dict[str, tuple[float, float]] = {
    "sentiment": (1 / 0.3097, 1 / 0.6903),
    "anger": (1 / 0.2128, 1 / 0.7872),
    "happiness": (1 / 0.5381, 1 / 0.4619),
    "sadness": (1 / 0.2546, 1 / 0.7454),
    "disgust": (1 / 0.1699, 1 / 0.8301),
    "fear": (1 / 0.0816, 1 / 0.9184),
    "surprise": (1 / 0.0986, 1 / 0.9014),
}
"""Published weights of class 0 and 1. Those of the emotions up-weight the more frequent class if 1 means present."""

Parts = dict[str, tuple[Tensor, ...]]


def reference_parts(
    network: MultilogueNetwork, tensor_of: Callable[[Tensor], Tensor] = lambda parameter: parameter.data
) -> Parts:
    """Published name -> views of the network's tensors, side by side along the last axis.

    tensor_of takes a parameter to what is wanted of it: its value, or its gradient. The published code keeps the
    input columns of a cell in one matrix: [context input | speaker state] and [utterance | attention summary].
    """
    cores, count = network.cores, len(network.modalities)
    parts: Parts = {}
    for direction, letter in enumerate("fr"[: cores.directions]):
        for modality, name in enumerate(network.modalities):
            core = direction * count + modality

            def at(parameter: nn.Parameter, core: int = core) -> Tensor:
                return tensor_of(parameter)[core]

            prefix = f"multilogue_net_{letter}_{LETTERS[name]}.multilogue_cell."
            own = {
                "g_cell.weight_ih": (tensor_of(cores.context_from_input[core]), at(cores.context_from_speaker)),
                "g_cell.weight_hh": (at(cores.context_from_context),),
                "g_cell.bias_ih": (at(cores.context_input_bias),),
                "g_cell.bias_hh": (at(cores.context_bias),),
                "p_cell.weight_ih": (tensor_of(cores.party_from_input[core]), at(cores.party_from_summary)),
                "p_cell.weight_hh": (at(cores.party_from_party),),
                "p_cell.bias_ih": (at(cores.party_input_bias),),
                "p_cell.bias_hh": (at(cores.party_bias),),
                "e_cell.weight_ih": (at(cores.emotion_from_party),),
                "e_cell.weight_hh": (at(cores.emotion_from_emotion),),
                "e_cell.bias_ih": (at(cores.emotion_input_bias),),
                "e_cell.bias_hh": (at(cores.emotion_bias),),
                "attention.scalar.weight": (at(cores.score)[None],),
            }
            parts.update({prefix + key: value for key, value in own.items()})
    for key, linear in (("linear", network.shared), ("smax_fc", network.head)):
        parts[f"{key}.weight"] = (tensor_of(linear.weight),)
        parts[f"{key}.bias"] = (tensor_of(linear.bias),)
    return parts


def reference_tensors(
    network: MultilogueNetwork, tensor_of: Callable[[Tensor], Tensor] = lambda parameter: parameter.data
) -> dict[str, Tensor]:
    """The network's weights (or gradients) under their published names, copied.

    Each is [outputs, inputs], or [outputs] for a bias.
    """
    return {name: torch.cat(views, dim=-1).clone() for name, views in reference_parts(network, tensor_of).items()}


def load_reference(network: MultilogueNetwork, state: Mapping[str, Tensor]) -> None:
    """Load a published state_dict. Backward cores are ignored by a network that only reads forwards.

    `state` [outputs, inputs] by published name; InputError lists what does not fit.
    """
    parts = reference_parts(network)
    unused = (
        () if network.cores.directions == 2 else tuple(f"multilogue_net_r_{letter}." for letter in LETTERS.values())
    )
    problems = [f"'{name}' is not given" for name in parts if name not in state]
    problems += [
        f"'{name}' has no place" for name in state if name not in parts and not name.startswith(unused or "\0")
    ]
    for name in parts.keys() & state.keys():
        rows = parts[name][0].shape[:-1]
        expected = (*rows, sum(view.shape[-1] for view in parts[name]))
        if tuple(state[name].shape) != expected:
            problems.append(f"'{name}' is {tuple(state[name].shape)}, expected {expected}")
    if problems:
        raise InputError("published weights of Multilogue-Net", problems, "Build the system with the sizes they have.")
    for name, views in parts.items():
        values = state[name].split([view.shape[-1] for view in views], dim=-1)
        for view, value in zip(views, values, strict=True):
            view.copy_(value)


def reference_sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Sizes that a published state_dict was made with: the four of the settings, outputs, and <role>_features.

    `state` [outputs, inputs] by published name.
    """
    prefix = "multilogue_net_f_{}.multilogue_cell."
    text = prefix.format("t")
    sizes = {
        "context_size": state[text + "g_cell.weight_hh"].shape[1],
        "party_size": state[text + "p_cell.weight_hh"].shape[1],
        "emotion_size": state[text + "e_cell.weight_hh"].shape[1],
        "outputs": state["smax_fc.weight"].shape[0],
    }
    # The classifier's head reads 18 times the fused size, the regression's nine times.
    shared = state["linear.weight"].shape[0]
    sizes["fused_size"] = shared if state["linear.weight"].shape[1] == sizes["emotion_size"] else shared // 2
    for name in MODALITIES:
        columns = state[prefix.format(LETTERS[name]) + "p_cell.weight_ih"].shape[1]
        sizes[f"{name}_features"] = columns - sizes["context_size"]
    sizes["context_features"] = state[text + "g_cell.weight_ih"].shape[1] - sizes["party_size"]
    return sizes
