"""What people who work with faces look at, measured on the points of the face mesh.

A face is first turned to the front: the rotation and scale between its rigid points (eye corners, bridge and base of
the nose, forehead, temples) and their usual places are found by least squares (Kabsch, 1976), so that nodding, turning
and leaning change the pose and not the mouth. Lengths are in units of the distance between the eyes (between the
middles of their corners). Left and right are those of the person; x grows to the person's left, y upwards, z forwards.

USUAL, the usual places, was derived with this module's own models: meshes of 269 pictures of the drawn faces of the
demo's training split, which look at the camera, and of 111 of two public films of real faces were fitted onto each
other, averaged, and made symmetric. Drawn and real differ by .05 at most.

  mouth_opening, mouth_width     between the lips' inner edges; between the corners
  lip_corner_right, _left, lip_corners, lip_corner_asymmetry
                                 height of the corners over the middle of the lips; mean; left less right
  upper_lip                      height of the upper lip over the base of the nose (negative)
  brow_inner_right, _left, brow_outer_right, _left, brow_inner, brow_outer
                                 height of the brows' ends over the line of the eyes; means
  brow_furrow                    how near the brows' inner ends are: 1 less their distance
  eye_opening_right, _left, eye_opening   between the lids; mean
  nose_wrinkle                   height of the nose's wings over the line of the eyes, plus 1
  cheek_raise                    height of the cheeks over the line of the eyes, plus 1
  pitch, yaw, roll               degrees: up, to the person's left, leaning to the person's left (the camera's right)
  gaze_across, gaze_up           the irises' place in the eyes, in widths of an eye: to the person's left, up
  face_x, face_y, face_size      where the face is: shares of the picture's width and height, of its shorter side
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

USUAL: dict[int, tuple[float, float, float]] = {
    33: (-0.723, -0.158, 0.156), 263: (0.723, -0.158, 0.156),
    133: (-0.277, -0.174, 0.245), 362: (0.277, -0.174, 0.245),
    127: (-1.106, -0.277, -0.618), 356: (1.106, -0.277, -0.618),
    234: (-1.092, -0.502, -0.660), 454: (1.092, -0.502, -0.660),
    54: (-0.941, 0.368, -0.151), 284: (0.941, 0.368, -0.151),
    21: (-1.041, 0.171, -0.319), 251: (1.041, 0.171, -0.319),
    162: (-1.093, -0.032, -0.493), 389: (1.093, -0.032, -0.493),
    103: (-0.786, 0.528, 0.033), 332: (0.786, 0.528, 0.033),
    168: (0.000, -0.035, 0.491),
    6: (0.000, -0.161, 0.577),
    197: (0.000, -0.264, 0.672),
    10: (0.000, 0.701, 0.318),
    151: (0.000, 0.471, 0.402),
    9: (0.000, 0.243, 0.473),
    2: (0.000, -0.803, 0.684),
}  # fmt: skip
RIGID = tuple(USUAL)
LIPS = {"inner": (13, 14), "corners": (61, 291), "outer": (0, 17)}
BROWS = {"inner": ((55, 107), (285, 336)), "outer": ((46, 70), (276, 300))}
LIDS = (((159, 145), (158, 153), (160, 144)), ((386, 374), (385, 380), (387, 373)))
CORNERS = ((33, 133), (263, 362))
NOSE_BASE, WINGS, CHEEKS = 2, (98, 327), (50, 280)
NEEDED: tuple[int, ...] = tuple(
    sorted(
        {
            *RIGID, *LIPS["inner"], *LIPS["corners"], *LIPS["outer"], NOSE_BASE, *WINGS, *CHEEKS,
            *(point for ends in BROWS.values() for side in ends for point in side),
            *(point for side in LIDS for pair in side for point in pair),
        }
    )
)  # fmt: skip
"""Points of the 468 that are measured; only they are held while a clip is read."""

SHAPE = (
    "mouth_opening", "mouth_width", "lip_corner_right", "lip_corner_left", "lip_corners", "lip_corner_asymmetry",
    "upper_lip", "brow_inner_right", "brow_inner_left", "brow_outer_right", "brow_outer_left", "brow_inner",
    "brow_outer", "brow_furrow", "eye_opening_right", "eye_opening_left", "eye_opening", "nose_wrinkle", "cheek_raise",
)  # fmt: skip
POSE, GAZE, PLACE = ("pitch", "yaw", "roll"), ("gaze_across", "gaze_up"), ("face_x", "face_y", "face_size")
MEASURES = (*SHAPE, *POSE, *GAZE, *PLACE)


def to_front(
    points: Float[np.ndarray, "steps points 3"],
) -> tuple[Float[np.ndarray, "steps points 3"], Float[np.ndarray, "steps 3"], Float[np.ndarray, " steps"]]:
    """NEEDED points turned to the front and in units of the distance between the eyes; pitch, yaw and roll in degrees;
    the distance between the eyes in the unit of `points` (x to the right of the picture, y down, z away)."""
    upright = points * np.array([1.0, -1.0, -1.0])
    usual = np.array([USUAL[point] for point in RIGID])
    usual = usual - usual.mean(axis=0)
    rigid = upright[:, [NEEDED.index(point) for point in RIGID]]
    centre = rigid.mean(axis=1, keepdims=True)
    covariance = np.einsum("ri,trj->tij", usual, rigid - centre)
    left, stretch, right = np.linalg.svd(covariance)
    sign = np.sign(np.linalg.det(left @ right))
    right[:, 2] *= sign[:, None]
    stretch[:, 2] *= sign
    rotation = (left @ right).transpose(0, 2, 1)  # usual -> seen
    scale = np.maximum(stretch.sum(axis=1) / (usual**2).sum(), 1e-6)
    front = np.einsum("tpi,tij->tpj", upright - centre, rotation) / scale[:, None, None]
    nose = rotation[:, :, 2]
    pitch = np.arcsin(np.clip(nose[:, 1], -1, 1))
    yaw = np.arctan2(nose[:, 0], nose[:, 2])
    roll = -np.arctan2(rotation[:, 1, 0], rotation[:, 1, 1])
    return front, np.degrees(np.stack([pitch, yaw, roll], axis=1)), scale


def measure(
    points: Float[np.ndarray, "steps points 3"],
    gaze: Float[np.ndarray, "steps 2"],
    size: tuple[int, int],
) -> Float[np.ndarray, "steps measures"]:
    """The MEASURES of successive pictures from their NEEDED points (pixels) and gaze; `size` is width, height."""
    front, pose, _ = to_front(points)
    place = {point: n for n, point in enumerate(NEEDED)}

    def at(*wanted: int) -> np.ndarray:
        return front[:, [place[point] for point in wanted]].mean(axis=1)

    def apart(one: int, other: int) -> np.ndarray:
        return np.linalg.norm(at(one) - at(other), axis=1)

    eyes = at(*CORNERS[0], *CORNERS[1])[:, 1]
    lips = at(*LIPS["inner"], *LIPS["outer"])[:, 1]
    corners = [at(point)[:, 1] - lips for point in LIPS["corners"]]
    inner = [at(*ends)[:, 1] - eyes for ends in BROWS["inner"]]
    outer = [at(*ends)[:, 1] - eyes for ends in BROWS["outer"]]
    lids = [np.mean([apart(*pair) for pair in side], axis=0) for side in LIDS]
    between = np.linalg.norm(at(*BROWS["inner"][0]) - at(*BROWS["inner"][1]), axis=1)
    seen = points[:, :, :2]
    middle = (seen.min(axis=1) + seen.max(axis=1)) / 2
    extent = (seen.max(axis=1) - seen.min(axis=1)).max(axis=1)
    columns = [
        apart(*LIPS["inner"]), apart(*LIPS["corners"]),
        *corners, (corners[0] + corners[1]) / 2, corners[1] - corners[0],
        at(LIPS["outer"][0])[:, 1] - at(NOSE_BASE)[:, 1],
        *inner, *outer, (inner[0] + inner[1]) / 2, (outer[0] + outer[1]) / 2, 1 - between,
        *lids, (lids[0] + lids[1]) / 2, 1 + at(*WINGS)[:, 1] - eyes, 1 + at(*CHEEKS)[:, 1] - eyes,
        *pose.T, *gaze.T, middle[:, 0] / size[0], middle[:, 1] / size[1], extent / min(size),
    ]  # fmt: skip
    return np.stack(columns, axis=1)
