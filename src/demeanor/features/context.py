"""The sentence before, this one, the one after: what is said around an utterance within its dialogue.

Windows of sentence vectors (docs/systems/tab_fusion.md#context-window): slots [-before .. +after] side by
side, the own sentence always in its place, zeros where the dialogue has no turn or the turn no words. All turns of a
dialogue count, labelled or not, and no window crosses into another dialogue. `after: 0` reads the past alone.

Tokens of the turns before, as one text (docs/systems/mmml.md#context).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int
from pydantic import Field

from demeanor.data.settings import Settings
from demeanor.features.base import Clip
from demeanor.features.text import SentenceSettings, SentenceState
from demeanor.features.tokens import Tokens, TokenSettings

#: Sentence vectors that are kept while a corpus is read: more than any corpus here has different transcripts.
REMEMBERED = 50_000
Keep = Literal["newest", "oldest"]


def window_slots(turns: int, turn: int, before: int, after: int) -> Int[np.ndarray, " slots"]:
    """Turns of a dialogue of `turns` that fill the slots around `turn`; -1 where there is none."""
    slot_turns = np.arange(turn - before, turn + after + 1)
    return np.where((slot_turns >= 0) & (slot_turns < turns), slot_turns, -1)


class ContextSettings(SentenceSettings):
    """Slots before and after; the published system takes BERT's first token as it is, 3 and 3."""

    before: int = Field(default=3, ge=0, le=64)
    after: int = Field(default=3, ge=0, le=64)
    pooling: Literal["mean", "cls"] = "cls"
    normalise: bool = False


class ContextWindow(SentenceState):
    """`text.context`: sentence vectors of the turns around an utterance, side by side, [1, (before+1+after) * D]
    float32. Absent where the utterance itself has no words."""

    name = "hf_context"
    stream = "text.context"
    reads = frozenset({"text", "dialogue"})
    unit = "utterance"
    settings_type: ClassVar[type[Settings]] = ContextSettings

    def __init__(self, settings: Settings | dict[str, Any] | None = None):
        super().__init__(settings)
        self._lock = Lock()
        self._known: OrderedDict[str, np.ndarray] = OrderedDict()

    @property
    def _width(self) -> int:
        return super().dimension

    @property
    def dimension(self) -> int:
        return self._width * (self.settings.before + 1 + self.settings.after)

    def extract(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        windows = [self._window(clip) for clip in clips]
        vectors = self._vectors({text for window in windows for text in window if text is not None})
        nothing = np.zeros((1, self._width), dtype=np.float32)
        return [
            np.concatenate([vectors[text] if text is not None else nothing for text in window], axis=1)
            if window
            else self.absent
            for window in windows
        ]

    def _vectors(self, texts: set[str]) -> dict[str, np.ndarray]:
        """Sentence vectors; each text is encoded once although it stands in the windows of all its neighbours, and
        alone, so that what is remembered does not depend on the batch in which it was first met."""
        vectors = {}
        for text in sorted(texts):
            with self._lock:
                vector = self._known.get(text)
            if vector is None:
                (vector,) = super().extract([Clip("", text=text)])
                with self._lock:
                    self._known[text] = vector
                    if len(self._known) > REMEMBERED:
                        self._known.popitem(last=False)
            vectors[text] = vector
        return vectors

    def _window(self, clip: Clip) -> list[str | None]:
        """The transcripts in the slots; empty where the clip has none itself."""
        if clip.spoken is None:
            return []
        dialogue, turn = (clip.dialogue, clip.turn) if clip.dialogue else ((clip.text,), 0)
        slots = window_slots(len(dialogue), turn, self.settings.before, self.settings.after)
        return [Clip("", text=dialogue[slot]).spoken if slot >= 0 else None for slot in slots]


def join_tokens(parts: Sequence[Int[np.ndarray, " _"]], limit: int, keep: Keep) -> Int[np.ndarray, " tokens"]:
    """Token rows `<s> u </s>`, oldest first, as one row `<s> u </s> u </s>` of at most `limit` tokens."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return np.zeros(0, dtype=np.int64)
    content = np.concatenate([part[1:] for part in filled])[:-1]
    room = limit - 2
    content = content[:room] if keep == "oldest" else content[max(len(content) - room, 0) :]
    return np.concatenate([filled[0][:1], content, filled[-1][-1:]])


class ContextTokenSettings(TokenSettings):
    """`model` and `lower_case` must be those of the stream `text.tokens` beside it: one encoder reads both."""

    max_length: int = Field(default=96, ge=2, description="ids that are kept, special ones included")
    before: int = Field(default=2, ge=1, le=64, description="turns")
    keep: Keep = Field(default="newest", description="which end of an overlong past; the published program: oldest")
    marked: bool = Field(default=False, description="no past is `<s></s>`, as published, instead of an absence")


class ContextTokens(Tokens):
    """`text.context_tokens`: ids of the turns before an utterance as one text `<s> u </s> u </s>`, [T, 1] int32.

    The past of the first turn, and one without any word, is absent.
    """

    name = "hf_context_tokens"
    stream = "text.context_tokens"
    reads = frozenset({"dialogue"})
    settings_type: ClassVar[type[Settings]] = ContextTokenSettings

    def extract_clip(self, clip: Clip) -> np.ndarray:
        past = clip.dialogue[max(clip.turn - self.settings.before, 0) : clip.turn]
        joined = join_tokens([self._ids(text) for text in past], self.settings.max_length, self.settings.keep)
        if len(joined) == 0 and self.settings.marked:
            joined = self._ids("a")[[0, -1]]
        return joined.astype(np.int32)[:, None] if len(joined) else self.absent

    def _ids(self, text: str | None) -> Int[np.ndarray, " tokens"]:
        """Of one turn; it is cut only when all turns are joined."""
        spoken = Clip("", text=text).spoken
        if spoken is None:
            return np.zeros(0, dtype=np.int64)
        return self.uncut(spoken.lower() if self.settings.lower_case else spoken)
