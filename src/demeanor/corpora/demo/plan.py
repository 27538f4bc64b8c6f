"""Who says what in which dialogue: the corpus on paper, before any sound or picture is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demeanor.corpora.demo.latents import Latents, sample_dialogue
from demeanor.corpora.demo.lexicon import TOPICS
from demeanor.corpora.demo.speakers import Speaker, make_speakers

CLIPS_PER_SPLIT = {"train": 200, "valid": 60, "test": 140}
DIALOGUES_PER_SPLIT = {"train": 20, "valid": 6, "test": 14}
_SHORTEST, _LONGEST = 7, 13


@dataclass(frozen=True)
class Clip:
    """One clip as planned. `seed` makes its words, voice and pictures; `turn` counts from 0 in its dialogue."""

    video_id: str
    clip_id: str
    split: str
    turn: int
    speaker: Speaker
    topic: str
    latents: Latents
    seed: tuple[int, ...]


def plan_corpus(seed: int) -> list[Clip]:
    """All clips in order: train, valid, test, each dialogue by dialogue and turn by turn."""
    speakers = make_speakers(seed)
    clips: list[Clip] = []
    number = 0
    for split_index, (split, dialogues) in enumerate(DIALOGUES_PER_SPLIT.items()):
        random = np.random.default_rng([seed, 2, split_index])
        lengths = _lengths(CLIPS_PER_SPLIT[split], dialogues, random)
        for index, length in enumerate(lengths):
            number += 1
            # Speakers take turns at opening a dialogue, so that each is heard about equally often.
            people = speakers[split]
            first = people[index % len(people)]
            pair = [first] if index % 2 == 0 else [first, people[(index + 1 + index // len(people)) % len(people)]]
            topic = sorted(TOPICS)[(number * 7) % len(TOPICS)]
            for turn, latents in enumerate(sample_dialogue(length, random)):
                speaker = pair[turn % len(pair)]
                clips.append(
                    Clip(
                        f"synthetic_{number:02d}",
                        f"{turn + 1:04d}",
                        split,
                        turn,
                        speaker,
                        topic,
                        latents,
                        (seed, 3, number, turn),
                    )
                )
    return clips


def _lengths(clips: int, dialogues: int, random: np.random.Generator) -> list[int]:
    """Turns of each dialogue: varied, and `clips` together."""
    lengths = np.full(dialogues, clips // dialogues)
    lengths[: clips - lengths.sum()] += 1
    for _ in range(4 * dialogues):
        shorter, longer = random.choice(dialogues, 2, replace=False)
        if lengths[shorter] > _SHORTEST and lengths[longer] < _LONGEST:
            lengths[shorter] -= 1
            lengths[longer] += 1
    return [int(length) for length in lengths]
