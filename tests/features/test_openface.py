from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demeanor.data.errors import ProvenanceError
from demeanor.features import extractor_from, find_extractor
from demeanor.features.base import Clip
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.features.openface import COLUMNS
from tests.features.media_samples import faces, write_recording


def table(path: Path, rows: int = 6) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    values = pd.DataFrame({name: generator.random(rows) for name in COLUMNS})
    values["confidence"], values["success"] = 0.98, 1
    values["timestamp"] = np.arange(rows) * 0.04
    values.loc[2, "success"] = 0
    values.loc[3, "confidence"] = 0.2
    values.loc[4, "AU01_r"] = np.nan
    # OpenFace writes a space after every comma.
    path.write_text(", ".join(values.columns) + "\n" + "\n".join(", ".join(map(str, row)) for row in values.to_numpy()))
    return values


def test_tables_become_a_stream(tmp_path: Path):
    expected = table(tmp_path / "a.csv")
    (tmp_path / "broken.csv").write_text("frame, timestamp\n1, 0\n")
    clips = [Clip(name, media=tmp_path / f"{name}.mp4") for name in ("a", "b", "broken")]
    request = {"vision.frames": StreamRequest(extractor="openface_csv")}
    streams, aside = extract_streams(clips, request, tmp_path / "cache", tmp_path / "out", 1, progress=False)
    values = streams["vision.frames"].ragged["a"]
    assert values.shape == (6, 50)
    np.testing.assert_allclose(values[0], expected.loc[0, list(COLUMNS)].to_numpy(float), rtol=1e-6)
    assert not values[2:4].any()
    assert values[4, 0] == 0
    assert len(streams["vision.frames"].ragged["b"]) == 0
    assert "columns of OpenFace 2 are missing" in aside["reason"][0]
    table(tmp_path / "a.csv", rows=3)
    changed, _ = extract_streams(clips, request, tmp_path / "cache", tmp_path / "out", 1, progress=False)
    assert len(changed["vision.frames"].ragged["a"]) == 3


def test_a_span_takes_its_rows_and_no_recording_can_stand_in(tmp_path: Path):
    table(tmp_path / "a.csv")
    extractor = find_extractor("openface_csv", {"rate": 25.0})
    assert len(extractor.extract_clip(Clip("a", media=tmp_path / "a.mp4", start=0.04, end=0.12))) == 2
    with pytest.raises(ProvenanceError, match="cannot be made from a recording"):
        extractor_from(extractor.provenance())


def several_faces(path: Path, frames: int = 4) -> None:
    """As FaceLandmarkVidMulti writes them: rows by frame; face 1 is the surest, and not in the last frame."""
    generator, rows = np.random.default_rng(0), []
    for frame in range(frames):
        for face, confidence in ((0, 0.7), (1, 0.95), (2, 0.3)):
            if (face, frame) != (1, frames - 1):
                row = dict.fromkeys(COLUMNS, 0.1 * face) | {"confidence": confidence}
                success = int(not (face == 0 and frame == 0))
                rows.append({"frame": frame + 1, "face_id": face, "timestamp": frame * 0.04, "success": success} | row)
    values = pd.DataFrame(rows).iloc[generator.permutation(len(rows))].sort_values("face_id", kind="stable")
    values.to_csv(path, index=False)


def test_of_several_faces_the_surest_is_read_and_a_frame_is_one_step(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    several_faces(tmp_path / "a.csv")
    extractor = find_extractor("openface_csv", {"rate": 25.0})
    with caplog.at_level("WARNING"):
        values = extractor.extract_clip(Clip("a", media=tmp_path / "a.mp4"))
    np.testing.assert_allclose(values[:, 0], [0.1, 0.1, 0.1, 0.0], atol=1e-6)
    assert "1 tables hold several faces" in caplog.text
    first = find_extractor("openface_csv", {"face": 0}).extract_clip(Clip("a", media=tmp_path / "a.mp4"))
    assert first.shape == (4, 50)
    assert np.array_equal(first[:, -1] > 0, [False, True, True, True])
    absent = find_extractor("openface_csv", {"face": 9}).extract_clip(Clip("a", media=tmp_path / "a.mp4"))
    assert absent.shape == (4, 50)
    assert not absent.any()


def test_a_frame_that_stands_twice_is_one_step(tmp_path: Path):
    values = table(tmp_path / "a.csv")
    doubled = pd.concat([values, values.assign(confidence=0.6, AU01_r=9.0)])
    doubled.to_csv(tmp_path / "a.csv", index=False, sep=";", decimal=",")
    found = find_extractor("openface_csv").extract_clip(Clip("a", media=tmp_path / "a.mp4"))
    assert found.shape == (6, 50)
    np.testing.assert_allclose(found[0], values.loc[0, list(COLUMNS)].to_numpy(float), rtol=1e-5)


def test_tables_are_found_by_the_normal_form_of_names(tmp_path: Path):
    table(tmp_path / "clip_01.CSV")
    extractor = find_extractor("openface_csv")
    assert len(extractor.extract_clip(Clip("a", media=tmp_path / "clip_1.mp4"))) == 6
    table(tmp_path / "clip_001.csv")
    streams, aside = extract_streams(
        [Clip("a", media=tmp_path / "clip_1.mp4"), Clip("b", media=tmp_path / "clip_01.mp4")],
        {"vision.frames": StreamRequest(extractor="openface_csv")},
        tmp_path / "cache", tmp_path / "out", 1, progress=False,
    )  # fmt: skip
    assert streams["vision.frames"].ragged.lengths.tolist() == [0, 6]
    assert "several tables could be meant" in aside["reason"][0]


def test_the_doctor_hears_of_tables_with_several_faces(tmp_path: Path):
    from demeanor.data.media import REMARKS
    from demeanor.features.openface import faces_in
    from demeanor.pipelines.ingestion.nodes import probe_one

    for name in ("several", "one", "none", "other"):
        write_recording(tmp_path / f"{name}.mp4", None, faces(3))
    several_faces(tmp_path / "several.csv")
    table(tmp_path / "one.csv")
    (tmp_path / "other.csv").write_text("name,label\nx,1\n")
    assert [faces_in(tmp_path / f"{name}.csv") for name in ("several", "one", "other")] == [3, 1, 0]
    remarks = {name: probe_one(tmp_path / f"{name}.mp4").remarks for name in ("several", "one", "none", "other")}
    assert remarks == {"several": ("several_faces",), "one": (), "none": (), "other": ()}
    assert "several faces" in REMARKS["several_faces"][0]
