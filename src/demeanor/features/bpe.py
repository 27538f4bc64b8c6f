"""Byte-pair ids as fairseq's RoBERTa has them: GPT-2's pieces, renumbered by RoBERTa's own dictionary.

docs/systems/tab_fusion.md#text-tokens, #lengths. For those who hold fairseq's three files; the ids
equal those of `hf_tokens` with a roberta model.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of, sha256_of_file
from demeanor.data.places import anchored
from demeanor.data.settings import Settings
from demeanor.features.speech_codes import END, FIRST, START, UNKNOWN
from demeanor.features.tokens import TokenIds

FILES = ("encoder.json", "vocab.bpe", "dict.txt")


class ByteLevelPieces:
    """Text to GPT-2 ids and on to RoBERTa ids, from a folder with encoder.json, vocab.bpe and dict.txt."""

    def __init__(self, folder: Path | str):
        from tokenizers import ByteLevelBPETokenizer

        self.folder = anchored(folder)
        missing = [name for name in FILES if not (self.folder / name).is_file()]
        if missing:
            raise InputError(str(folder), [f"holds no {name}" for name in missing])
        encoder, merges = (str(self.folder / name) for name in FILES[:2])
        self._pieces = ByteLevelBPETokenizer(encoder, merges, add_prefix_space=False)
        lines = (self.folder / "dict.txt").read_text(encoding="utf-8").splitlines()
        numbered = {line.split(" ")[0]: FIRST + n for n, line in enumerate(lines)}
        self.size = FIRST + len(lines) + 1  # and <mask>
        self._numbers = {int(name): number for name, number in numbered.items() if name.isdigit()}

    def raw(self, text: str) -> list[int]:
        """GPT-2's own ids; not what RoBERTa reads."""
        return self._pieces.encode(text).ids

    def ids(self, text: str, max_length: int | None = None) -> list[int]:
        """<s>, RoBERTa ids, </s>; cut so that </s> stays last. No space is put before the first word."""
        middle = [self._numbers.get(piece, UNKNOWN) for piece in self.raw(text)]
        return [START, *(middle if max_length is None else middle[: max_length - 2]), END]


class PieceSettings(Settings):
    """`folder` of encoder.json, vocab.bpe and dict.txt; the published system lower-cases its text and cuts at 512."""

    folder: str
    max_length: int = Field(default=512, ge=3)
    lower_case: bool = False


class BytePairIds(TokenIds):
    """`text.tokens`: RoBERTa's ids from fairseq's files, <s> ... </s>, [T, 1] int32."""

    name = "roberta_bpe"
    licence = "MIT (GPT-2's and fairseq's tables)"
    settings_type: ClassVar[type[Settings]] = PieceSettings

    @cached_property
    def pieces(self) -> ByteLevelPieces:
        """GPT-2's pieces, read from the folder once."""
        return ByteLevelPieces(self.settings.folder)

    def facts(self) -> dict[str, Any]:
        hashes = [sha256_of_file(self.pieces.folder / name) for name in FILES]
        return {"vocabulary_sha256": sha256_of(hashes), "vocabulary_size": self.pieces.size}

    def ids(self, text: str) -> list[int]:
        return self.pieces.ids(text, self.settings.max_length)
