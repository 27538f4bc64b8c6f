"""The invented people of the demo corpus: who speaks in which split, how they sound and how they look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

SPEAKERS_PER_SPLIT = {"train": 10, "valid": 4, "test": 6}

# espeak-ng voices: an English accent and a speaker variant; one per speaker, none twice
_VOICES = {
    "train": (
        "en+f2", "en-us+m3", "en-gb-scotland+m1", "en-us+f4", "en+m7",
        "en-029+f1", "en-us-nyc+m2", "gmw/en-GB-x-rp+f3", "en-gb-x-gbclan+m4", "en-us+Annie",
    ),
    "valid": ("gmw/en-GB-x-rp+m3", "en-us+f2", "en-gb-scotland+f4", "en+m1"),
    "test": ("en-us+f3", "en+m4", "gmw/en-GB-x-rp+f1", "en-us+m7", "en-gb-scotland+f2", "en-us-nyc+m3"),
}  # fmt: skip

_SKINS: tuple[Colour, ...] = (
    (244, 208, 182), (232, 190, 160), (214, 168, 134), (190, 140, 106), (224, 178, 140), (205, 152, 116),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (58, 38, 26), (28, 24, 26), (120, 78, 42), (176, 130, 70), (96, 44, 28), (120, 116, 114),
)  # fmt: skip
_EYES: tuple[Colour, ...] = ((70, 50, 34), (58, 92, 120), (66, 98, 62), (48, 40, 36))
_SHIRTS: tuple[Colour, ...] = (
    (60, 96, 150), (150, 64, 60), (70, 120, 86), (120, 90, 140), (196, 150, 70), (70, 78, 92),
)  # fmt: skip
_WALLS: tuple[Colour, ...] = (
    (188, 200, 206), (206, 198, 180), (180, 190, 170), (198, 182, 190), (170, 182, 200), (214, 212, 206),
)  # fmt: skip
HAIR_STYLES = ("short", "long", "bald", "curly", "bob")


@dataclass(frozen=True)
class Voice:
    """How a person sounds when nothing moves them: offsets are moderate, so that manner still shows."""

    name: str
    pitch_semitones: float
    rate_factor: float
    loudness_decibels: float


@dataclass(frozen=True)
class Look:
    """How a person looks; lengths are shares of the usual face."""

    skin: Colour
    hair: Colour
    eyes: Colour
    shirt: Colour
    wall: Colour
    hair_style: str
    width: float
    height: float
    eye_distance: float
    mouth_width: float
    brow_thickness: float
    glasses: bool


@dataclass(frozen=True)
class Speaker:
    """One invented person."""

    name: str
    split: str
    voice: Voice
    look: Look


def make_speakers(seed: int) -> dict[str, tuple[Speaker, ...]]:
    """The people of each split; disjoint by construction, the same for the same seed."""
    random = np.random.default_rng([seed, 1])
    speakers: dict[str, tuple[Speaker, ...]] = {}
    number = 0
    for split, count in SPEAKERS_PER_SPLIT.items():
        people = []
        for index in range(count):
            number += 1
            voice = Voice(
                _VOICES[split][index],
                float(random.uniform(-1.0, 1.0)),
                float(random.uniform(0.96, 1.04)),
                float(random.uniform(-1.0, 1.0)),
            )
            people.append(Speaker(f"synthetic_speaker_{number:02d}", split, voice, _look(random, number)))
        speakers[split] = tuple(people)
    return speakers


def _look(random: np.random.Generator, number: int) -> Look:
    def one_of(options):
        return options[int(random.integers(len(options)))]

    return Look(
        skin=one_of(_SKINS),
        hair=one_of(_HAIRS),
        eyes=one_of(_EYES),
        shirt=one_of(_SHIRTS),
        wall=one_of(_WALLS),
        hair_style=HAIR_STYLES[number % len(HAIR_STYLES)],
        width=float(random.uniform(0.93, 1.07)),
        height=float(random.uniform(0.95, 1.06)),
        eye_distance=float(random.uniform(0.95, 1.06)),
        mouth_width=float(random.uniform(0.92, 1.08)),
        brow_thickness=float(random.uniform(0.8, 1.25)),
        glasses=bool(random.random() < 0.2),
    )
