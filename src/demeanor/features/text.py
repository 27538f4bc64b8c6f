"""Transcripts through any Hugging Face encoder: one state per word, one state per sentence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from demeanor.data.settings import Settings
from demeanor.features.base import Clip, Extractor
from demeanor.features.hub import MINILM, load_model, load_tokenizer, resolve
from demeanor.features.tokens import vocabulary_hash
from demeanor.kernels.halves import in_half


class EncoderSettings(Settings):
    """`model`: "minilm" (bundled), a local folder, or an id on the Hugging Face hub.

    `layer` counts hidden states: -1 is the last, 0 the embeddings. `half` computes in bfloat16 on a GPU, and on a
    processor with instructions for it (demeanor.kernels.halves); values then differ in the third digit, which is why
    it is a setting and stands in the provenance.
    """

    model: str = MINILM
    layer: int = -1
    half: bool = False


class SentenceSettings(EncoderSettings):
    """Which encoder, and how its states become one vector."""

    pooling: Literal["mean", "cls"] = "mean"
    normalise: bool = Field(default=True, description="scale each vector to length 1")


class _TextEncoder(Extractor):
    """What both encoders share. A text alone and in a batch agree within 1e-5 (float32, CPU)."""

    reads = frozenset({"text"})
    licence = "that of the model"
    batched = True
    settings_type: ClassVar[type[Settings]] = EncoderSettings
    #: Padded tokens per forward pass.
    budget: ClassVar[int] = 4096

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.settings.model)

    @cached_property
    def model(self) -> Any:
        return load_model(self.settings.model)

    @property
    def version(self) -> str:
        return "1"

    @property
    def weights_sha256(self) -> str | None:
        return resolve(self.settings.model).weights_sha256

    @cached_property
    def vocabulary_sha256(self) -> str:
        """Worked out once: a server asks with every row who made its features."""
        return vocabulary_hash(self.tokenizer)

    def facts(self) -> dict[str, Any]:
        return {"vocabulary_sha256": self.vocabulary_sha256}

    @property
    def dimension(self) -> int:
        return int(resolve(self.settings.model).config.hidden_size)

    @property
    def _room(self) -> int:
        """Ids between the special ones that the model takes at once."""
        positions = int(getattr(self.model.config, "max_position_embeddings", 512))
        if getattr(self.model.config, "model_type", "") in {"roberta", "xlm-roberta", "camembert", "data2vec-text"}:
            positions -= int(self.model.config.pad_token_id) + 1  # these count positions from there
        positions = min(positions, int(self.tokenizer.model_max_length))
        return positions - sum(map(len, self._frame))

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """Special ids that the tokenizer puts before and after a text."""
        inner = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = self.tokenizer("a")["input_ids"]
        place = next(n for n in range(len(whole)) if whole[n : n + len(inner)] == inner)
        return whole[:place], whole[place + len(inner) :]

    def states(self, pieces: Sequence[Sequence[int]]) -> list[Float[Tensor, "tokens dimension"]]:
        """Hidden states of id sequences without special tokens; the special ones' states are kept at the ends."""
        before, after = self._frame
        complete = [before + list(piece) + after for piece in pieces]
        states: dict[int, Tensor] = {}
        for group in by_length([len(ids) for ids in complete], self.budget):
            width = max(len(complete[n]) for n in group)
            ids = torch.full((len(group), width), self.tokenizer.pad_token_id or 0)
            mask = torch.zeros((len(group), width), dtype=torch.long)
            for row, n in enumerate(group):
                ids[row, : len(complete[n])] = torch.tensor(complete[n])
                mask[row, : len(complete[n])] = 1
            hidden = self._forward(ids, mask)
            for row, n in enumerate(group):
                states[n] = hidden[row, : len(complete[n])]
        return [states[n] for n in range(len(complete))]

    def _forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        device = next(self.model.parameters()).device
        with torch.inference_mode(), in_half(device, self.settings.half):
            output = self.model(
                input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=self.settings.layer != -1
            )
        last = self.settings.layer == -1
        hidden = output.last_hidden_state if last else output.hidden_states[self.settings.layer]
        return hidden.float().cpu()


def by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Positions in groups of like length, each of at most `budget` padded steps (or one sequence)."""
    groups: list[list[int]] = []
    for n in sorted(range(len(lengths)), key=lambda n: (lengths[n], n)):
        if groups and (len(groups[-1]) + 1) * lengths[n] <= budget:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups


class SentenceState(_TextEncoder):
    """`text.sentence`: one vector per transcript, [1, D] float32: the mean over tokens or the first token's state.

    A text longer than the model takes is cut at its end.
    """

    name = "hf_sentence"
    stream = "text.sentence"
    unit = "utterance"
    settings_type: ClassVar[type[Settings]] = SentenceSettings

    def extract(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        spoken = [n for n, clip in enumerate(clips) if clip.spoken is not None]
        texts = [clips[n].text for n in spoken]
        values = [self.absent for _ in clips]
        if not texts:
            return values
        ids = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for n, state in zip(spoken, self.states([piece[: self._room] for piece in ids]), strict=True):
            vector = state.mean(dim=0) if self.settings.pooling == "mean" else state[0]
            if self.settings.normalise:
                vector = torch.nn.functional.normalize(vector, dim=0)
            values[n] = vector.numpy()[None, :]
        return values


class WordStates(_TextEncoder):
    """`text.words`: contextual states averaged over the pieces of each word of `text.split()`, [W, D] float32.

    A word of which the tokenizer keeps nothing is a row of zeros. A text longer than the model takes is encoded in
    windows that end between words.
    """

    name = "hf_words"
    stream = "text.words"
    unit = "word"

    def extract(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        pieces: list[list[int]] = []
        owners: list[list[tuple[int, int]]] = []  # (clip, word) of every id of a piece
        for n, clip in enumerate(clips):
            for window in self._windows(clip.spoken) if clip.spoken is not None else []:
                pieces.append([token for token, _ in window])
                owners.append([(n, word) for _, word in window])
        sums = [np.zeros((len((clip.spoken or "").split()), self.dimension), dtype=np.float32) for clip in clips]
        counts = [np.zeros(len(total), dtype=np.float32) for total in sums]
        before = len(self._frame[0])
        for owner, state in zip(owners, self.states(pieces), strict=True):
            own = state[before : before + len(owner)].numpy()
            for (n, word), vector in zip(owner, own, strict=True):
                sums[n][word] += vector
                counts[n][word] += 1
        return [
            total / np.maximum(count, 1)[:, None] if len(total) else self.absent
            for total, count in zip(sums, counts, strict=True)
        ]

    def _windows(self, text: str) -> list[list[tuple[int, int]]]:
        """(id, number of its word) in windows that the model takes, cut between words where one fits."""
        word_at = word_of_characters(text)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        tokens = [
            (token, next((word_at[c] for c in range(start, end) if word_at[c] >= 0), -1))
            for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]
        tokens = [(token, word) for token, word in tokens if word >= 0]
        windows: list[list[tuple[int, int]]] = []
        while len(tokens) > self._room:
            cut = self._room
            while cut > 0 and tokens[cut][1] == tokens[cut - 1][1]:
                cut -= 1
            cut = cut or self._room
            windows.append(tokens[:cut])
            tokens = tokens[cut:]
        return [*windows, tokens] if tokens else windows


def word_of_characters(text: str) -> list[int]:
    """For each character the number of its word in `text.split()`, -1 for white space."""
    words, number, inside = [], -1, False
    for character in text:
        if character.isspace():
            inside = False
            words.append(-1)
        else:
            number += not inside
            inside = True
            words.append(number)
    return words
