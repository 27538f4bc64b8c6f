"""A Hugging Face text encoder run over the real tokens only."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.errors import InputError
from demeanor.models.mmml.frames import EncoderOutput, group_overhead, length_groups
from demeanor.models.mmml.sources import add_adapters, freeze_lower

Pooling = Literal["pooler", "first", "mean", "turn"]
GROUP_TOKENS = 12
LARGEST_GROUP = 64


class WordEncoder(nn.Module):
    """Token ids to states and one pooled vector (docs/systems/mmml.md#text-encoder).

    network   RobertaModel, BertModel or another encoder with `embeddings` and `encoder.layer`
    pooling   "pooler": tanh(W h_0 + b), as published, although RoBERTa's is not pretrained (docs/systems/mmml.md#q14);
              "first": h_0; "mean"; "turn": the mean up to the first separator, where a row holds several turns and
              its own stands first (`hf_turn_tokens`)
    tuned     trained transformer layers, counted from the last; None: all, embeddings too
    """

    def __init__(self, network: nn.Module, pooling: Pooling = "mean", tuned: int | None = None, lora_rank: int = 0):
        super().__init__()
        config: Any = network.config
        self.pooling = pooling
        if pooling != "pooler":
            network.pooler = None  # type: ignore[assignment]
        elif getattr(network, "pooler", None) is None:
            raise InputError("pooling", [f"'{config.model_type}' has no pooler"], "Set pooling to 'mean' or 'first'.")
        self.dimension = int(config.hidden_size)
        self.padding = int(config.pad_token_id or 0)
        self.max_length = positions_of(config)
        layers = transformer_layers(network) if tuned is not None else []
        self._frozen = freeze_lower([network.embeddings], layers, tuned)  # type: ignore[list-item]
        if lora_rank:
            pooler = network.pooler
            network = add_adapters(network, lora_rank)
            if isinstance(pooler, nn.Module):
                pooler.requires_grad_(True)
        if tuned == 0:
            network.requires_grad_(False)
            self._frozen = [network]
        self.network = network

    def train(self, mode: bool = True) -> WordEncoder:
        """As torch's; frozen parts stay in evaluation: no dropout in what does not learn."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]) -> EncoderOutput:
        """Rows without a token are not run; their pooled vector is zero. InputError for more tokens than the encoder
        has positions."""
        counts = mask.sum(dim=1).tolist()
        rows = [row for row, count in enumerate(counts) if count > 0]
        longest = max([counts[row] for row in rows], default=1)
        if longest > self.max_length:
            raise InputError(
                "text", [f"{longest} tokens in a row; the encoder has {self.max_length} positions"], "Set text_length."
            )
        ids = ids.long().masked_fill(~mask, self.padding)
        hidden = torch.zeros((len(counts), longest, self.dimension), device=ids.device)
        pooled = torch.zeros((len(counts), self.dimension), device=ids.device)
        largest = len(rows) if torch.is_grad_enabled() else LARGEST_GROUP
        overhead = group_overhead(ids.device, GROUP_TOKENS)
        states, vectors, order = [], [], []
        for group in length_groups([counts[row] for row in rows], overhead, max(largest, 1)):
            chosen = [rows[n] for n in group]
            index = torch.tensor(chosen, device=ids.device)
            width = max(counts[row] for row in chosen)
            part, vector = self._encode(ids[index, :width], mask[index, :width])
            states.append(functional.pad(part, (0, 0, 0, longest - width)))
            vectors.append(vector)
            order.append(index)
        if order:
            index, joined, joined_vectors = torch.cat(order), torch.cat(states), torch.cat(vectors)
            hidden = hidden.to(joined.dtype).index_copy(0, index, joined)
            pooled = pooled.to(joined_vectors.dtype).index_copy(0, index, joined_vectors)
        return EncoderOutput(hidden, mask[:, :longest] if mask.shape[1] else mask.new_zeros((len(counts), 1)), pooled)

    def _encode(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
    ) -> tuple[Float[Tensor, "batch tokens dimension"], Float[Tensor, "batch dimension"]]:
        result = self.network(input_ids=ids, attention_mask=mask.long())
        states = result.last_hidden_state
        if self.pooling == "pooler":
            return states, result.pooler_output
        if self.pooling == "first":
            return states, states[:, 0]
        counted = mask if self.pooling == "mean" else first_turn(ids, mask)
        weight = counted[..., None].to(states.dtype)
        return states, (states * weight).sum(dim=1) / weight.sum(dim=1)


def first_turn(ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]) -> Bool[Tensor, "batch tokens"]:
    """True up to the first separator of each row, which is the token that closes it, with that separator."""
    closing = ids.gather(1, (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0))
    separators = ((ids == closing) & mask).long()
    return mask & (separators.cumsum(dim=1) - separators == 0)


def transformer_layers(network: nn.Module) -> list[nn.Module]:
    """The layers of an encoder from the first; InputError if its kind keeps them elsewhere."""
    encoder = getattr(network, "encoder", None)
    layers = getattr(encoder, "layer", None)
    if not isinstance(layers, nn.ModuleList):
        raise InputError(
            "tune_text",
            [f"the layers of '{network.config.model_type}' cannot be told apart"],  # type: ignore[union-attr]
            "Leave tune_text unset.",
        )
    return list(layers)


def positions_of(config: Any) -> int:
    """Tokens that an encoder has positions for; RoBERTa's family counts them from its padding id + 1."""
    positions = int(getattr(config, "max_position_embeddings", 0) or 0)
    offset = int(config.pad_token_id) + 1 if "roberta" in config.model_type else 0
    return positions - offset if positions else 1 << 30
