"""A friendly drawn head, four times as large as it is filmed, with the light and shade that face detectors look for."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from demeanor.corpora.demo.speakers import Colour, Look

CANVAS = 384
_CENTRE = (192.0, 186.0)
_HALF_WIDTH, _HALF_HEIGHT = 102.0, 130.0
_FILMED = 96


@dataclass(frozen=True)
class Pose:
    """One moment: head offset in canvas pixels, roll in degrees, and the moving parts (see `face.Expression`)."""

    dx: float = 0.0
    dy: float = 0.0
    roll: float = 0.0
    opening: float = 0.0
    smile: float = 0.0
    brow_raise: float = 0.0
    brow_anger: float = 0.0
    brow_grief: float = 0.0
    lids: float = 1.0
    wrinkle: float = 0.0


class Backdrop:
    """The room behind a speaker: a wall lit from one side, and something on it."""

    def __init__(self, look: Look, random: np.random.Generator):
        across = np.linspace(-1, 1, CANVAS)[None, :, None] * random.uniform(-14, 14)
        down = np.linspace(8, -14, CANVAS)[:, None, None]
        wall = np.clip(np.array(look.wall, float)[None, None] + across + down, 0, 255).astype(np.uint8)
        self.picture = wall
        left = int(random.choice([10, 300]))
        top = int(random.integers(20, 90))
        frame = tuple(int(0.72 * value) for value in look.wall)
        inside = tuple(int(min(255, 1.08 * value)) for value in look.wall)
        cv2.rectangle(self.picture, (left, top), (left + 72, top + 96), frame, -1, cv2.LINE_AA)
        cv2.rectangle(self.picture, (left + 8, top + 8), (left + 64, top + 88), inside, -1, cv2.LINE_AA)

    def finish(self, picture: np.ndarray | None) -> UInt8[np.ndarray, "96 96 3"]:
        """The large picture (or the empty room) as it is filmed. `picture` [height, width, 3], 8 bits."""
        large = self.picture if picture is None else picture
        return cv2.resize(large, (_FILMED, _FILMED), interpolation=cv2.INTER_AREA)


class Portrait:
    """Draws one person's head and shoulders over a backdrop."""

    def __init__(self, look: Look):
        self.look = look
        self.half_width = _HALF_WIDTH * look.width
        self.half_height = _HALF_HEIGHT * look.height
        self.skin = self._shaded_skin()

    def front(self, backdrop: Backdrop, pose: Pose) -> np.ndarray:
        """The face as the camera sees it. [height, width, 3] of 8 bits, as large as the backdrop."""
        head = backdrop.picture.copy()
        self._back_hair(head)
        self._shoulders(head)
        self._skin(head)
        self._ears_and_front_hair(head)
        self._eyes(head, pose)
        self._brows(head, pose)
        self._nose(head, pose)
        self._mouth(head, pose)
        if self.look.glasses:
            self._glasses(head)
        return self._moved(head, backdrop, pose)

    def back(self, backdrop: Backdrop, pose: Pose) -> np.ndarray:
        """The same person turned away: hair and shoulders, no face.

        [height, width, 3] of 8 bits, as large as the backdrop.
        """
        head = backdrop.picture.copy()
        self._back_hair(head)
        self._shoulders(head)
        colour = _scaled(self.look.hair, 1.0) if self.look.hair_style != "bald" else _scaled(self.look.skin, 0.9)
        _ellipse(head, _CENTRE, (self.half_width + 6, self.half_height + 4), colour)
        for offset in (-50, -18, 20, 54):
            start = (_CENTRE[0] + offset * 0.5, _CENTRE[1] - self.half_height + 24)
            end = (_CENTRE[0] + offset * 1.2, _CENTRE[1] + self.half_height - 36)
            _line(head, [start, end], _scaled(colour, 0.88), 7)
        return self._moved(head, backdrop, pose)

    def _moved(self, head: np.ndarray, backdrop: Backdrop, pose: Pose) -> np.ndarray:
        # Head and shoulders sway around the chest; the wall stands still, since both are drawn on the same wall.
        matrix = cv2.getRotationMatrix2D((_CENTRE[0], 330.0), pose.roll, 1.0)
        matrix[:, 2] += (pose.dx, pose.dy)
        moved = cv2.warpAffine(head, matrix, (CANVAS, CANVAS), borderMode=cv2.BORDER_REPLICATE)
        changed = (np.abs(head.astype(np.int16) - backdrop.picture) > 2).any(axis=2).astype(np.float32)
        mask = cv2.warpAffine(changed, matrix, (CANVAS, CANVAS), borderMode=cv2.BORDER_REPLICATE)[:, :, None]
        return (mask * moved + (1 - mask) * backdrop.picture).astype(np.uint8)

    def _shaded_skin(self) -> np.ndarray:
        """Skin over the whole canvas: bright forehead, nose bridge and cheeks, dark eye sockets and rim."""
        rows, columns = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float32)
        x = (columns - _CENTRE[0]) / self.half_width
        y = (rows - _CENTRE[1]) / self.half_height

        def spot(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
            return np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)

        eye = 0.42 * self.look.eye_distance
        light = 1.0 - 0.20 * np.clip(x**2 + y**2 - 0.35, 0, 1)
        light += 0.08 * spot(0, -0.58, 0.55, 0.22) + 0.12 * spot(0, -0.05, 0.13, 0.34)
        light += 0.09 * (spot(-0.5, 0.2, 0.25, 0.16) + spot(0.5, 0.2, 0.25, 0.16)) + 0.05 * spot(0, 0.85, 0.3, 0.14)
        light -= 0.26 * (spot(-eye, -0.16, 0.27, 0.12) + spot(eye, -0.16, 0.27, 0.12))
        light -= 0.07 * spot(0, 0.66, 0.3, 0.06) + 0.06 * (spot(-0.13, 0.1, 0.05, 0.2) + spot(0.13, 0.1, 0.05, 0.2))
        picture = np.array(self.look.skin, np.float32)[None, None] * light[:, :, None]
        blush = 14 * (spot(-0.55, 0.26, 0.2, 0.14) + spot(0.55, 0.26, 0.2, 0.14))
        picture[:, :, 1:] -= blush[:, :, None]
        return np.clip(picture, 0, 255).astype(np.uint8)

    def _skin(self, head: np.ndarray) -> None:
        angles = np.linspace(0, 2 * np.pi, 120)
        # A jaw narrower than the temples: the lower half is drawn in a little.
        narrow = np.where(np.sin(angles) > 0, 1 - 0.16 * np.sin(angles) ** 2, 1.0)
        outline = np.stack(
            [
                _CENTRE[0] + self.half_width * np.cos(angles) * narrow,
                _CENTRE[1] + self.half_height * np.sin(angles),
            ],
            axis=1,
        )
        mask = np.zeros(head.shape[:2], np.uint8)
        _polygon(mask, outline, (255, 255, 255))
        share = mask[:, :, None].astype(np.float32) / 255
        head[:] = (share * self.skin + (1 - share) * head).astype(np.uint8)

    def _shoulders(self, head: np.ndarray) -> None:
        _polygon(head, [(158, 270), (226, 270), (236, 350), (148, 350)], _scaled(self.look.skin, 0.8))
        _ellipse(head, (192, 408), (168, 84), self.look.shirt)
        _ellipse(head, (192, 330), (46, 22), _scaled(self.look.skin, 0.84))

    def _back_hair(self, head: np.ndarray) -> None:
        colour, style = _scaled(self.look.hair, 0.85), self.look.hair_style
        x, y = _CENTRE
        if style == "long":
            _ellipse(head, (x, y + 26), (self.half_width + 30, self.half_height + 38), colour)
        elif style == "bob":
            _ellipse(head, (x, y - 4), (self.half_width + 26, self.half_height + 8), colour)
        elif style == "curly":
            for angle in np.linspace(np.pi * 0.93, 2.07 * np.pi, 13):
                centre = (
                    x + (self.half_width + 4) * np.cos(angle),
                    y - 12 + (self.half_height + 2) * np.sin(angle),
                )
                _ellipse(head, centre, (32, 32), colour)

    def _ears_and_front_hair(self, head: np.ndarray) -> None:
        x, y = _CENTRE
        style = self.look.hair_style
        if style in ("short", "bald"):
            for side in (-1, 1):
                ear = (x + side * (self.half_width + 2), y + 2)
                _ellipse(head, ear, (13, 25), _scaled(self.look.skin, 0.84))
        if style == "bald":
            return
        angles = np.linspace(np.pi, 2 * np.pi, 60)
        outer = np.stack(
            [x + (self.half_width + 7) * np.cos(angles), y - 16 + (self.half_height + 4) * np.sin(angles)],
            axis=1,
        )
        depth = {"short": 0.66, "long": 0.6, "curly": 0.64, "bob": 0.58}[style]
        inner = np.stack(
            [
                x + (self.half_width - 9) * np.cos(angles[::-1]),
                y - 16 + depth * self.half_height * np.sin(angles[::-1]),
            ],
            axis=1,
        )
        _polygon(head, np.concatenate([outer, inner]), self.look.hair)

    def _eyes(self, head: np.ndarray, pose: Pose) -> None:
        for side in (-1, 1):
            x = _CENTRE[0] + side * 0.42 * self.look.eye_distance * self.half_width
            y = _CENTRE[1] - 0.15 * self.half_height
            squint = 2.5 * max(pose.smile, 0.0) + 4.0 * pose.wrinkle
            upper = float(np.clip(13.5 * pose.lids, 1.0, 20.0))
            lower = float(np.clip(9.5 * min(pose.lids, 1.0) - squint, 0.5, 12.0))
            across = np.linspace(-1, 1, 25)
            arch = 1 - across**2
            top = np.stack([x + 25 * across, y - upper * arch], axis=1)
            bottom = np.stack([x + 25 * across, y + lower * arch], axis=1)
            almond = np.concatenate([top, bottom[::-1]])
            mask = np.zeros(head.shape[:2], np.uint8)
            _polygon(mask, almond, (255, 255, 255))
            ball = head.copy()
            _polygon(ball, almond, (236, 234, 230))
            _ellipse(ball, (x, y - 1), (12.5, 12.5), self.look.eyes)
            _ellipse(ball, (x, y - 1), (6.5, 6.5), (14, 12, 12))
            _ellipse(ball, (x + 4, y - 5), (2.5, 2.5), (250, 250, 250))
            share = mask[:, :, None].astype(np.float32) / 255
            head[:] = (share * ball + (1 - share) * head).astype(np.uint8)
            _line(head, top, (44, 30, 26), 5)
            _line(head, bottom, _scaled(self.look.skin, 0.58), 2)

    def _brows(self, head: np.ndarray, pose: Pose) -> None:
        colour = _scaled(self.look.hair, 0.8) if self.look.hair_style != "bald" else (70, 52, 42)
        for side in (-1, 1):
            eye = _CENTRE[0] + side * 0.42 * self.look.eye_distance * self.half_width
            base = _CENTRE[1] - 0.38 * self.half_height - 12.0 * pose.brow_raise + 3.0 * pose.wrinkle
            # Anger lowers the inner ends, grief raises them.
            inner = base + 15.0 * pose.brow_anger - 15.0 * pose.brow_grief
            outer = base - 4.0 * pose.brow_anger + 8.0 * pose.brow_grief
            pull = 7.0 * pose.brow_anger
            along = np.linspace(0, 1, 20)
            xs = eye + side * (-27 - pull + along * (58 + pull))
            ys = inner + (outer - inner) * along - 9.0 * np.sin(np.pi * along)
            _line(head, np.stack([xs, ys], axis=1), colour, round(10 * self.look.brow_thickness))

    def _nose(self, head: np.ndarray, pose: Pose) -> None:
        x, y = _CENTRE[0], _CENTRE[1] + 0.2 * self.half_height
        shade = _scaled(self.look.skin, 0.66)
        _ellipse(head, (x - 9, y), (4.5, 3), shade)
        _ellipse(head, (x + 9, y), (4.5, 3), shade)
        for side in (-1, 1):
            wing = [(x + side * 17, y - 12), (x + side * 20, y - 3), (x + side * 15, y + 3)]
            _line(head, wing, _scaled(self.look.skin, 0.74), 3)
            if pose.wrinkle > 0:
                for step in range(2):
                    start = (x + side * 5, y - 62 + 12 * step)
                    end = (x + side * 17, y - 56 + 12 * step)
                    _line(head, [start, end], _scaled(self.look.skin, 1 - 0.4 * min(pose.wrinkle, 1.0)), 4)
            # The fold from nose to mouth deepens with a smile and with disgust.
            depth = 0.04 + 0.12 * max(pose.smile, 0.0) + 0.12 * pose.wrinkle
            fold = [(x + side * 24, y - 2), (x + side * 44, y + 18), (x + side * 50, y + 38)]
            _line(head, fold, _scaled(self.look.skin, 0.95 - depth), 4)

    def _mouth(self, head: np.ndarray, pose: Pose) -> None:
        x, y = _CENTRE[0], _CENTRE[1] + 0.5 * self.half_height
        width = (42.0 + 10.0 * pose.smile - 5.0 * pose.opening - 3.0 * pose.wrinkle) * self.look.mouth_width
        across = np.linspace(-1, 1, 41)
        # Corners up and middle down when smiling; one parabola serves both lips.
        middle = y + 14.0 * pose.smile * (0.55 - across**2) - 4.0 * pose.wrinkle
        gap = (1 - across**2) * pose.opening
        upper, lower = middle - 7.0 * gap, middle + 23.0 * gap
        lips = (1 - np.abs(across) ** 2.5) * (8.0 - 2.5 * pose.brow_anger)
        xs = x + width * across
        red, green, blue = (int(0.5 * (own + lip)) for own, lip in zip(self.look.skin, (168, 58, 62), strict=True))
        outline = np.concatenate(
            [np.stack([xs, upper - lips], axis=1), np.stack([xs, lower + 1.25 * lips], axis=1)[::-1]]
        )
        _polygon(head, outline, (red, green, blue))
        if pose.opening > 0.06:
            inside = np.concatenate([np.stack([xs, upper], axis=1), np.stack([xs, lower], axis=1)[::-1]])
            _polygon(head, inside, (70, 22, 26))
            teeth = np.minimum(upper + 7.0, lower)
            keep = np.abs(across) < 0.75
            row = np.concatenate([np.stack([xs, upper], axis=1)[keep], np.stack([xs, teeth], axis=1)[keep][::-1]])
            _polygon(head, row, (238, 234, 226))
        else:
            _line(head, np.stack([xs, middle], axis=1), (104, 40, 42), 4)

    def _glasses(self, head: np.ndarray) -> None:
        y = _CENTRE[1] - 0.15 * self.half_height
        for side in (-1, 1):
            x = _CENTRE[0] + side * 0.42 * self.look.eye_distance * self.half_width
            cv2.ellipse(head, (round(x), round(y)), (34, 27), 0, 0, 360, (66, 60, 60), 3, cv2.LINE_AA)
        half = round(0.42 * self.look.eye_distance * self.half_width) - 34
        cv2.line(head, (192 - half, round(y) - 4), (192 + half, round(y) - 4), (66, 60, 60), 3, cv2.LINE_AA)


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(np.clip(value * factor, 0, 255)) for value in colour)
    return red, green, blue


_FRACTION_BITS = 4


def _points(points) -> np.ndarray:
    return np.round(np.asarray(points, float) * 2**_FRACTION_BITS).astype(np.int32).reshape(-1, 1, 2)


def _polygon(picture: np.ndarray, points, colour: Colour) -> None:
    cv2.fillPoly(picture, [_points(points)], colour, cv2.LINE_AA, _FRACTION_BITS)


def _line(picture: np.ndarray, points, colour: Colour, thickness: int) -> None:
    cv2.polylines(picture, [_points(points)], False, colour, thickness, cv2.LINE_AA, _FRACTION_BITS)


def _ellipse(picture: np.ndarray, centre, axes, colour: Colour) -> None:
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    points = np.stack([centre[0] + axes[0] * np.cos(angles), centre[1] + axes[1] * np.sin(angles)], axis=1)
    _polygon(picture, points, colour)
