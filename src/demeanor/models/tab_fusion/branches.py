"""The text and the speech branch: one vector per utterance, from token ids through an encoder or from features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.features.speech_codes import UNKNOWN
from demeanor.models.base import masked_mean
from demeanor.models.blocks.layers import AttentionPooling, zero_padding
from demeanor.models.mmml.inputs import cut_tokens
from demeanor.models.mmml.sources import build_encoder
from demeanor.models.mmml.words import Pooling, WordEncoder
from demeanor.models.tab_fusion.memory import VectorMemory, content_of, memory_of, provenance_of

logger = logging.getLogger(__name__)

#: Share of <unk> among speech tokens above which the dictionary is not that of the codes.
MOSTLY_UNKNOWN = 0.5
SPEECH_IDS = "vq_wav2vec_ids"
#: Held while a branch counts the utterances that it has cut.
_COUNTING = Lock()


class FeatureBranch(nn.Module):
    """A stream of features to one vector: a sentence vector as it is, word or speech states (HuBERT, WavLM) pooled.

    pooling   "attention": a learned weighting of the steps, from equal weights on; "mean"
    """

    def __init__(self, specification: InputSpecification, pooling: Literal["attention", "mean"]):
        super().__init__()
        self.dimension = specification.dimension
        self.attention = AttentionPooling(specification.dimension) if pooling == "attention" else None
        if self.attention is not None:
            nn.init.zeros_(self.attention.score.weight)

    def forward(self, padded: Padded) -> Float[Tensor, "batch dimension"]:
        """Zero for a row without a step."""
        padded = zero_padding(padded)
        if self.attention is not None:
            return self.attention(padded.values.float(), padded.mask)
        return masked_mean(padded.values.float(), padded.mask)

    def inspect(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Nothing to look after in features."""


