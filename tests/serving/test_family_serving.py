"""A registered model of Self-MM's family answers for a raw clip."""

from __future__ import annotations

from pathlib import Path

import pytest

from demeanor.data.bundle import Bundle
from demeanor.inference.model import TrainedModel
from demeanor.serving.locating import load_bundle
from demeanor.serving.registry import register
from demeanor.tracking_store import connect

pytestmark = pytest.mark.slow


def test_self_mm_scores_a_raw_clip_from_the_registry(finished_project: Path, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    connect(tmp_path)
    folder = finished_project / "data/06_models/demo/branches/self_mm/seed_1"
    clip = sorted((finished_project / "data/01_raw/demo/Raw").rglob("*.mp4"))[0]
    row = {"text": "I really like it.", "video": str(clip)}
    made = register(Bundle.load(folder), "demeanor-demo-family", {"system": "self_mm"}, {}, row)
    bundle = load_bundle(made["uri"])
    assert bundle.card.system == "self_mm"
    silent = {"text": "I really like it."}
    answers = TrainedModel.load(bundle).score([row, silent]).to_dict(orient="records")
    assert [answer["modalities"] for answer in answers] == ["audio+text+vision", "text"]
    assert all(-4 < answer["sentiment"] < 4 for answer in answers)
    assert answers[0]["sentiment"] != answers[1]["sentiment"]
    direct = TrainedModel.load(Bundle.load(folder)).score([row]).to_dict(orient="records")[0]
    assert direct["sentiment"] == pytest.approx(answers[0]["sentiment"], abs=1e-5)
