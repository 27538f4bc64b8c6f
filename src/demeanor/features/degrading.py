"""Recordings made worse on purpose and by a known amount: noise, lost pictures, misheard words, sound out of step.

What is done to a clip depends on the seed, its name (of words: on the words and their place in the dialogue) and the
amount alone, and a larger amount takes what a smaller one took and more of it: curves over amounts do not jump for want
of luck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from demeanor.data.errors import InputError, nearest
from demeanor.data.files import sha256_of
from demeanor.features.base import SAMPLE_RATE, SILENCE, Clip, Word, to_int16

#: Voices that make babble.
VOICES = 6
#: Of words that are misheard: shares for which another is heard, and none; of the rest one is heard too many.
ANOTHER, NONE = 0.6, 0.2

Samples = Float[np.ndarray, " samples"]


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What is there beside a clip: others of its corpus, whose voices babble and whose words are misheard for its own.

    speakers  utterance -> who speaks, where that is known: nobody babbles against themselves
    """

    clips: Sequence[Clip]
    seed: int = 0
    speakers: Mapping[str, str | None] = field(default_factory=dict)

    def generator(self, *parts: Any) -> np.random.Generator:
        """Numbers that are the same for the same seed and parts, on every machine and in any order of asking."""
        return np.random.default_rng(int(sha256_of([self.seed, *parts])[:16], 16))

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word of the clips, in the order of the alphabet."""
        return tuple(sorted({word for clip in self.clips for word in (clip.spoken or "").split()}))

    @cached_property
    def voices(self) -> tuple[Clip, ...]:
        """Those in which there is something to hear."""
        return tuple(clip for clip in self.clips if clip.without_cache().audible is not None)

    def babble(self, clip: Clip, length: int) -> Samples:
        """So many samples of `VOICES` other clips at once, each as loud as the others; silence where there is none."""
        own = self.speakers.get(clip.utterance_id)
        others = [one for one in self.voices if one.utterance_id != clip.utterance_id]
        strangers = [one for one in others if own is None or self.speakers.get(one.utterance_id) != own] or others
        generator, mixed = self.generator("babble", clip.utterance_id), np.zeros(length)
        for place in generator.permutation(len(strangers))[:VOICES]:
            heard = strangers[place].without_cache().waveform
            if heard is not None:
                start = int(generator.integers(len(heard)))
                mixed += np.resize(np.roll(heard, -start), length) / loudness(heard)
        return mixed


def loudness(samples: Samples) -> float:
    """Root mean square, never quite zero."""
    return max(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), 1e-12)


def with_noise(samples: Samples, noise: Samples, decibels: float) -> Samples:
    """Samples and noise [T] at a signal-to-noise ratio, by their root mean squares over the whole clip; made quieter as
    a whole where the sum would not fit into 16 bits."""
    mixed = samples + noise * (loudness(samples) / loudness(noise) / 10 ** (decibels / 20))
    return mixed / max(float(np.abs(mixed).max()), 1.0)


def noisy(clip: Clip, decibels: float, around: Surroundings, kind: str) -> Clip:
    """Noise of a kind, white or babble, at `decibels` below the voice (root mean squares over the clip). InputError
    where babble is asked for and nobody else speaks."""
    samples = clip.without_cache().audible
    if samples is None:
        return clip
    if kind == "white":
        noise = around.generator("white", clip.utterance_id).standard_normal(len(samples))
    else:
        noise = around.babble(clip, len(samples))
        if float(np.abs(noise).max()) < SILENCE:
            raise InputError("babble", [f"there is no other voice than that of {clip.utterance_id}"])
    return with_sound(clip, with_noise(samples, noise, decibels))


def with_sound(clip: Clip, samples: Samples) -> Clip:
    """The clip with these samples, in [-1, 1] at 16 kHz, in the place of its sound."""
    return replace(clip, recorded=to_int16(samples.astype(np.float32)), stored=None, sound=None)


def shifted(clip: Clip, seconds: float, around: Surroundings) -> Clip:
    """The sound comes so much later than words and pictures; before it there is silence, and its end is cut off."""
    samples = clip.without_cache().waveform
    if samples is None:
        return clip
    late = np.zeros_like(samples)
    start = round(seconds * SAMPLE_RATE)
    if start < len(samples):
        late[start:] = samples[: len(samples) - start]
    return with_sound(clip, late)


@dataclass(frozen=True, eq=False)
class LossyClip(Clip):
    """A clip of whose pictures a share `lost` never arrived; which ones is decided by `draw`."""

    lost: float = 0.0
    draw: str = ""

    def frames(self, rate: float | None = None, longest_side: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
        """As of `Clip`, without those that are lost: of the pictures that an extractor would have looked at."""
        chances = np.random.default_rng(int(self.draw[:16] or "0", 16))
        for frame in super().frames(rate, longest_side):
            if chances.random() >= self.lost:
                yield frame

    def content(self, reads: frozenset[str]) -> str:
        whole = super().content(reads)
        return sha256_of([whole, "lost", self.lost, self.draw]) if "video" in reads else whole


def dropping(clip: Clip, share: float, around: Surroundings) -> Clip:
    """The clip, of whose pictures so large a share is lost."""
    fields = {name: getattr(clip, name) for name in Clip.__dataclass_fields__}
    return LossyClip(**fields, lost=share, draw=sha256_of([around.seed, "frames", clip.utterance_id]))


def misheard(clip: Clip, share: float, around: Surroundings) -> Clip:
    """So large a share of the words is heard wrongly, in its own turn and in those around it: 60 % as another word of
    the corpus, 20 % not at all, and beside 20 % a word is heard that was not said."""
    dialogue = tuple(
        None if text is None else " ".join(word for word, _ in errors(text, turn, share, around))
        for turn, text in enumerate(clip.dialogue)
    )
    if clip.spoken is None or clip.text is None:
        return replace(clip, dialogue=dialogue)
    made = errors(clip.text, clip.turn, share, around)
    words = None if clip.words is None else tuple(timed(made, clip.words))
    return replace(clip, text=" ".join(word for word, _ in made), words=words, dialogue=dialogue)


def errors(text: str, turn: int, share: float, around: Surroundings) -> list[tuple[str, int]]:
    """What is heard instead of a text: words, each with the place of the one that was said. Words are what white space
    parts."""
    said = text.split()
    chances = around.generator("words", text, turn).random((len(said), 3))
    heard: list[tuple[str, int]] = []
    for place, (word, (chance, how, which)) in enumerate(zip(said, chances, strict=True)):
        others = [other for other in around.vocabulary if other != word]
        if chance >= share or not others:
            heard.append((word, place))
            continue
        other = others[int(which * len(others))]
        if how < ANOTHER:
            heard.append((other, place))
        elif how >= ANOTHER + NONE:
            heard += [(word, place), (other, place)]
    return heard


def timed(heard: Sequence[tuple[str, int]], words: Sequence[Word]) -> Iterator[Word]:
    """Times for what is heard: those of the word that was said; two that stand for one share its time."""
    places = [place for _, place in heard]
    for number, (word, place) in enumerate(heard):
        said, middle = words[place], (words[place].start + words[place].end) / 2
        first, second = place in places[number + 1 :], place in places[:number]
        yield replace(said, text=word, start=middle if second else said.start, end=middle if first else said.end)


@dataclass(frozen=True)
class Degradation:
    """One way to make clips worse.

    modality  what is made worse
    reads     what of a clip changes (demeanor.features.base.READS): extractors that read none of it are not asked again
    axis      the amount in words, with its unit
    levels    amounts, evenly spaced from mild to hard, `clean` one step before them
    """

    name: str
    title: str
    modality: str
    reads: frozenset[str]
    axis: str
    levels: tuple[float, ...]
    clean: str
    make: Callable[[Clip, float, Surroundings], Clip]

    def __call__(self, clips: Sequence[Clip], level: float, around: Surroundings) -> list[Clip]:
        return [self.make(clip, level, around) for clip in clips]


DECIBELS, SHARES = (20.0, 10.0, 0.0, -10.0), (0.25, 0.5, 0.75, 1.0)
SOUND, PICTURES, WORDS = frozenset({"audio"}), frozenset({"video"}), frozenset({"text", "words", "dialogue"})
RATIO = "signal-to-noise ratio in dB"
DEGRADATIONS = {
    one.name: one
    for one in (
        Degradation("white", "white noise", "audio", SOUND, RATIO, DECIBELS, "clean",
                    lambda clip, level, around: noisy(clip, level, around, "white")),
        Degradation("babble", "other voices", "audio", SOUND, RATIO, DECIBELS, "clean",
                    lambda clip, level, around: noisy(clip, level, around, "babble")),
        Degradation("misalignment", "late sound", "audio", SOUND, "seconds that the sound is late",
                    SHARES, "0", shifted),
        Degradation("frames", "lost pictures", "vision", PICTURES, "share of pictures that are lost",
                    SHARES, "0", dropping),
        Degradation("words", "misheard words", "text", WORDS, "share of words that are misheard",
                    (0.2, 0.4, 0.6, 0.8), "0", misheard),
    )
}  # fmt: skip


def degradations(names: Sequence[str] = ()) -> list[Degradation]:
    """Those of these names, all of them by default; InputError, with the nearest name, for one that is not there."""
    unknown = [f"there is no '{name}'.{nearest(name, DEGRADATIONS)}" for name in names if name not in DEGRADATIONS]
    if unknown:
        raise InputError("kinds of degradation", unknown, f"There are {', '.join(DEGRADATIONS)}.")
    return [DEGRADATIONS[name] for name in (names or DEGRADATIONS)]
