"""Transcripts through any Hugging Face tokenizer: token ids."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
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


class Tokens(Extractor):
    """`text.tokens`: ids of a Hugging Face tokenizer with its special tokens, [T, 1] int32."""

    name = "hf_tokens"
    stream = "text.tokens"
    reads = frozenset({"text"})
    unit = "token"
    licence = "that of the tokenizer"
    batched = True  # not worth loading a tokenizer in every worker
    dtype = np.int32
    settings_type: ClassVar[type[Settings]] = TokenSettings

    @cached_property
    def tokenizer(self) -> Any:
        """The encoder's tokenizer, loaded once."""
        return load_tokenizer(self.settings.model)

    @property
    def version(self) -> str:
        return "1"

    @property
    def dimension(self) -> int:
        return 1

    @cached_property
    def vocabulary_sha256(self) -> str:
        """Worked out once: a server asks with every row who made its features."""
        return vocabulary_hash(self.tokenizer)

    def facts(self) -> dict[str, Any]:
        return {"vocabulary_sha256": self.vocabulary_sha256}

    def extract_clip(self, clip: Clip) -> np.ndarray:
        text = clip.spoken
        if text is None:
            return self.absent
        text = text.lower() if self.settings.lower_case else text
        max_length = min(self.settings.max_length, int(self.tokenizer.model_max_length))
        ids = self.tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
        return np.asarray(ids, dtype=np.int32)[:, None]


def vocabulary_hash(tokenizer: Any) -> str:
    """Of every token and its id: two tokenizers of one hash number the same pieces alike."""
    return sha256_of(sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0])))
