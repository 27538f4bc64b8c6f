"""Several faces through the pictures of a clip: found by BlazeFace, followed by the landmarks of the face mesh.

A face is looked for in the whole picture only where none is being followed, where one was lost, and every
LOOK_AGAIN seconds for those that came in; otherwise the landmarks of one picture say where to look in the next.
The presence that the mesh gives with its points decides whether a face is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from demeanor.features.face_models import DETECTION, LANDMARKS, network

#: Seconds after which other faces are looked for while all those known are still seen.
LOOK_AGAIN = 1.0
#: Seconds for which a lost face keeps its number: whoever is found near its place after that is somebody else.
KEPT = 1.0
#: Faces that are followed at once: the biggest ones.
MOST = 4
#: Least score of a detection; overlap (intersection by union) from which two boxes are one face.
LEAST_SCORE, OVERLAP, SAME = 0.5, 0.3, 0.5
#: The mesh is drawn on a square this many times as large as the face, of so many pixels.
AROUND, SIZE = 1.5, 192
#: Logit from which a face counts as present (a probability of one half).
PRESENT = 0.0
#: Outer corners of the eyes as the camera sees them, left in the picture first: their line is the face's tilt.
EYES = (33, 263)


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Region:
    """A square of the picture: centre and side in pixels, turned by `angle` (radians, clockwise as seen)."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def to_crop(self, size: int) -> Float[np.ndarray, "2 3"]:
        """Maps points of the picture to those of the crop of that size."""
        scale = size / self.side
        cosine, sine = scale * math.cos(self.angle), scale * math.sin(self.angle)
        middle = size / 2
        return np.array(
            [
                [cosine, sine, middle - cosine * self.x - sine * self.y],
                [-sine, cosine, middle + sine * self.x - cosine * self.y],
            ]
        )

    def within(self, inner: Region, size: int) -> Region:
        """In the picture, a region that is given in the crop of this one of that size."""
        scale = self.side / size
        cosine, sine = scale * math.cos(self.angle), scale * math.sin(self.angle)
        across, down = inner.x - size / 2, inner.y - size / 2
        return Region(
            cosine * across - sine * down + self.x, sine * across + cosine * down + self.y,
            scale * inner.side, self.angle + inner.angle,
        )  # fmt: skip

    @property
    def box(self) -> Box:
        """Left, top, right, bottom of the square as if it stood upright."""
        half = self.side / 2
        return self.x - half, self.y - half, self.x + half, self.y + half


def to_picture(
    regions: Sequence[Region], points: Float[np.ndarray, "regions points axes"], size: int
) -> Float[np.ndarray, "regions points axes"]:
    """Points (x, y and perhaps depth, which is scaled alike) of each region's crop in pixels of the picture."""
    x, y, side, angle = np.array([(one.x, one.y, one.side, one.angle) for one in regions]).T[:, :, None]
    scale = side / size
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    across, down = points[..., 0] - size / 2, points[..., 1] - size / 2
    parts = [cosine * across - sine * down + x, sine * across + cosine * down + y]
    return np.stack([*parts, *(scale * points[..., n] for n in range(2, points.shape[2]))], axis=2)


