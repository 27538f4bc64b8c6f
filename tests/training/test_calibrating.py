"""Calibration of a trained branch: fitted by validation alone, stored in its bundles, read back, shown."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.bundle import Bundle
from demeanor.data.calibration import CalibrationSettings
from demeanor.data.examples import Examples
from demeanor.data.task import Tasks
from demeanor.inference.model import TrainedModel
from demeanor.inference.presence import presence, roles_outside
from demeanor.pipelines.fusion_training.nodes import train_branch
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.toy import EMOTION, SENTIMENT, toy_examples

STREAMS = {"text": "text.words", "audio": "audio.frames", "vision": "vision.frames"}


def settings_of(task: str = "sentiment") -> BranchSettings:
    training = TrainingSettings(epochs=3, patience=3, batch_size=16, threads=1, seeds=[1, 2], modality_dropout=0.2)
    calibration = CalibrationSettings(least=20)
    return BranchSettings(system="late_fusion", task=task, streams=STREAMS, training=training, calibration=calibration)


@pytest.fixture(scope="module")
def development() -> Examples:
    return toy_examples(train=60, valid=40, test=1).split("train", "valid")


@pytest.fixture(scope="module")
def bundles(development: Examples, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    tasks = Tasks({"sentiment": SENTIMENT})
    place = str(tmp_path_factory.mktemp("checkpoints"))
    return train_branch("joined", development, settings_of(), tasks, place)[0]


def test_both_seeds_carry_one_calibration_of_all_sets_of_modalities(bundles, development, tmp_path):
    first, second = bundles.values()
    made = first.card.calibration
    assert made == second.card.calibration
    assert made.seeds == (1, 2)
    assert made.pooled.n == 40
    # Every ninth clip lacks its sound, every eleventh its face: each set has the clips that have all of it.
    assert {name: fit.n for name, fit in made.subsets.items()} == {
        "text": 40, "audio": 36, "vision": 37, "audio+text": 36, "text+vision": 37, "audio+vision": 33,
        "audio+text+vision": 33,
    }  # fmt: skip
    first.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    assert loaded.card.calibration == made
    assert "90% by split conformal on 40 clips of validation, 2 seeds joined" in str(loaded)


def test_the_width_of_a_set_is_the_quantile_of_its_own_errors(bundles, development):
    valid = development.split("valid")
    card = next(iter(bundles.values())).card
    here = presence(card.inputs, valid)["audio"]
    assert here.sum() == 36
    target = SENTIMENT.targets(valid.utterances)
    without = roles_outside(card.inputs, ["audio"])
    assert without == ["text", "vision"]
    errors = [
        np.abs(TrainedModel.load(bundle).outputs(valid, [("audio",)])[0][here, 0] - target[here])
        for bundle in bundles.values()
    ]
    expected = np.sort(np.concatenate(errors))[int(np.ceil(34 / 36 * 72)) - 1]  # the rank ceil(37 * 0.9) of 36
    assert card.calibration.subsets["audio"].width == pytest.approx(expected, rel=1e-5)


def test_an_older_bundle_has_none_and_says_so(bundles, tmp_path):
    bundle = next(iter(bundles.values()))
    older = Bundle(bundle.card.model_copy(update={"calibration": None}), bundle.tensors)
    older.save(tmp_path / "older")
    assert Bundle.load(tmp_path / "older").card.calibration is None
    assert "uncalibrated" in str(older)


def test_classes_get_a_temperature_and_a_threshold(development, tmp_path):
    bundles, _ = train_branch("e", development, settings_of("emotion"), Tasks({"emotion": EMOTION}), str(tmp_path))
    made = bundles["seed_1"].card.calibration
    assert made.method == "LAC"
    assert 0 < made.pooled.threshold < 1
    assert made.pooled.temperature != 1
    assert bundles["seed_1"].card.protocol["languages"] == ["en"]
