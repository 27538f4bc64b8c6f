"""Finding the face: OpenCV's frontal Haar cascade (Viola and Jones, 2001), which ships inside the wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from demeanor.features.sharing import Lending

#: Longest side of the picture that is searched, and the shortest side that small pictures are enlarged to.
SEARCHED, ENLARGED = 320, 192
#: A face is at least this share of the searched picture's shorter side.
SMALLEST = 0.15

Box = tuple[float, float, float]  # centre x, centre y, side; pixels

cv2.setNumThreads(1)  # one thread: sums then have one order, and threads or workers do not crowd each other


def _detector() -> Any:
    path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    return cv2.CascadeClassifier(str(path))


#: A detector keeps the picture that it works on: two threads in one find each other's faces.
_DETECTORS = Lending(_detector)


def find_face(grey: UInt8[np.ndarray, "height width"], before: Box | None = None) -> Box | None:
    """The biggest frontal face of a picture, or None.

    `before` is the face in a picture shortly before: one of at least half its size is looked for first, because
    small windows, of which there are most, take most of the time; smaller ones only if there is none.
    """
    height, width = grey.shape
    scale = min(SEARCHED / max(height, width), 1.0)
    scale = max(scale, min(ENLARGED / min(height, width), 4.0)) if min(height, width) * scale < ENLARGED / 2 else scale
    searched = grey
    if scale != 1.0:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        searched = cv2.resize(grey, size, interpolation=way)
    least = max(int(SMALLEST * min(searched.shape)), 20)
    expected = 0 if before is None else int(before[2] * scale / 2)
    if least < expected < min(searched.shape):
        return _biggest(searched, scale, expected) or _biggest(searched, scale, least)
    return _biggest(searched, scale, least)


def _biggest(searched: UInt8[np.ndarray, "height width"], scale: float, least: int) -> Box | None:
    """The biggest face of at least `least` pixels, measured in the picture of which `searched` is `scale` as large."""
    if min(searched.shape) < least:
        return None
    with _DETECTORS.lent() as detector:
        boxes = detector.detectMultiScale(searched, scaleFactor=1.1, minNeighbors=4, minSize=(least, least))
    if len(boxes) == 0:
        return None
    x, y, side, other = max(boxes, key=lambda box: (int(box[2]) * int(box[3]), -int(box[0]), -int(box[1])))
    return (x + side / 2) / scale, (y + other / 2) / scale, max(side, other) / scale


def centre_box(grey: UInt8[np.ndarray, "height width"]) -> Box:
    """The middle square of a picture, as if a face filled four fifths of it."""
    height, width = grey.shape
    return width / 2, height / 2, 0.8 * min(height, width)


def complete_track(detections: list[Box | None], before: Box | None = None) -> tuple[list[Box | None], list[bool]]:
    """Boxes for every frame: where the face was missed, the last one seen (`before` at the start), else the next.

    Jitter of the detector is taken out by the median over five frames. Second: was the face seen in this frame?
    """
    seen = [box is not None for box in detections]
    held = list(detections)
    last = before
    for n, box in enumerate(held):
        last = box if box is not None else last
        held[n] = last
    after = next((box for box in held if box is not None), None)
    held = [box if box is not None else after for box in held]
    if after is None:
        return held, seen
    boxes = np.array(held, dtype=np.float64)
    padded = np.concatenate([boxes[:1], boxes[:1], boxes, boxes[-1:], boxes[-1:]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0)
    return [tuple(box) for box in np.median(windows, axis=-1)], seen


def crop(image: np.ndarray, box: Box, side: int, margin: float) -> np.ndarray:
    """The square around `box`, enlarged by `margin`, as [side, side]; the picture's edge is repeated beyond it."""
    x, y, size = box
    scale = side / (size * (1 + margin))
    matrix = np.array([[scale, 0, side / 2 - scale * x], [0, scale, side / 2 - scale * y]], dtype=np.float64)
    # Shrinking by interpolation alone would alias; a blur of the right width comes first.
    if scale < 0.67:
        image = cv2.GaussianBlur(image, (0, 0), 0.5 / scale)
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
