"""Faces without downloaded weights: appearance, shape and motion of the face crop, at a fixed rate.

Columns of `face_descriptors` (242 in all):

  geometry 6   seen (1 found in this frame, 0 carried over or centre crop), centre x and y and side of the box as
               shares of the picture, and the speed of the centre (box sides per second)
  dct 64       8 x 8 lowest coefficients of the discrete cosine transform of the 64 x 64 crop, without its mean
  brows 32     8 x 4 lowest coefficients of the region of eyes and brows (32 x 16)
  mouth 32     8 x 4 lowest coefficients of the region of the mouth (32 x 16)
  hog 96       histograms of oriented gradients (Dalal and Triggs, 2005): 4 x 4 cells, 6 orientations
  flow 12      dense optical flow (DIS, Kroeger et al., 2016) from the previous crop over face, brows and mouth:
               mean x, mean y, mean and deviation of the length, in crop pixels per frame

Crops are grey, equalised (CLAHE) and scaled to mean 0 and deviation 1, so that light and skin weigh little.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import Field

from demeanor.data.settings import Settings
from demeanor.features.base import Clip, Extractor
from demeanor.features.faces import Box, centre_box, complete_track, crop, find_face

SIDE = 64
#: Rows and columns of the regions within the crop (with the margin of 0.2 around the detector's box).
BROWS = (slice(14, 34), slice(8, 56))
MOUTH = (slice(38, 60), slice(14, 50))
GROUPS = {"geometry": 6, "dct": 64, "brows": 32, "mouth": 32, "hog": 96, "flow": 12}
#: Frames that are held in memory at once.
BLOCK = 128


class FaceSettings(Settings):
    """How often to look, and what to do where there is no face.

    A clip counts as without a face if one was found in less than `least_share` of its frames. Then, by `fallback`,
    vision is absent, or the centre of the picture stands for the face, with column `seen` 0.
    """

    rate: float = Field(default=5.0, gt=0, description="frames per second")
    fallback: Literal["absent", "centre"] = "absent"
    least_share: float = Field(default=0.1, ge=0, le=1)
    margin: float = Field(default=0.2, ge=0, description="added around the detector's box, as a share of it")
    longest_side: int = Field(default=640, ge=32, description="larger pictures are scaled down to this")


class FaceDescriptors(Extractor):
    """`vision.frames`: descriptors of the biggest frontal face, [T, 242] float32 at `rate` frames per second."""

    name = "face_descriptors"
    stream = "vision.frames"
    reads = frozenset({"video"})
    unit = "frame"
    licence = "Apache-2.0 (OpenCV and its frontal face cascade: Intel licence, BSD-like)"
    settings_type: ClassVar[type[Settings]] = FaceSettings

    @property
    def version(self) -> str:
        return f"opencv {cv2.__version__}"

    @property
    def dimension(self) -> int:
        return sum(GROUPS.values())

    @property
    def names(self) -> list[str]:
        """Of the columns, for example mouth_7."""
        return [f"{group}_{n}" for group, count in GROUPS.items() for n in range(count)]

    @property
    def rate(self) -> float:
        return self.settings.rate

    def extract_clip(self, clip: Clip) -> np.ndarray:
        rows: list[np.ndarray] = []
        seen = 0
        describer = _Describer(self.settings)
        for block in self._blocks(clip):
            values, found = describer.describe(block)
            rows.append(values)
            seen += found
        if not rows:
            return self.absent
        values = np.concatenate(rows)
        without_face = seen == 0 or seen < self.settings.least_share * len(values)
        return self.absent if without_face and self.settings.fallback == "absent" else values

    def _blocks(self, clip: Clip) -> Iterator[list[np.ndarray]]:
        block: list[np.ndarray] = []
        for _, image in clip.frames(self.settings.rate, self.settings.longest_side):
            block.append(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
            if len(block) == BLOCK:
                yield block
                block = []
        if block:
            yield block

    def cost(self, clip: Clip) -> float:
        return (clip.end or 0.0) - clip.start


class _Describer:
    """Goes through the frames of one clip, remembering box and crop from block to block."""

    def __init__(self, settings: FaceSettings):
        self.settings = settings
        self.box: Box | None = None
        self.centre: np.ndarray | None = None
        self.crop: np.ndarray | None = None
        # Each of them keeps something while it works, so that no two clips may share one.
        self.flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self.gradients = cv2.HOGDescriptor((SIDE, SIDE), (32, 32), (32, 32), (16, 16), 6)
        self.equaliser = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(4, 4))

    def describe(self, frames: list[np.ndarray]) -> tuple[Float32[np.ndarray, "frames columns"], int]:
        """Descriptors of some successive grey frames, and in how many of them the face was found."""
        boxes: list[Box | None] = []
        last = self.box
        for frame in frames:
            boxes.append(find_face(frame, last))
            last = boxes[-1] or last
        track, seen = complete_track(boxes, self.box)
        self.box = track[-1]
        rows = []
        for frame, box, there in zip(frames, track, seen, strict=True):
            rows.append(self._row(frame, box if box is not None else centre_box(frame), there))
        return np.stack(rows), sum(seen)

    def _row(self, frame: UInt8[np.ndarray, "height width"], box: Box, found: bool) -> np.ndarray:
        height, width = frame.shape
        x, y, side = box
        centre = np.array([x, y])
        moved = 0.0 if self.centre is None else float(np.linalg.norm(centre - self.centre)) / side * self.settings.rate
        self.centre = centre
        geometry = [float(found), x / width, y / height, side / min(width, height), moved, width / height]
        face = self.equaliser.apply(crop(frame, box, SIDE, self.settings.margin))
        scaled = face.astype(np.float32)
        scaled = (scaled - scaled.mean()) / max(float(scaled.std()), 1.0)
        whole = np.asarray(cv2.dct(scaled))[:8, :8].ravel() / SIDE
        whole[0] = 0.0
        parts: list[np.ndarray] = [
            np.asarray(geometry, np.float32), whole, _region(scaled, BROWS), _region(scaled, MOUTH),
            np.asarray(self.gradients.compute(face)).ravel(), self._motion(face),
        ]  # fmt: skip
        self.crop = face
        return np.concatenate(parts).astype(np.float32)

    def _motion(self, face: UInt8[np.ndarray, "side side"]) -> np.ndarray:
        if self.crop is None:
            return np.zeros(GROUPS["flow"], np.float32)
        flow = self.flow.calc(self.crop, face, None)
        values = []
        for region in ((slice(None), slice(None)), BROWS, MOUTH):
            part = flow[region]
            length = np.sqrt((part**2).sum(axis=-1))
            values += [part[..., 0].mean(), part[..., 1].mean(), length.mean(), length.std()]
        return np.asarray(values, np.float32)


def _region(scaled: np.ndarray, where: tuple[slice, slice]) -> np.ndarray:
    """[32] lowest coefficients of one region, across before down."""
    part = cv2.resize(scaled[where], (32, 16), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.dct(part))[:4, :8].ravel() / 16
