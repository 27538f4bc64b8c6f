"""An utterance and the turns before it as one text that an encoder reads whole: who says it, and what it answers.

The own turn stands first, so that a long past is cut and never the utterance; the turns before follow, the latest
first. Each may be headed by who speaks, as Kim and Vossen do with RoBERTa (EmoBERTa, arXiv:2108.12009).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from demeanor.data.settings import Settings
from demeanor.features.base import Clip
from demeanor.features.context import join_tokens
from demeanor.features.tokens import Tokens, TokenSettings

Speakers = Literal["names", "same", "none"]
#: How a turn is headed where speakers have no names but are told apart.
SELF, OTHER = "me", "you"


class TurnTokenSettings(TokenSettings):
    """`same` heads turns of whoever says this one with "me" and all others with "you": it holds for any recording,
    where `names` ties what is learnt to the people of the corpus."""

    max_length: int = Field(default=96, ge=2, description="ids that are kept, special ones included")
    before: int = Field(default=2, ge=0, le=64, description="turns")
    speakers: Speakers = Field(default="same", description="what heads a turn: names, me and you, or nothing")


class TurnTokens(Tokens):
    """`text.turn_tokens`: ids of `<s> own turn </s> turn before </s> the one before that </s>`, [T, 1] int32.

    Absent where the utterance itself has no words; turns without words are passed over.
    """

    name = "hf_turn_tokens"
    stream = "text.turn_tokens"
    reads = frozenset({"dialogue", "speakers"})
    settings_type: ClassVar[type[Settings]] = TurnTokenSettings

    def extract_clip(self, clip: Clip) -> np.ndarray:
        own = clip.dialogue[clip.turn] if clip.dialogue else clip.text
        if Clip("", text=own).spoken is None:
            return self.absent
        first = max(clip.turn - self.settings.before, 0)
        spoken = [Clip("", text=clip.dialogue[turn]).spoken for turn in range(first, clip.turn)]
        past = [(turn, text) for turn, text in enumerate(spoken, first) if text is not None]
        turns = [(clip.turn, str(own)), *reversed(past)]
        limit = min(self.settings.max_length, int(self.tokenizer.model_max_length))
        joined = join_tokens([self.uncut(self._headed(clip, turn, text)) for turn, text in turns], limit, "oldest")
        return joined.astype(np.int32)[:, None]

    def _headed(self, clip: Clip, turn: int, text: str) -> str:
        speakers, way = clip.speakers, self.settings.speakers
        text = text.lower() if self.settings.lower_case else text
        if way == "none" or not speakers:
            return text
        if way == "names":
            return text if speakers[turn] is None else f"{speakers[turn]}: {text}"
        own = turn == clip.turn or (speakers[turn] is not None and speakers[turn] == speakers[clip.turn])
        return f"{SELF if own else OTHER}: {text}"
