"""The registered champion: the command line and MLflow in this process say the same (test_readme.py has its server)."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from demeanor.__main__ import main
from demeanor.tracking_store import connect

pytestmark = pytest.mark.slow
RECORDINGS = "data/01_raw/demo/Raw"
MODEL = "models:/demeanor-demo-synthetic-sentiment@champion"


@pytest.fixture(scope="module")
def row(finished_project: Path) -> dict[str, str]:
    clip = sorted((finished_project / "data/01_raw/demo/Raw").rglob("*.mp4"))[-1]
    return {"text": "We had a very pleasant ending, I feel cheerful.", "video": str(clip)}


@pytest.fixture
def within(finished_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished project as the folder and the tracking store of this process."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DEMEANOR_MEDIA_ROOT", str(finished_project / RECORDINGS))
    monkeypatch.chdir(finished_project)
    connect(finished_project)
    return finished_project


@pytest.fixture
def expected(within: Path, row: dict[str, str]) -> dict:
    done = CliRunner().invoke(
        main, ["predict", row["video"], "--text", row["text"], "--json", "--model", MODEL], catch_exceptions=False
    )
    return json.loads(done.stdout)[MODEL][0]


def test_predict_prints_a_short_readable_result(within: Path, row: dict[str, str]):
    done = CliRunner().invoke(main, ["predict", row["video"], "--text", row["text"]], catch_exceptions=False)
    assert done.exit_code == 0
    assert "sentiment" in done.stdout
    assert "emotion" in done.stdout
    assert "from audio, text, vision" in done.stdout


def test_mlflow_loads_and_asks_it_as_any_other_model(within: Path, row: dict[str, str], expected: dict):
    """`mlflow models predict` does the same in a process of its own; tests/test_readme.py types it."""
    import mlflow

    rows = pd.DataFrame([row, {"text": row["text"]}])
    answer, of_words = mlflow.pyfunc.load_model(MODEL).predict(rows).to_dict(orient="records")
    assert answer["sentiment"] == pytest.approx(expected["sentiment"], abs=1e-6)
    assert answer["modalities"] == expected["modalities"]
    assert of_words["modalities"] == "text"


def test_a_registered_representation_embeds_a_recording(within: Path, row: dict[str, str], tmp_path: Path):
    import mlflow

    made = json.loads((within / "data/08_reporting/demo/representation_registration.json").read_text())
    model = made["principal_components"]["uri"]
    assert model == "models:/representation-demo-synthetic-principal_components@champion"
    rows = pd.DataFrame([row, {"video": str(tmp_path / "nowhere.mp4")}])
    answers = mlflow.pyfunc.load_model(model).predict(rows)
    answer, missing = answers.to_dict(orient="records")
    assert len(answer["embedding"]) == 210
    assert any(answer["embedding"])
    assert answer["modalities"] == "audio+text+vision"
    assert missing["embedding"] is None
    assert "outside the folder of recordings" in missing["problem"]
