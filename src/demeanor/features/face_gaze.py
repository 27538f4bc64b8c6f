"""Where the irises are in the eyes: by the darkness between the lids, or by MediaPipe's iris model."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from demeanor.features.face_models import IRIS, network
from demeanor.features.face_tracks import Region, crop

#: Of each eye, left to right in the picture: its corners, then its contour.
EYES = (
    (33, 133, (33, 160, 159, 158, 133, 153, 145, 144)),
    (362, 263, (362, 385, 386, 387, 263, 373, 374, 380)),
)
#: Size of the small picture of an eye, and its width in it from corner to corner.
PATCH, ACROSS = (32, 16), 24
#: The iris model looks at a square this many times as wide as the eye.
AROUND = 2.3


def gaze_by_darkness(
    image: UInt8[np.ndarray, "height width 3"], points: Float[np.ndarray, "468 3"]
) -> Float[np.ndarray, " 2"]:
    """Where the darkest part between the lids lies: to the person's left and up, in widths of an eye, mean of both.

    In red light, in which blue and green eyes are dark, too.
    """
    offsets = []
    for left, right, contour in EYES:
        matrix, width = _to_patch(points[left, :2], points[right, :2])
        if width < 1.0:
            continue
        patch = cv2.extractChannel(cv2.warpAffine(image, matrix, PATCH, flags=cv2.INTER_LINEAR), 0)
        outline = points[list(contour), :2] @ matrix[:, :2].T + matrix[:, 2]
        mask = np.zeros(PATCH[::-1], np.uint8)
        cv2.fillConvexPoly(mask, np.rint(outline).astype(np.int32), 1)
        usual = round(cv2.mean(patch, mask)[0])
        found = cv2.moments(cv2.multiply(cv2.subtract(np.full_like(patch, usual), patch), mask))
        if found["m00"] > 0:
            x, y = found["m10"] / found["m00"], found["m01"] / found["m00"]
            offsets.append([(x - PATCH[0] / 2) / ACROSS, (PATCH[1] / 2 - y) / ACROSS])
    return np.mean(offsets, axis=0) if offsets else np.zeros(2)


def _to_patch(left: np.ndarray, right: np.ndarray) -> tuple[Float[np.ndarray, "2 3"], float]:
    """Maps the picture to the small one, in which the corners lie level; and the eye's width in pixels."""
    across, down = right - left
    width = float(np.hypot(across, down))
    side = PATCH[0] * max(width, 1e-6) / ACROSS
    centre = (left + right) / 2
    matrix = Region(float(centre[0]), float(centre[1]), side, float(np.arctan2(down, across))).to_crop(PATCH[0])
    matrix[1, 2] += (PATCH[1] - PATCH[0]) / 2
    return matrix, width


def gaze_by_irises(
    image: UInt8[np.ndarray, "height width 3"], points: Float[np.ndarray, "468 3"], folder: str | None = None
) -> Float[np.ndarray, " 2"]:
    """As `gaze_by_darkness`, from the centres of the irises as the model draws them (two passes of it)."""
    offsets = []
    for n, (left, right, _) in enumerate(EYES):
        one, other = points[left, :2], points[right, :2]
        across, down = other - one
        width = max(float(np.hypot(across, down)), 1e-6)
        angle = float(np.arctan2(down, across))
        centre = (one + other) / 2
        region = Region(float(centre[0]), float(centre[1]), AROUND * width, angle)
        small = crop(image, region, 64)
        small = small[:, ::-1] if n else small  # the model knows one eye; the other is its mirror image
        iris, _ = network(IRIS, folder)(np.ascontiguousarray(small).astype(np.float32) / 255.0)
        x, y = float(iris[0]), float(iris[1])
        x = 64 - x if n else x
        offsets.append([(x - 32) / 64 * AROUND, (32 - y) / 64 * AROUND])
    return np.clip(np.mean(offsets, axis=0), -1.0, 1.0)