def crop(image: UInt8[np.ndarray, "height width 3"], region: Region, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The region as a small picture; black beyond the edge. Large regions are averaged, not sampled."""
    matrix = region.to_crop(size)
    step = int(region.side / size)
    if step > 1:
        height, width = image.shape[0] // step, image.shape[1] // step
        if min(height, width) > 0:
            image = cv2.resize(image[: height * step, : width * step], (width, height), interpolation=cv2.INTER_AREA)
            # A pixel's centre lies half a pixel inside: (x + 0.5) / step - 0.5.
            matrix[:, 2] += matrix[:, :2].sum(axis=1) * (step - 1) / 2
            matrix[:, :2] *= step
    return np.asarray(cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR))


@lru_cache(maxsize=1)
def _anchors() -> Float32[np.ndarray, "896 2"]:
    """Centres of BlazeFace's anchors as shares of its input: 2 in each of 16 x 16 cells, 6 in each of 8 x 8."""
    parts = []
    for cells, count in ((16, 2), (8, 6)):
        rows, columns = np.mgrid[0:cells, 0:cells]
        centres = np.stack([columns, rows], axis=-1).reshape(-1, 2)
        parts.append(np.repeat((centres + 0.5) / cells, count, axis=0))
    return np.concatenate(parts).astype(np.float32)


def find_faces(image: UInt8[np.ndarray, "height width 3"], folder: str | None = None) -> list[Region]:
    """Regions for the mesh around every face, the biggest first."""
    height, width = image.shape[:2]
    whole = Region(width / 2, height / 2, max(height, width))
    scores, places = network(DETECTION, folder)(crop(image, whole, 128), 1 / 127.5, -1.0)
    likely = np.flatnonzero(scores > np.log(LEAST_SCORE / (1 - LEAST_SCORE)))
    if len(likely) == 0:
        return []
    values = places.reshape(896, 8, 2)[likely] / 128
    values[:, [0, 2, 3, 4, 5, 6, 7]] += _anchors()[likely][:, None]
    weights = 1 / (1 + np.exp(-np.clip(scores[likely], -100, 100)))
    low, high = values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2
    boxes: list[Box] = [tuple(box) for box in np.concatenate([low, high], axis=1).tolist()]
    found = []
    order = list(np.argsort(-weights, kind="stable"))
    while order:
        best = order[0]
        box = boxes[best]
        near = [n for n in order if n == best or overlap(box, boxes[n]) > OVERLAP]
        order = [n for n in order if n not in near]
        # Boxes of one face are averaged: that shakes less than taking the best of them.
        mean = np.average(values[near], axis=0, weights=weights[near])
        (right, left) = mean[2], mean[3]
        angle = math.atan2(left[1] - right[1], left[0] - right[0])
        (x, y), side = mean[0].tolist(), AROUND * float(mean[1].max())
        if side > 0:
            found.append(whole.within(Region(128 * x, 128 * y, 128 * side, angle), 128))
    return sorted(found, key=lambda region: -region.side)


def overlap(one: Box, other: Box) -> float:
    """Intersection by union of two boxes (left, top, right, bottom)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(width * height / (sum(areas) - width * height))


def mesh(
    image: UInt8[np.ndarray, "height width 3"], region: Region, folder: str | None = None
) -> tuple[Float32[np.ndarray, "468 3"], float]:
    """Points in pixels of the region's crop of SIZE (depth in the same unit, smaller is nearer), and the logit of
    presence."""
    presence, points = network(LANDMARKS, folder)(crop(image, region, SIZE), 1 / 255, 0.0)
    return points.reshape(468, 3), float(presence[0])


def region_of(points: Float[np.ndarray, "468 3"]) -> Region:
    """Where to draw the mesh in the next picture, where these are its points in this one."""
    (right_x, right_y), (left_x, left_y) = points[EYES, :2].tolist()
    angle = math.atan2(left_y - right_y, left_x - right_x)
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = points[:, :2] @ np.array([[cosine, -sine], [sine, cosine]], points.dtype)
    (left, top), (right, bottom) = turned.min(axis=0).tolist(), turned.max(axis=0).tolist()
    x, y = (left + right) / 2, (top + bottom) / 2
    side = AROUND * max(right - left, bottom - top)
    return Region(cosine * x - sine * y, sine * x + cosine * y, max(side, 1.0), angle)


@dataclass(frozen=True)
class Sighting:
    """One face in one picture: `points` in pixels of the crop of `region`, SIZE large, and the square around them, in
    the picture, turned as the face is."""

    number: int
    region: Region
    points: Float32[np.ndarray, "468 3"]
    around: Region


@dataclass
class _Track:
    number: int
    region: Region
    seen: int


@dataclass
class Tracker:
    """The faces of one clip; `rate` pictures per second. A number stays with its face."""

    rate: float
    folder: str | None = None
    tracks: list[_Track] = field(default_factory=list)
    pictures: int = 0
    given: int = 0

    def follow(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Sighting]:
        """Every face of the next picture."""
        now = self.pictures
        self.pictures += 1
        seen: list[Sighting] = []
        lost: list[_Track] = []
        for track in self.tracks:
            alive = track.seen == now - 1 and self._draw(image, track, track.region, seen, now)
            if not alive and now - track.seen <= KEPT * self.rate + 1:
                lost.append(track)
        newly_lost = any(track.seen == now - 1 for track in lost)
        due = now % max(round(LOOK_AGAIN * self.rate), 1) == 0
        followed = [track for track in self.tracks if track.seen == now]
        if not seen or newly_lost or due:
            followed += self._search(image, seen, lost, now)
        self.tracks = followed + [track for track in lost if track.seen != now]
        return seen

    def _draw(self, image: np.ndarray, track: _Track, region: Region, seen: list[Sighting], now: int) -> bool:
        """Is the face there, and not one that another track has already? Then it is added to `seen`."""
        points, presence = mesh(image, region, self.folder)
        if presence < PRESENT or not np.isfinite(points).all():
            return False
        following = region.within(region_of(points), SIZE)
        if any(overlap(following.box, other.around.box) > SAME for other in seen):
            return False
        track.region, track.seen = following, now
        seen.append(Sighting(track.number, region, points, following))
        return True

    def _search(self, image: np.ndarray, seen: list[Sighting], lost: list[_Track], now: int) -> list[_Track]:
        """Tracks that were found again or begun."""
        begun: list[_Track] = []
        for region in find_faces(image, self.folder)[:MOST]:
            if len(seen) >= MOST:
                break
            if any(overlap(region.box, other.around.box) > OVERLAP for other in seen):
                continue
            known = [track for track in lost if track.seen != now and overlap(region.box, track.region.box) > 0]
            track = max(known, key=lambda one: overlap(region.box, one.region.box), default=None)
            if track is not None:
                begun += [track] if self._draw(image, track, region, seen, now) else []
            elif self._draw(image, fresh := _Track(self.given, region, -1), region, seen, now):
                self.given += 1
                begun.append(fresh)
        return begun
