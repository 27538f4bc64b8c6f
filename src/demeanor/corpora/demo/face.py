"""The face: how brows, eyes and mouth show the sentiment and the emotion, and move with the speech.

The expression is linear in the face's view of the sentiment (mouth corners, brows, lids, cheeks); an emotion adds
its own, smaller shape. Mouth opening follows the speech energy relative to the clip's own level, so that the face
does not tell how loud the voice is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8

from demeanor.corpora.demo.drawing import Backdrop, Portrait, Pose
from demeanor.corpora.demo.latents import View
from demeanor.corpora.demo.speakers import Look

FRAME_RATE = 12
SIZE = 96

# added to the expression: smile, brow raise, brow anger, brow grief, lids, nose wrinkle, resting mouth opening
_EMOTION_SHAPE = {
    "neutral": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "happiness": (0.15, 0.1, 0.0, 0.0, -0.1, 0.0, 0.05),
    "sadness": (-0.1, 0.0, 0.0, 0.8, -0.25, 0.0, 0.0),
    "anger": (-0.05, -0.35, 0.8, 0.0, -0.05, 0.2, 0.0),
    "fear": (-0.1, 0.5, 0.0, 0.6, 0.35, 0.0, 0.12),
    "disgust": (-0.1, -0.2, 0.4, 0.0, -0.3, 0.9, 0.0),
    "surprise": (0.0, 0.8, 0.0, 0.0, 0.4, 0.0, 0.2),
}


@dataclass(frozen=True)
class Expression:
    """What holds for a whole clip; smile and brow raise in about [-1, 1], the rest from 0 (none) to 1 (full)."""

    smile: float
    brow_raise: float
    brow_anger: float
    brow_grief: float
    lids: float
    wrinkle: float
    rest_opening: float


def expression_of(view: View) -> Expression:
    """Smile, open brows and raised cheeks when pleased; the reverse when not; emotions add their shape."""
    smile, brow_raise, brow_anger, brow_grief, lids, wrinkle, rest = _EMOTION_SHAPE[view.emotion]
    strength = view.value / 3.0
    return Expression(
        smile=float(np.clip(0.95 * strength + smile, -1.1, 1.1)),
        brow_raise=0.45 * strength + brow_raise,
        brow_anger=0.35 * max(-strength, 0.0) + brow_anger,
        brow_grief=0.2 * max(-strength, 0.0) + brow_grief,
        lids=1.0 + 0.12 * strength + lids,
        wrinkle=wrinkle,
        rest_opening=rest,
    )


def speech_energy(samples: Float[np.ndarray, " time"], sample_rate: int, frames: int) -> Float[np.ndarray, " frames"]:
    """Loudness of each frame relative to the clip's own level, 0 (quiet) to 1."""
    edges = np.arange(frames + 1) * sample_rate / FRAME_RATE
    level = np.array(
        [
            np.sqrt(np.mean(samples[int(start) : max(int(start) + 1, int(end))] ** 2)) if start < len(samples) else 0.0
            for start, end in pairwise(edges)
        ]
    )
    return np.clip(level / (np.percentile(level, 90) + 1e-9), 0, 1.15)


def film(
    look: Look, view: View | None, energy: Float[np.ndarray, " frames"], random: np.random.Generator
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """One picture per value of `energy`; without a view there is no face: an empty room, or a turned back."""
    backdrop = Backdrop(look, random)
    portrait = Portrait(look)
    sway = _smooth_motion(len(energy), random)
    if view is None:
        turned = bool(random.random() < 0.5)
        pose = Pose()
        return [
            backdrop.finish(portrait.back(backdrop, replace(pose, dx=x, dy=y, roll=roll)) if turned else None)
            for x, y, roll in sway
        ]
    expression = expression_of(view)
    blinks = _blinks(len(energy), random)
    opening = np.convolve(energy, [0.2, 0.6, 0.2], mode="same")
    pictures = []
    for index, (x, y, roll) in enumerate(sway):
        speaking = float(opening[index])
        pose = Pose(
            dx=x,
            dy=y - 3.0 * speaking,
            roll=roll,
            opening=min(1.0, expression.rest_opening + 0.75 * speaking),
            smile=expression.smile,
            brow_raise=expression.brow_raise + 0.12 * speaking,
            brow_anger=expression.brow_anger,
            brow_grief=expression.brow_grief,
            lids=expression.lids * float(blinks[index]),
            wrinkle=expression.wrinkle,
        )
        pictures.append(backdrop.finish(portrait.front(backdrop, pose)))
    return pictures


def _smooth_motion(frames: int, random: np.random.Generator) -> Float[np.ndarray, "frames 3"]:
    """Small sway of the head: sideways and up-and-down in pixels of the large canvas, roll in degrees."""
    time = np.arange(frames) / FRAME_RATE
    start = random.uniform([-14, -6, -2.5], [14, 10, 2.5])
    tracks = []
    for axis, size in enumerate((7.0, 4.0, 2.0)):
        frequency, phase = random.uniform(0.2, 0.7, 2), random.uniform(0, 2 * np.pi, 2)
        waves = np.sin(2 * np.pi * frequency[:, None] * time[None, :] + phase[:, None]).sum(axis=0)
        tracks.append(start[axis] + 0.5 * size * waves)
    return np.stack(tracks, axis=1)


def _blinks(frames: int, random: np.random.Generator) -> Float[np.ndarray, " frames"]:
    """Factor of the eyes' opening: 1, but for a short blink every two or three seconds."""
    factor = np.ones(frames)
    moment = int(random.integers(4, 2 * FRAME_RATE))
    while moment < frames - 1:
        factor[moment : moment + 2] = (0.15, 0.55)
        moment += int(random.integers(2 * FRAME_RATE, 3 * FRAME_RATE))
    return factor
