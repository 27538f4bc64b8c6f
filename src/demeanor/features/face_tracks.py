"""Several faces through the pictures of a clip: found by BlazeFace, followed by the landmarks of the face mesh.

A face is looked for in the whole picture only where none is being followed, where one was lost, and every
LOOK_AGAIN seconds for those that came in; otherwise the landmarks of one picture say where to look in the next.
The presence that the mesh gives with its points decides whether a face is there.
"""

from __future__ import annotations

from collections.abc import Iterator
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
#: The mesh is drawn on a square this many times as large as the face.
AROUND = 1.5
#: Logit from which a face counts as present (a probability of one half).
PRESENT = 0.0
#: Outer corners of the eyes as the camera sees them, left in the picture first: their line is the face's tilt.
EYES = (33, 263)


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
        cosine, sine = scale * np.cos(self.angle), scale * np.sin(self.angle)
        middle = size / 2
        return np.array(
            [
                [cosine, sine, middle - cosine * self.x - sine * self.y],
                [-sine, cosine, middle + sine * self.x - cosine * self.y],
            ]
        )

    def to_picture(self, points: np.ndarray, size: int) -> np.ndarray:
        """Points [n, 2 or 3] of the crop in pixels of the picture; depth is scaled alike."""
        scale = self.side / size
        cosine, sine = scale * np.cos(self.angle), scale * np.sin(self.angle)
        across, down = points[:, 0] - size / 2, points[:, 1] - size / 2
        parts = [cosine * across - sine * down + self.x, sine * across + cosine * down + self.y]
        return np.stack([*parts, *(scale * points[:, n] for n in range(2, points.shape[1]))], axis=1)


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
    picture = crop(image, whole, 128).astype(np.float32) / 127.5 - 1.0
    scores, places = network(DETECTION, folder)(picture)
    likely = np.flatnonzero(scores > np.log(LEAST_SCORE / (1 - LEAST_SCORE)))
    if len(likely) == 0:
        return []
    values = places.reshape(896, 8, 2)[likely] / 128
    values[:, [0, 2, 3, 4, 5, 6, 7]] += _anchors()[likely][:, None]
    weights = 1 / (1 + np.exp(-np.clip(scores[likely], -100, 100)))
    found = []
    order = list(np.argsort(-weights, kind="stable"))
    while order:
        best = order[0]
        box = _corners(values[best, 0], values[best, 1])
        near = [n for n in order if n == best or overlap(box, _corners(values[n, 0], values[n, 1])) > OVERLAP]
        order = [n for n in order if n not in near]
        # Boxes of one face are averaged: that shakes less than taking the best of them.
        mean = np.average(values[near], axis=0, weights=weights[near])
        (right, left) = mean[2], mean[3]
        angle = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
        centre = whole.to_picture(mean[:1] * 128, 128)[0]
        side = AROUND * float(mean[1].max()) * whole.side
        if side > 0:
            found.append(Region(float(centre[0]), float(centre[1]), side, angle))
    return sorted(found, key=lambda region: -region.side)


def _corners(centre: np.ndarray, size: np.ndarray) -> tuple[float, float, float, float]:
    x, y, width, height = float(centre[0]), float(centre[1]), float(size[0]), float(size[1])
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Intersection by union of two boxes (left, top, right, bottom)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(width * height / (sum(areas) - width * height))


def _box(region: Region) -> tuple[float, float, float, float]:
    return _corners(np.array([region.x, region.y]), np.full(2, region.side))


def mesh(
    image: UInt8[np.ndarray, "height width 3"], region: Region, folder: str | None = None
) -> tuple[Float[np.ndarray, "468 3"], float]:
    """Points in pixels of the picture (depth in the same unit, smaller is nearer), and the logit of presence."""
    presence, points = network(LANDMARKS, folder)(crop(image, region, 192).astype(np.float32) / 255.0)
    return region.to_picture(points.reshape(468, 3).astype(np.float64), 192), float(presence[0])


def region_of(points: Float[np.ndarray, "468 3"]) -> Region:
    """Where to draw the mesh in the next picture."""
    right, left = points[EYES[0]], points[EYES[1]]
    angle = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = points[:, :2] @ np.array([[cosine, -sine], [sine, cosine]])
    low, high = turned.min(axis=0), turned.max(axis=0)
    x, y = (low + high) / 2
    side = AROUND * float((high - low).max())
    return Region(float(cosine * x - sine * y), float(sine * x + cosine * y), max(side, 1.0), angle)


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

    def follow(self, image: UInt8[np.ndarray, "height width 3"]) -> Iterator[tuple[int, Float[np.ndarray, "468 3"]]]:
        """(number of the face, its points in pixels) for every face of the next picture."""
        now = self.pictures
        self.pictures += 1
        seen: list[tuple[_Track, np.ndarray]] = []
        lost: list[_Track] = []
        for track in self.tracks:
            alive = track.seen == now - 1 and self._draw(image, track, track.region, seen, now)
            if not alive and now - track.seen <= KEPT * self.rate + 1:
                lost.append(track)
        newly_lost = any(track.seen == now - 1 for track in lost)
        due = now % max(round(LOOK_AGAIN * self.rate), 1) == 0
        if not seen or newly_lost or due:
            self._search(image, seen, lost, now)
        self.tracks = [track for track, _ in seen] + [track for track in lost if track.seen != now]
        for track, points in seen:
            yield track.number, points

    def _draw(
        self, image: np.ndarray, track: _Track, region: Region, seen: list[tuple[_Track, np.ndarray]], now: int
    ) -> bool:
        """Is the face there, and not one that another track has already? Then it is added to `seen`."""
        points, presence = mesh(image, region, self.folder)
        if presence < PRESENT or not np.isfinite(points).all():
            return False
        following = region_of(points)
        if any(overlap(_box(following), _box(other.region)) > SAME for other, _ in seen):
            return False
        track.region, track.seen = following, now
        seen.append((track, points))
        return True

    def _search(self, image: np.ndarray, seen: list[tuple[_Track, np.ndarray]], lost: list[_Track], now: int) -> None:
        for region in find_faces(image, self.folder)[:MOST]:
            if len(seen) >= MOST:
                return
            if any(overlap(_box(region), _box(track.region)) > OVERLAP for track, _ in seen):
                continue
            known = [track for track in lost if track.seen != now and overlap(_box(region), _box(track.region)) > 0]
            track = max(known, key=lambda one: overlap(_box(region), _box(one.region)), default=None)
            if track is not None:
                self._draw(image, track, region, seen, now)
            elif self._draw(image, _Track(self.given, region, -1), region, seen, now):
                self.given += 1
