"""Where each word is in the sound: forced alignment with a CTC model, and the uniform fallback.

Connectionist temporal classification: Graves et al., 2006, section 4. The best path is found by our own Viterbi.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from demeanor.data.settings import Settings
from demeanor.features.base import SAMPLE_RATE, Clip, Extractor
from demeanor.features.hub import load_model, load_processor, load_tokenizer, resolve


def best_path(
    scores: Float[Tensor, "frames symbols"], targets: Sequence[int], blank: int = 0
) -> Int[np.ndarray, " frames"] | None:
    """The most probable path of a CTC model that reads `targets`: for each frame the number of the target that it
    speaks, -1 where blank. None where there are too few frames for any such path. `scores` are log probabilities.

    States are blank, target 0, blank, target 1, ... blank. From one frame to the next a path stays, moves on by one,
    or skips the blank between two different targets. Of equal paths, the one that stays longest wins.
    """
    frames, count = len(scores), len(targets)
    states = torch.full((2 * count + 1,), blank, dtype=torch.long)
    states[1::2] = torch.as_tensor(list(targets), dtype=torch.long)
    if frames < count + sum(a == b for a, b in pairwise(targets)) or frames == 0:
        return None
    emitted = scores.double().cpu()[:, states]
    never = -torch.inf
    may_skip = torch.zeros(len(states), dtype=torch.bool)
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    best = torch.full((len(states),), never, dtype=torch.float64)
    best[:2] = emitted[0, :2]
    moves = torch.zeros((frames, len(states)), dtype=torch.int8)
    for frame in range(1, frames):
        one = torch.cat([best.new_full((1,), never), best[:-1]])
        two = torch.cat([best.new_full((2,), never), best[:-2]])[: len(states)].masked_fill(~may_skip, never)
        best, moves[frame] = torch.stack([best, one, two]).max(dim=0)
        best = best + emitted[frame]
    state = len(states) - 1
    if count and best[-2] > best[-1]:
        state -= 1
    if not torch.isfinite(best[state]):
        return None
    path = np.empty(frames, dtype=np.int64)
    steps = moves.numpy()
    for frame in range(frames - 1, -1, -1):
        path[frame] = state // 2 if state % 2 else -1
        state -= int(steps[frame, state])
    return path


def word_spans(path: Int[np.ndarray, " frames"], owners: Sequence[int], words: int) -> Int[np.ndarray, "words 2"]:
    """First frame and frame after the last of each word; `owners` names the word of every target.

    A word that the model cannot spell takes no frame and stands where the one before it ends.
    """
    spans = np.zeros((words, 2), dtype=np.int64)
    owner_of = np.asarray(owners, dtype=np.int64)
    spoken = np.where(path >= 0, owner_of[np.maximum(path, 0)] if len(owner_of) else -1, -1)
    end = 0
    for word in range(words):
        frames = np.flatnonzero(spoken == word)
        spans[word] = (frames[0], frames[-1] + 1) if len(frames) else (end, end)
        end = spans[word, 1]
    return spans


class ForcedSettings(Settings):
    """`model`: a CTC model with a character vocabulary (wav2vec2, HuBERT, WavLM ... ForCTC), folder or hub id."""

    model: str


class WordTimes(Extractor):
    """`text.word_times`: start and end in seconds of each word of `text.split()`, [W, 2] float32."""

    stream = "text.word_times"
    reads = frozenset({"text", "audio"})
    unit = "word"

    @property
    def version(self) -> str:
        return "1"

    @property
    def dimension(self) -> int:
        return 2


class ForcedWordTimes(WordTimes):
    """`text.word_times`: start and end in seconds of each word of `text.split()` by CTC forced alignment,
    [W, 2] float32. Absent where there is no sound, no text, or more characters than the sound has frames."""

    name = "ctc_word_times"
    licence = "that of the model"
    batched = True
    settings_type: ClassVar[type[Settings]] = ForcedSettings

    @property
    def alignment(self) -> str:
        """How words are placed: by CTC."""
        return "ctc"

    @property
    def weights_sha256(self) -> str | None:
        """Hash of the encoder's weights."""
        return resolve(self.settings.model).weights_sha256

    @cached_property
    def model(self) -> Any:
        """The CTC model, loaded once."""
        return load_model(self.settings.model, "AutoModelForCTC")

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Characters that the model knows, and their ids."""
        return load_tokenizer(self.settings.model).get_vocab()

    @cached_property
    def _blank(self) -> int:
        return int(load_tokenizer(self.settings.model).pad_token_id or 0)

    def spell(self, words: Sequence[str]) -> tuple[list[int], list[int]]:
        """Ids of the characters that the model knows, with the delimiter between words, and the word of each (-1
        for delimiters)."""
        tokenizer = load_tokenizer(self.settings.model)
        delimiter = self.vocabulary.get(tokenizer.word_delimiter_token or "|")
        targets: list[int] = []
        owners: list[int] = []
        for number, word in enumerate(words):
            ids = [self._letter(character) for character in word]
            known = [one for one in ids if one is not None]
            if known and targets and delimiter is not None:
                targets.append(delimiter)
                owners.append(-1)
            targets += known
            owners += [number] * len(known)
        return targets, owners

    def _letter(self, character: str) -> int | None:
        forms = (character, character.upper(), character.lower())
        index = next((self.vocabulary[form] for form in forms if form in self.vocabulary), None)
        return None if index == self._blank else index

    def extract(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        return [self._times(clip.without_cache()) for clip in clips]

    def _times(self, clip: Clip) -> np.ndarray:
        waveform = clip.audible
        if waveform is None or clip.spoken is None or len(waveform) < 400:
            return self.absent
        words = clip.spoken.split()
        targets, owners = self.spell(words)
        inputs = load_processor(self.settings.model)(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(inputs["input_values"].to(self.model.device)).logits[0]
        path = best_path(logits.float().log_softmax(dim=-1), targets, self._blank) if targets else None
        if path is None:
            return self.absent
        step = int(np.prod(self.model.config.conv_stride)) / SAMPLE_RATE
        return (word_spans(path, owners, len(words)) * step).astype(np.float32)

    def cost(self, clip: Clip) -> float:
        return (clip.end or 0.0) - clip.start


def uniform_times(words: Sequence[str], seconds: float) -> Float[np.ndarray, "words 2"]:
    """The duration shared out among words by their number of characters: what is done when nothing is known."""
    shares = np.cumsum([0, *[len(word) + 1 for word in words]]) / sum(len(word) + 1 for word in words)
    return np.stack([shares[:-1], shares[1:]], axis=1) * seconds


class UniformWordTimes(WordTimes):
    """`text.word_times`: the sound's duration shared out among the words by their length, [W, 2] float32 seconds.

    A guess, and its provenance says so (alignment: uniform). Absent without words or sound.
    """

    name = "uniform_word_times"

    @property
    def alignment(self) -> str:
        """How words are placed: evenly."""
        return "uniform"

    def extract_clip(self, clip: Clip) -> np.ndarray:
        waveform = clip.waveform
        if clip.spoken is None or waveform is None:
            return self.absent
        return uniform_times(clip.spoken.split(), len(waveform) / SAMPLE_RATE).astype(np.float32)
