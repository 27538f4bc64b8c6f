"""Any Hugging Face image or video encoder on the face crops: CLIP, DINOv2, ViT, VideoMAE and their like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from demeanor.data.settings import Settings
from demeanor.features.base import Clip, Extractor
from demeanor.features.faces import Box, centre_box, complete_track, crop, find_face
from demeanor.features.hub import load_model, picture_normalisation, resolve
from demeanor.features.prefetch import prefetch
from demeanor.features.vision import BLOCK
from demeanor.kernels.halves import in_half

#: Pictures per forward pass.
TOGETHER = 32


class PictureSettings(Settings):
    """`model`: a local folder or a hub id. `region`: the face (the centre of the picture where none is found), or
    the middle square of every picture."""

    model: str
    rate: float = Field(default=5.0, gt=0, description="pictures per second")
    region: Literal["face", "centre"] = "face"
    margin: float = Field(default=0.3, ge=0)
    longest_side: int = Field(default=640, ge=32)
    half: bool = False


class _PictureEncoder(Extractor):
    """What both share: square crops, scaled to the encoder's size and colours."""

    reads = frozenset({"video"})
    licence = "that of the model"
    batched = True
    apart = True
    settings_type: ClassVar[type[Settings]] = PictureSettings
    stream = "vision.frames"

    @property
    def version(self) -> str:
        return f"1, opencv {cv2.__version__}"

    @cached_property
    def config(self) -> Any:
        config = resolve(self.settings.model).config
        return getattr(config, "vision_config", config)

    @property
    def dimension(self) -> int:
        return int(self.config.hidden_size)

    @property
    def weights_sha256(self) -> str | None:
        return resolve(self.settings.model).weights_sha256

    @cached_property
    def model(self) -> Any:
        kind = {"clip": "CLIPVisionModel", "clip_vision_model": "CLIPVisionModel"}.get(self.config.model_type)
        return load_model(self.settings.model, kind or "AutoModel")

    def crops(self, clip: Clip) -> Iterator[UInt8[np.ndarray, "side side 3"]]:
        """Squares of the encoder's size, one per 1/rate seconds."""
        size = self.config.image_size
        side = int(size if isinstance(size, int) else size[0])
        before: Box | None = None
        block: list[np.ndarray] = []
        for _, image in clip.frames(self.settings.rate, self.settings.longest_side):
            block.append(image)
            if len(block) == BLOCK:
                squares, before = self._squares(block, before, side)
                yield from squares
                block = []
        yield from self._squares(block, before, side)[0]

    def _squares(self, block: list[np.ndarray], before: Box | None, side: int) -> tuple[list[np.ndarray], Box | None]:
        if not block:
            return [], before
        track: list[Box | None] = [None] * len(block)
        if self.settings.region == "face":
            greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in block]
            track, _ = complete_track([find_face(grey) for grey in greys], before)
        squares = []
        for image, box in zip(block, track, strict=True):
            if box is None:  # the whole middle square
                x, y, _ = centre_box(image[..., 0])
                squares.append(crop(image, (x, y, min(image.shape[:2])), side, 0.0))
            else:
                squares.append(crop(image, box, side, self.settings.margin))
        return squares, track[-1]

    def _pixels(self, squares: Sequence[np.ndarray]) -> Float[Tensor, "pictures 3 side side"]:
        mean, deviation = (torch.tensor(part).view(1, 3, 1, 1) for part in picture_normalisation(self.settings.model))
        values = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255.0
        return ((values - mean) / deviation).to(next(self.model.parameters()).device)

    def _encode(self, pixels: Tensor) -> Any:
        with torch.inference_mode(), in_half(pixels.device, self.settings.half):
            return self.model(pixel_values=pixels)

    def extract(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        return [self._values(clip) for clip in clips]

    def _values(self, clip: Clip) -> np.ndarray:
        raise NotImplementedError

    def cost(self, clip: Clip) -> float:
        return (clip.end or 0.0) - clip.start


class ImageStates(_PictureEncoder):
    """`vision.frames`: one state per picture, [T, D] float32 at `rate` per second: the encoder's pooled output if it
    has one (CLIP, ViT with pooler, DINOv2), else the first token's last state. Absent without video."""

    name = "hf_image"
    unit = "frame"

    @property
    def rate(self) -> float | None:
        return self.settings.rate

    def _values(self, clip: Clip) -> np.ndarray:
        rows, held = [], []
        for square in prefetch(self.crops(clip), 2 * TOGETHER):
            held.append(square)
            if len(held) == TOGETHER:
                rows.append(self._states(held))
                held = []
        rows += [self._states(held)] if held else []
        return np.concatenate(rows) if rows else self.absent

    def _states(self, squares: list[np.ndarray]) -> np.ndarray:
        output = self._encode(self._pixels(squares))
        pooled = getattr(output, "pooler_output", None)
        return (output.last_hidden_state[:, 0] if pooled is None else pooled).float().cpu().numpy()


class VideoStates(_PictureEncoder):
    """`vision.frames`: one state per window of successive pictures (16 for VideoMAE), the mean over its tokens,
    [T, D] float32 at rate / 16 per second; the last picture fills an incomplete window. Absent without video."""

    name = "hf_video"
    unit = "window"

    @property
    def _window(self) -> int:
        return int(self.config.num_frames)

    @property
    def rate(self) -> float | None:
        return self.settings.rate / self._window

    def _values(self, clip: Clip) -> np.ndarray:
        rows, held = [], []
        for square in prefetch(self.crops(clip), 2 * TOGETHER):
            held.append(square)
            if len(held) == self._window:
                rows.append(self._state(held))
                held = []
        if held:
            rows.append(self._state(held + [held[-1]] * (self._window - len(held))))
        return np.stack(rows) if rows else self.absent

    def _state(self, squares: list[np.ndarray]) -> np.ndarray:
        return self._encode(self._pixels(squares)[None]).last_hidden_state[0].mean(dim=0).float().cpu().numpy()