class TokenBranch(nn.Module):
    """A Hugging Face encoder over ids: RoBERTa over text pieces, the speech-BERT over vq-wav2vec tokens.

    role         "text" or "audio"
    name         pretrained weights: minilm, folder, hub id
    tuned        trained layers from the last; 0 freezes the encoder, which then never drops anything out; None all
    max_length      ids that an utterance keeps, first and last among them; None: as many as there are positions
    cached       ask a frozen encoder once per utterance (see `memory`), in `folder` from run to run
    rescaled     bring each vector to mean 0 and deviation 1
    """

    def __init__(
        self,
        role: str,
        specification: InputSpecification,
        name: str,
        configuration: dict[str, Any],
        pooling: Pooling,
        tuned: int | None,
        max_length: int | None,
        cached: bool,
        folder: str,
        rescaled: bool,
    ):
        super().__init__()
        if specification.dimension != 1:
            raise InputError(
                f"stream '{specification.stream}'",
                [f"{specification.dimension} numbers a step: pairs of codes, not ids of a dictionary"],
                "Make ids of them with extractor vq_wav2vec_ids.",
            )
        self.role, self.specification, self.folder, self.rescaled = role, specification, folder, rescaled
        network, self.configuration, self.fetched = build_encoder(f"{role} encoder", name, configuration)
        self.vocabulary = int(self.configuration["vocab_size"])
        check_vocabulary(specification, self.configuration, role)
        if int(self.configuration.get("type_vocab_size", 0)) == 1:
            # fairseq's RoBERTa has no token types: where all are of one type, its vector is no parameter of its own.
            network.embeddings.token_type_embeddings.requires_grad_(False)  # type: ignore[union-attr]
        self.encoder = WordEncoder(network, pooling, tuned)
        self.encoder.train()  # which leaves what is frozen in evaluation: no dropout from the very first call
        self.dimension = self.encoder.dimension
        self.max_length = min(max_length or self.encoder.max_length, self.encoder.max_length)
        self.frozen = tuned == 0
        self.cached = cached and self.frozen
        self.cut = 0
        self._memory: VectorMemory | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module.changed())

    def changed(self) -> None:
        """Other weights: what is kept belongs to the former ones."""
        self._memory = None
        self.fetched = True

    def train(self, mode: bool = True) -> TokenBranch:
        """As torch's; vectors of a frozen encoder that are not stored yet are stored now."""
        super().train(mode)
        if self._memory is not None:
            self._memory.flush()
        return self

    @property
    def memory(self) -> VectorMemory:
        """Vectors of a frozen encoder by the tokens they come from; kept between runs where a folder is named."""
        memory = self._memory
        if memory is None:
            key = provenance_of(
                self.encoder.network, self.encoder.pooling, self.max_length, self.specification.provenance.fingerprint
            )
            memory = self._memory = memory_of(key, self.dimension, self.folder)
        return memory

    def forward(self, padded: Padded) -> Float[Tensor, "batch dimension"]:
        """Zero for a row without a token. InputError for an id that the encoder has no embedding for."""
        padded = zero_padding(padded)
        ids, mask = padded.tokens, padded.mask
        self._count(mask)
        ids, mask = cut_tokens(ids, mask, self.max_length)
        vectors = self._remembered(ids, mask) if self.cached else self._encoded(ids, mask)
        return nn.functional.layer_norm(vectors, vectors.shape[-1:]) if self.rescaled else vectors

    def _encoded(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch dimension"]:
        largest = int(ids.masked_fill(~mask, 0).max()) if ids.numel() else 0
        if largest >= self.vocabulary:
            raise InputError(
                f"stream '{self.specification.stream}'",
                [f"holds id {largest}; its encoder's vocabulary has {self.vocabulary}"],
                "Make the tokens with the dictionary or tokenizer of this encoder.",
            )
        return self.encoder(ids, mask).pooled

    def _remembered(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch dimension"]:
        lengths = mask.sum(dim=1).tolist()
        keys = content_of(ids.cpu().numpy(), lengths)
        cached = self.memory.get(keys)
        missing = {key: row for row, key in enumerate(keys) if lengths[row] and key not in cached}
        if missing:
            with torch.no_grad(), torch.autocast(ids.device.type, enabled=False):
                # Each alone: what is remembered must not depend on the batch in which it was first met.
                made = [self._encoded(ids[row : row + 1], mask[row : row + 1])[0] for row in missing.values()]
            fresh = {key: vector.float().cpu().numpy().copy() for key, vector in zip(missing, made, strict=True)}
            cached |= fresh
            self.memory.put(fresh)
        nothing = np.zeros(self.dimension, dtype=np.float32)
        return torch.from_numpy(np.stack([cached.get(key, nothing) for key in keys])).to(ids.device)

    def inspect(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Before training: how many utterances are cut, and whether the speech tokens know their dictionary. InputError
        if most are another codebook's."""
        lengths, unknown = [], 0
        for batch in batches():
            padded = zero_padding(batch[self.role])
            lengths += padded.mask.sum(dim=1).tolist()
            unknown += int(((padded.tokens == UNKNOWN) & padded.mask).sum())
        recorded = self.specification.provenance.parameters.get("max_length")
        cut = sum(length > self.max_length for length in lengths)
        full = (
            sum(length == recorded for length in lengths)
            if isinstance(recorded, int) and recorded <= self.max_length
            else 0
        )
        if cut:
            logger.warning(
                "%d of %d training utterances have more than %d %s tokens and are cut; the last token is kept.",
                cut, len(lengths), self.max_length, self.role,
            )  # fmt: skip
        if full:
            logger.warning(
                "%d of %d training utterances have all %d %s tokens that their stream allows: they were cut.",
                full, len(lengths), recorded, self.role,
            )  # fmt: skip
        counted = max(sum(lengths) - 2 * sum(length > 0 for length in lengths), 1)
        if self.specification.provenance.extractor == SPEECH_IDS and unknown > MOSTLY_UNKNOWN * counted:
            raise InputError(
                f"stream '{self.specification.stream}'",
                [f"{unknown / counted:.0%} of its code pairs are not in the dictionary: it is another codebook's"],
                "Make the stream with the k-means checkpoint that the speech-BERT was trained on.",
            )
        if not self.fetched and self.frozen:
            logger.warning("The %s encoder is frozen and randomly initialised: nothing pretrained it.", self.role)

    def _count(self, mask: Bool[Tensor, "batch tokens"]) -> None:
        """How many rows were cut so far, said once outside of training, where `inspect` has said it."""
        if mask.shape[1] <= self.max_length:
            return
        cut = int((mask.sum(dim=1) > self.max_length).sum())
        with _COUNTING:
            first = not self.cut
            self.cut += cut
        if cut and first and not self.training:
            logger.warning(
                "%d utterances of a batch have more than %d %s tokens and are cut; the last token is kept.",
                cut, self.max_length, self.role,
            )  # fmt: skip


def check_vocabulary(specification: InputSpecification, configuration: dict[str, Any], role: str) -> None:
    """InputError for ids of another vocabulary than the encoder's, as far as the two tell."""
    recorded = specification.provenance.parameters
    size, dictionary = recorded.get("vocabulary_size"), recorded.get("dictionary_sha256")
    known = configuration.get("dictionary_sha256")
    problems = []
    if isinstance(size, int) and size != configuration["vocab_size"]:
        problems.append(f"{size} ids in its dictionary, {configuration['vocab_size']} in the {role} encoder's")
    if dictionary and known and dictionary != known:
        problems.append(f"its dictionary is {dictionary[:12]}..., the {role} encoder's is {known[:12]}...")
    if problems:
        raise InputError(
            f"stream '{specification.stream}'",
            problems,
            "Make the tokens with the dictionary that this encoder was trained on.",
        )
