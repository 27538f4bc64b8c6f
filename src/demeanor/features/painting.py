"""Decoded frames as a player shows them: RGB, with square pixels, turned and mirrored as the container says."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

from demeanor.features.limits import LIMITS

#: A pixel wider or higher than this is a mistake in a header; nothing that people record with has one.
ODDEST_PIXEL = 8.0

Turn = tuple[float, float, float, float]
"""(a, b, c, d) of a display matrix: a point (x, y) of the stored picture is shown at (a x + c y, b x + d y)."""


class Painter:
    """One per recording: setting up a converter costs more than using it."""

    def __init__(self, stream: Any, longest_side: int | None):
        self.longest_side = longest_side
        self.converter = VideoReformatter()
        self.pixel = _pixel_shape(stream)
        self.noted = _noted_rotation(stream)

    def at(self, longest_side: int | None) -> Painter:
        """Another one for the same recording, which may be closed by now."""
        other = copy(self)
        other.longest_side, other.converter = longest_side, VideoReformatter()
        return other

    def turn(self, frame: Any) -> Turn | None:
        """How a frame is turned and mirrored to be seen upright; None where it stands so already."""
        return _matrix(frame) or self.noted

    def __call__(self, frame: Any) -> np.ndarray:
        """[height, width, 3] uint8; the longer side at most `longest_side`."""
        width, height = frame.width, frame.height
        if self.pixel is not None:
            width, height = _square(width, height, self.pixel)
        largest = max(width, height)
        if self.longest_side is not None and largest > self.longest_side:
            width, height = (max(round(side * self.longest_side / largest), 1) for side in (width, height))
        image = self.converter.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
        turn = self.turn(frame)
        return image if turn is None else turned(image, turn, self.longest_side)


def _pixel_shape(stream: Any) -> float | None:
    """Width of a pixel by its height; None for square ones and where nothing sensible is said."""
    ratio = stream.sample_aspect_ratio
    if not ratio or ratio == 1 or not 1 / ODDEST_PIXEL <= ratio <= ODDEST_PIXEL:
        return None
    return float(ratio)


def _square(width: int, height: int, pixel: float) -> tuple[int, int]:
    """The size with square pixels; the side that is too short grows, so that nothing seen is lost."""
    across, down = (round(width * pixel), height) if pixel > 1 else (width, round(height / pixel))
    return (across, down) if across * down <= LIMITS.pixels else (width, height)


def _noted_rotation(stream: Any) -> Turn | None:
    """The tag `rotate` (degrees clockwise) that older programs write instead of a matrix."""
    said = next((value for key, value in stream.metadata.items() if key.lower() == "rotate"), "0")
    try:
        degrees = float(said)
    except ValueError:
        return None
    if not np.isfinite(degrees) or degrees % 360 == 0:
        return None
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return float(cosine), float(sine), float(-sine), float(cosine)


def _matrix(frame: Any) -> Turn | None:
    """Turn and mirror of a frame's display matrix; its scale is in the shape of the pixels. None for upright frames."""
    try:
        data = frame.side_data.get(Type.DISPLAYMATRIX)
        values = None if data is None else np.frombuffer(bytes(data), np.int32)[[0, 1, 3, 4]].astype(float)
    except ValueError:  # side data of a kind that PyAV has no name for; the angle alone can still be had
        angle = -np.radians(frame.rotation)
        values = np.array([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)])
    if values is None:
        return None
    first, second = np.hypot(*values[:2]), np.hypot(*values[2:])
    if not first or not second:
        return None
    a, b, c, d = values[0] / first, values[1] / first, values[2] / second, values[3] / second
    # A matrix that flattens the picture to a line says nothing.
    if abs(a * d - b * c) < 0.1 or (a > 0.9999 and d > 0.9999):
        return None
    return float(a), float(b), float(c), float(d)


def described_turn(turn: Turn) -> str:
    """In words: mirrored from left to right first, then turned."""
    a, b, c, d = turn
    mirrored = a * d - b * c < 0
    degrees = round(float(np.degrees(np.arctan2(-b, -a) if mirrored else np.arctan2(b, a)))) % 360
    done = ["mirrored"] * mirrored + [f"turned by {degrees} degrees clockwise"] * (degrees != 0)
    return f"its pictures are {' and '.join(done)}, as it says itself"


def turned(image: np.ndarray, turn: Turn, longest_side: int | None = None) -> np.ndarray:
    """The picture as shown. By other angles than quarters the canvas grows and its corners are black.

    image [height, width, 3] of 8 bits; no side of what is returned exceeds `longest_side` pixels.
    """
    a, b, c, d = turn
    if min(abs(a), abs(b)) < 1e-3 and min(abs(c), abs(d)) < 1e-3:
        if abs(b) > abs(a):
            image, rows, columns = image.swapaxes(0, 1), b, c
        else:
            rows, columns = d, a
        return np.ascontiguousarray(image[:: 1 if rows > 0 else -1, :: 1 if columns > 0 else -1])
    import cv2

    height, width = image.shape[:2]
    matrix = np.array([[a, c], [b, d]])
    corners = matrix @ np.array([[0, width, 0, width], [0, 0, height, height]], dtype=float)
    size = corners.max(axis=1) - corners.min(axis=1)
    scale = 1.0 if longest_side is None else min(longest_side / size.max(), 1.0)
    affine = np.hstack([matrix, -corners.min(axis=1, keepdims=True)]) * scale
    across, down = (max(round(side * scale), 1) for side in size)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(image, affine, (across, down), flags=way))
