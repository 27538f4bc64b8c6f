"""Transcripts through any Hugging Face tokenizer: token ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int
from pydantic import Field

from demeanor.data.files import sha256_of
from demeanor.data.settings import Settings
from demeanor.features.base import Clip, Extractor
from demeanor.features.hub import MINILM, load_tokenizer


class TokenSettings(Settings):
    """`model`: "minilm" (bundled), a local folder, or an id on the Hugging Face hub."""

    model: str = MINILM
    max_length: int = Field(default=512, ge=2, description="ids after which a text is cut; the closing one is kept")
    lower_case: bool = False


class TokenIds(Extractor):
    """`text.tokens`: what every tokenizer makes of a transcript, [T, 1] int32. Settings have `lower_case`."""

    stream = "text.tokens"
    reads = frozenset({"text"})
    unit = "token"
    batched = True  # not worth loading a tokenizer in every worker
    dtype = np.int32

    @property
    def version(self) -> str:
        return "1"

    @property
    def dimension(self) -> int:
        return 1

    def extract_clip(self, clip: Clip) -> np.ndarray:
        text = clip.spoken
        if text is None:
            return self.absent
        ids = self.ids(text.lower() if self.settings.lower_case else text)
        return np.asarray(ids, dtype=np.int32)[:, None]

    def ids(self, text: str) -> Sequence[int]:
        """Of a text, special ones included, no more than the settings allow."""
        raise NotImplementedError


class Tokens(TokenIds):
    """`text.tokens`: ids of a Hugging Face tokenizer with its special tokens, [T, 1] int32."""

    name = "hf_tokens"
    licence = "that of the tokenizer"
    settings_type: ClassVar[type[Settings]] = TokenSettings

    @cached_property
    def tokenizer(self) -> Any:
        """The encoder's tokenizer, loaded once."""
        return load_tokenizer(self.settings.model)

    @cached_property
    def vocabulary_sha256(self) -> str:
        """Worked out once: a server asks with every row who made its features."""
        return vocabulary_hash(self.tokenizer)

    def uncut(self, text: str) -> Int[np.ndarray, " tokens"]:
        """Ids of a text that is a part of another, special ones included: the whole is cut, not its parts."""
        return np.asarray(self.tokenizer(text, verbose=False)["input_ids"], dtype=np.int64)

    def facts(self) -> dict[str, Any]:
        return {"vocabulary_sha256": self.vocabulary_sha256}

    def ids(self, text: str) -> Sequence[int]:
        max_length = min(self.settings.max_length, int(self.tokenizer.model_max_length))
        return self.tokenizer(text, truncation=True, max_length=max_length)["input_ids"]


def vocabulary_hash(tokenizer: Any) -> str:
    """Of every token and its id: two tokenizers of one hash number the same pieces alike."""
    return sha256_of(sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0])))
