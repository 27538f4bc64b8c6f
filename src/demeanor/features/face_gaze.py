"""Where the irises are in the eyes: by the darkness between the lids, or by MediaPipe's iris model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from demeanor.features.face_models import IRIS, network
from demeanor.features.face_tracks import SIZE, Region, Sighting, crop

#: Of each eye, left to right in the picture: its corners, then its contour.
EYES = (
    (33, 133, (33, 160, 159, 158, 133, 153, 145, 144)),
    (362, 263, (362, 385, 386, 387, 263, 373, 374, 380)),
)
CORNERS = [point for left, right, _ in EYES for point in (left, right)]
CONTOURS = [point for _, _, contour in EYES for point in contour]
#: Size of the small picture of an eye, and its width in it from corner to corner.
PATCH, ACROSS = (32, 16), 24
#: The iris model looks at a square this many times as wide as the eye.
AROUND = 2.3


def eyes_of(face: Sighting) -> list[Region]:
    """A square of the picture for each eye, as wide as from corner to corner and turned as these are."""
    corners = face.points[CORNERS].tolist()
    found = []
    for left, right in (corners[:2], corners[2:]):
        across, down = right[0] - left[0], right[1] - left[1]
        middle = Region(
            (left[0] + right[0]) / 2, (left[1] + right[1]) / 2, math.hypot(across, down), math.atan2(down, across)
        )
        found.append(face.region.within(middle, SIZE))
    return found


def patches_of(
    image: UInt8[np.ndarray, "height width 3"], eyes: Sequence[Region]
) -> UInt8[np.ndarray, "2 down across"]:
    """Both eyes as small pictures, their corners level, in red light, in which blue and green eyes are dark, too."""
    patches = np.empty((len(eyes), PATCH[1], PATCH[0]), np.uint8)
    for patch, eye in zip(patches, eyes, strict=True):
        patch[:] = cv2.warpAffine(image, _to_patch(eye), PATCH, flags=cv2.INTER_LINEAR)[..., 0]
    return patches


def _to_patch(eye: Region) -> Float[np.ndarray, "2 3"]:
    """Maps the picture to the small one of the eye."""
    matrix = Region(eye.x, eye.y, PATCH[0] * max(eye.side, 1e-6) / ACROSS, eye.angle).to_crop(PATCH[0])
    matrix[1, 2] += (PATCH[1] - PATCH[0]) / 2
    return matrix


def gaze_by_darkness(
    patches: UInt8[np.ndarray, "frames 2 down across"], contours: Float[np.ndarray, "frames 2 contour 2"],
    eyes: Sequence[Sequence[Region]],
) -> Float[np.ndarray, "frames 2"]:  # fmt: skip
    """Where the darkest part between the lids lies: to the person's left and up, in widths of an eye, mean of both.

    contours  of the lids in pixels of the picture; what is shut or smaller than a pixel says nothing (0)
    """
    x, y, side, angle = np.moveaxis(
        np.array([[(eye.x, eye.y, eye.side, eye.angle) for eye in both] for both in eyes]), 2, 0
    )
    wide = side >= 1.0
    cosine, sine = (ACROSS / np.maximum(side, 1.0) * part(angle) for part in (np.cos, np.sin))
    across, down = np.moveaxis(contours - np.stack([x, y], axis=2)[:, :, None], 3, 0)
    level = [cosine[..., None] * across + sine[..., None] * down, cosine[..., None] * down - sine[..., None] * across]
    outlines = np.rint(np.stack(level, axis=3) + np.divide(PATCH, 2)).astype(np.int32)
    lids = np.zeros(patches.shape, np.uint8)
    for frame, n in np.argwhere(wide):
        cv2.fillConvexPoly(lids[frame, n], outlines[frame, n], 1)
    open_eye = np.maximum(lids.sum(axis=(2, 3), dtype=np.int32), 1)
    usual = np.rint((patches * lids).sum(axis=(2, 3), dtype=np.int32) / open_eye)
    dark = np.maximum(usual[..., None, None].astype(np.int16) - patches, 0) * lids
    weight = dark.sum(axis=(2, 3), dtype=np.float64)
    told = weight > 0
    whole = np.maximum(weight, 1)
    column = dark.sum(axis=2, dtype=np.float64) @ np.arange(PATCH[0]) / whole
    row = dark.sum(axis=3, dtype=np.float64) @ np.arange(PATCH[1]) / whole
    offsets = np.stack([column - PATCH[0] / 2, PATCH[1] / 2 - row], axis=2) / ACROSS * told[..., None]
    return offsets.sum(axis=1) / np.maximum(told.sum(axis=1), 1)[:, None]


def gaze_by_irises(
    image: UInt8[np.ndarray, "height width 3"], eyes: Sequence[Region], folder: str | None = None
) -> Float[np.ndarray, " 2"]:
    """As `gaze_by_darkness` for one picture, from the centres of the irises as the model draws them (two passes)."""
    offsets = []
    for n, eye in enumerate(eyes):
        small = crop(image, Region(eye.x, eye.y, AROUND * max(eye.side, 1e-6), eye.angle), 64)
        # The model knows one eye; the other is its mirror image.
        iris, _ = network(IRIS, folder)(small[:, ::-1] if n else small, 1 / 255, 0.0)
        x, y = float(iris[0]), float(iris[1])
        x = 64 - x if n else x
        offsets.append([(x - 32) / 64 * AROUND, (32 - y) / 64 * AROUND])
    return np.clip(np.mean(offsets, axis=0), -1.0, 1.0)
