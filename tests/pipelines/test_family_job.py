"""A feature file shaped like MOSI's through ingestion, training, evaluation and registration, for the whole family."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import get_model_info

from demeanor.data.bundle import Bundle
from demeanor.data.errors import ProvenanceError
from demeanor.inference.model import TrainedModel
from demeanor.models import SYSTEMS, find_system
from demeanor.serving.locating import load_bundle
from tests.models.examples import TINY_ENCODER
from tests.project import change_settings, kedro, make_project

pytestmark = pytest.mark.slow
PIPELINES = "ingestion,feature_engineering,fusion_training,evaluation"


def family() -> list[str]:
    """Systems that need text, audio and vision, and nothing else, utterance by utterance."""
    cards = {name: find_system(name).card for name in SYSTEMS}
    return [
        name
        for name, card in cards.items()
        if set(card.roles) == {"text", "audio", "vision"} and all(role.required for role in card.roles.values())
    ]


def mosi_shaped(counts: dict[str, int], zero: bool = False) -> dict[str, dict[str, Any]]:
    """Columns, shapes and kinds of numbers of MOSI's unaligned file; nothing in it is real."""
    generator = np.random.default_rng(7)
    content: dict[str, dict[str, Any]] = {}
    for split, count in counts.items():
        label = np.zeros(count) if zero else np.round(np.clip(generator.normal(0.1, 1.5, count), -3, 3) * 5) / 5
        lengths = {
            key: generator.integers(5, most, count) for key, most in (("text", 20), ("audio", 60), ("vision", 70))
        }
        part: dict[str, Any] = {"regression_labels": label.astype(np.float32)}
        for key, (steps, width) in {"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}.items():
            values = generator.normal(0, 1, (count, steps, width)).astype(np.float32) + label[:, None, None] / 10
            part[key] = (values * (np.arange(steps) < lengths[key][:, None])[:, :, None]).astype(np.float32)
        real = np.arange(50) < lengths["text"][:, None]
        ids = generator.integers(5, TINY_ENCODER["vocab_size"], (count, 50))
        part["text_bert"] = np.stack([ids * real, real, 0 * ids], axis=1).astype(np.int64)
        part |= {f"{key}_lengths": lengths[key].tolist() for key in ("audio", "vision")}
        part["id"] = np.array([f"{split}{n // 4}$_${n % 4}" for n in range(count)])
        part["raw_text"] = np.array([f"sentence {n}" for n in range(count)])
        part["annotations"] = np.array(["Negative" if y < 0 else "Positive" if y > 0 else "Neutral" for y in label])
        part["classification_labels"] = np.sign(label) + 1
        content[split] = part
    return content


def block(system: str) -> dict[str, Any]:
    """The smallest settings; token ids where the system can train an encoder along."""
    chosen = find_system(system)
    model = chosen.tiny().model_dump(mode="json") if hasattr(chosen, "tiny") else {}
    tokens = chosen.card.roles["text"].kind == "any"
    if tokens:
        model["encoder_configuration"] = TINY_ENCODER
    return {
        "system": system,
        "task": "sentiment",
        "streams": {
            "text": "text.tokens" if tokens else "text.words",
            "audio": "audio.frames",
            "vision": "vision.frames",
        },
        "model": model,
        "training": {"seeds": [1], "epochs": 1, "batch_size": 8, "threads": 1},
    }


def run(folder: Path, systems: list[str], counts: dict[str, int], zero: bool = False) -> str:
    """`kedro run --env mosi` on such a file; what it printed."""
    make_project(folder, {"train": 1})
    (folder / "data/01_raw/mosi").mkdir(parents=True)
    (folder / "data/01_raw/mosi/unaligned_50.pkl").write_bytes(pickle.dumps(mosi_shaped(counts, zero), protocol=4))

    def small(settings: dict[str, Any]) -> None:
        settings["branches"] = {system: block(system) for system in systems}
        settings["evaluation"] = {"resamples": 50}
        settings["workers"] = "1"  # each process more would import everything once more

    change_settings(folder, "mosi", small)
    return kedro(folder, "run", "--env", "mosi", "--pipelines", PIPELINES)


def receipts(folder: Path) -> dict[str, dict[str, Any]]:
    entries = json.loads((folder / "data/08_reporting/mosi/receipts.json").read_text(encoding="utf-8"))
    return {entry["branch"]: entry for entry in entries}


def test_every_system_goes_from_a_file_shaped_like_mosi_to_the_registry(tmp_path: Path, monkeypatch):
    systems = family()
    assert {"self_mm", "mult", "misa", "tetfn", "mag_bert", "mmim", "almt", "tfr_net", "mlf_dnn"} <= set(systems)
    folder = tmp_path / "project"
    told = run(folder, systems, {"train": 24, "valid": 8, "test": 8})
    assert "registered as demeanor-mosi-sentiment version 1" in told
    found = receipts(folder)
    assert set(found) == set(systems)
    assert all(np.isfinite(entry["metrics"]["MAE"]) for entry in found.values())
    assert set(systems) <= set(pd.read_csv(folder / "data/08_reporting/mosi/comparison.csv")["branch"])
    for system in systems:
        card = Bundle.load(folder / f"data/06_models/mosi/branches/{system}/seed_1").card
        assert (card.protocol["train"], card.protocol["valid"]) == (24, 8)
    made = json.loads((folder / "data/08_reporting/mosi/registration.json").read_text())["sentiment"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.chdir(folder)
    # Its features cannot be made from a recording: the model says so instead of guessing, and has no example of one.
    assert get_model_info(made["uri"]).saved_input_example_info is None
    with pytest.raises(ProvenanceError, match="recomputed"):
        TrainedModel.load(load_bundle(made["uri"])).score([{"text": "So it is."}])


def test_zero_labels_and_a_single_test_utterance_end_in_undefined_metrics_and_not_in_an_error(tmp_path: Path):
    folder = tmp_path / "project"
    with pytest.warns(Warning, match="Corr.* undefined, reported as NaN"):
        told = run(folder, ["self_mm", "lf_dnn"], {"train": 16, "valid": 6, "test": 1}, zero=True)
    for entry in receipts(folder).values():
        assert np.isfinite(entry["metrics"]["MAE"])
        assert np.isnan(float(entry["metrics"]["Corr"] or "nan"))
        assert np.isnan(float(entry["metrics"]["Non0_acc_2"] or "nan"))
    assert "registered as demeanor-mosi-sentiment version 1" in told
