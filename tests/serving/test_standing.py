"""Who answers: a worse version never takes the champion's place by itself, and what happened is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from demeanor.__main__ import main
from demeanor.data.bundle import Bundle, BundleCard, InputSpecification
from demeanor.data.errors import InputError
from demeanor.evaluation.paired import Difference
from demeanor.inference.model_page import model_card
from demeanor.pipelines.evaluation.registering import registered_as
from demeanor.serving.registry import promote, register
from demeanor.serving.standing import Judged, standing
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.models.examples import PROVENANCE, TASKS
from tests.store import empty_store
from tests.toy import SENTIMENT, toy_examples, toy_score

NAME = "demeanor-toy-sentiment"


def judged(value: float, data: str = "data", metric: str = "MAE") -> Judged:
    return Judged(metric, value, data)


@pytest.mark.parametrize(
    ("metric", "value", "theirs", "alias"),
    [
        ("MAE", 0.5, 0.6, "champion"), ("MAE", 0.6, 0.6, "champion"), ("MAE", 0.7, 0.6, "challenger"),
        ("macro_F1", 0.5, 0.6, "challenger"), ("macro_F1", 0.6, 0.6, "champion"), ("macro_F1", 0.7, 0.6, "champion"),
        ("weighted_F1", float("nan"), 0.6, "challenger"), ("MAE", float("nan"), 0.6, "challenger"),
        ("MAE", 0.12345611, 0.12345649, "champion"), ("MAE", 0.12345649, 0.12345611, "champion"),
    ],
)  # fmt: skip
def test_it_is_promoted_where_it_is_not_worse(metric: str, value: float, theirs: float, alias: str):
    found = standing(judged(value, metric=metric), "1", judged(theirs, metric=metric).tags)
    assert found.alias == alias
    assert metric in found.reason
    assert "same data" in found.reason


def test_what_cannot_be_compared_leaves_the_champion_where_it_is():
    assert standing(judged(9.0), None, {}).alias == "champion"
    other = standing(judged(0.1, "new"), "3", judged(0.9, "old").tags)
    assert (other.alias, "other data" in other.reason) == ("challenger", True)
    for tags in ({}, judged(0.9, metric="Corr").tags, {"valid_MAE": "0.9"}):
        found = standing(judged(0.1), "3", tags)
        assert found.alias == "challenger"
        assert "version 3" in found.reason


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[MlflowClient]:
    """A registry of its own, in which logging a model leaves a version and no files."""
    folder = tmp_path_factory.mktemp("registry")
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    patch = pytest.MonkeyPatch()
    uri = empty_store(folder / "mlflow.db")
    patch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = MlflowClient()

    def log_model(**_: object) -> SimpleNamespace:
        return SimpleNamespace(model_uri=str(folder), model_id=None)

    patch.setattr(mlflow.pyfunc, "log_model", log_model)
    yield client
    patch.undo()
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


@pytest.fixture
def submit(registry: MlflowClient) -> Callable[..., dict]:
    def submit(name: str, value: float | None, data: str = "data") -> dict:
        inputs = {"text": InputSpecification(stream="text.words", dimension=2, provenance=PROVENANCE)}
        card = BundleCard(branch="a", system="text_only", settings={}, task=TASKS["regression"], inputs=inputs,
                          protocol={}, metrics={}, data_hash=data)  # fmt: skip
        bundle = Bundle(card, {"model.weight": np.zeros(2, np.float32)})
        return register(bundle, name, {}, {}, None, None if value is None else judged(value, data))

    return submit


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def test_versions_in_the_registry(registry: MlflowClient, submit, caplog):
    first = submit(NAME, 0.8)
    assert (first["alias"], first["champion"], first["previous"]) == ("champion", "1", None)
    with caplog.at_level(logging.WARNING, "demeanor.serving.registry"):
        worse = submit(NAME, 0.9)
    assert aliases(registry, NAME) == {"champion": "1", "challenger": "2"}
    assert (worse["alias"], worse["champion"], worse["previous"]) == ("challenger", "1", None)
    assert worse["uri"] == f"models:/{NAME}@challenger"
    assert f"demeanor promote {NAME}" in caplog.text
    assert "version 1 goes on to answer (worse: validation MAE 0.9, version 1 has 0.8" in registered_as(worse)
    better = submit(NAME, 0.7)
    assert aliases(registry, NAME) == {"champion": "3", "previous": "1"}
    assert (better["version"], better["previous"]) == ("3", "1")
    assert registered_as(better).startswith(
        f", registered as {NAME} version 3 (not worse: validation MAE 0.7, version 1"
    )
    assert "not clip by clip" in registry.get_model_version(NAME, "3").tags["standing"]
    submit(NAME, 0.1, "other data")
    assert aliases(registry, NAME) == {"champion": "3", "previous": "1", "challenger": "4"}
    assert registered_as(None) == ""


def test_a_challenger_is_promoted_by_hand(registry: MlflowClient, submit, tmp_path, monkeypatch):
    name = "demeanor-toy-other"
    submit(name, 0.5)
    submit(name, 0.6)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["promote", name])
    assert done.exit_code == 0, done.output
    assert "version 2 is the champion, version 1 was" in done.output
    assert aliases(registry, name) == {"champion": "2", "previous": "1"}
    assert promote(name, "1") == ("1", "2")
    assert aliases(registry, name) == {"champion": "1", "previous": "2"}
    for given, message in (([name], "no challenger"), ([name, "--version", "9"], "no version 9")):
        refused = CliRunner().invoke(main, ["promote", *given])
        assert refused.exit_code != 0
        assert message in refused.output
    with pytest.raises(InputError, match="no challenger"):
        promote("demeanor-nobody-knows")


def test_what_nobody_can_judge_is_promoted_by_whoever_registers_it(registry: MlflowClient, submit):
    name = "imported-toy"
    assert submit(name, None)["alias"] == "champion"
    assert submit(name, None)["previous"] == "1"
    assert aliases(registry, name) == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize(
    ("metric", "better", "mean", "alias"),
    [
        ("MAE", "min", -0.1, "champion"), ("MAE", "min", 0.1, "challenger"), ("MAE", "min", 0.0, "champion"),
        ("macro_F1", "max", 0.1, "champion"), ("macro_F1", "max", -0.1, "challenger"),
        ("MAE", "min", float("nan"), "challenger"), ("MAE", "min", 4e-8, "champion"),
    ],
)  # fmt: skip
def test_clip_by_clip_the_mean_difference_decides_and_its_interval_is_told(metric, better, mean, alias):
    paired = Difference(metric, better, mean, mean - 0.05, mean + 0.05, 0.04, 1000, 60)
    # The scores in the tags say the contrary, and are not asked.
    value = 0.9 if (alias == "champion") == (better == "min") else 0.3
    found = standing(judged(value, metric=metric), "1", judged(0.6, metric=metric).tags, paired)
    assert found.alias == alias
    assert f"95% interval [{mean - 0.05:+.3f}, {mean + 0.05:+.3f}]" in found.reason


def test_the_champion_is_asked_on_the_same_clips(registry: MlflowClient, monkeypatch: pytest.MonkeyPatch):
    development = toy_examples(train=80, valid=60).split("train", "valid")
    training = TrainingSettings(epochs=6, patience=6, batch_size=16, threads=1, learning_rate=0.01)
    branch = BranchSettings(system="text_only", streams={"text": "text.words"}, training=training)
    good = fit("words", branch, SENTIMENT, development, 1, toy_score, progress=False).bundle
    bad = Bundle(good.card, {name: -value for name, value in good.tensors.items()})
    stored: dict[str, Bundle] = {}
    monkeypatch.setattr("demeanor.serving.registry.load_bundle", lambda uri: stored[uri.rpartition("/")[2]])
    name, made = "demeanor-toy-paired", {}
    same = Judged("MAE", 0.5, development.data_hash)  # the same score for all: the clips know better
    for number, bundle in enumerate((good, bad, good), 1):
        stored[str(number)] = bundle
        made[number] = register(bundle, name, {}, {"MAE": 0.5}, None, same, development)
    assert [made[number]["alias"] for number in (1, 2, 3)] == ["champion", "challenger", "champion"]
    assert "evidence that version 1 is better" in made[2]["reason"]
    assert "MAE of this version minus version 1: +0.000" in registered_as(made[3])
    page = registry.get_model_version(name, "2").description
    assert made[2]["reason"] in page
    for heading in ("Task", "Data", "Metrics", "Calibration", "Licences", "Limits", "How to call it"):
        assert f"\n## {heading}\n" in page
    monkeypatch.setattr("demeanor.serving.registry.load_bundle", lambda uri: Bundle.load(f"/nowhere/{uri}"))
    lost = register(good, name, {}, {}, None, same, development)
    assert "by their scores alone, not clip by clip: version 3 could not be asked" in lost["reason"]


def test_the_worst_groups_stand_on_the_page():
    inputs = {"text": InputSpecification(stream="text.words", dimension=2, provenance=PROVENANCE)}
    card = BundleCard(branch="a", system="text_only", settings={}, task=TASKS["regression"], inputs=inputs,
                      protocol={"corpus": "some"}, metrics={"MAE": 0.4})  # fmt: skip
    rows = [("all", "all", 90, 0.5, False), ("speaker", "ann", 40, 0.4, False), ("speaker", "bob", 50, 0.6, True),
            ("length", "short", 9, float("nan"), False)]  # fmt: skip
    slices = pd.DataFrame(rows, columns=["slice", "group", "n", "MAE", "worst"])
    slices = slices.assign(MAE_low=slices["MAE"] - 0.1, MAE_high=slices["MAE"] + 0.1, accuracy=float("nan"))
    page = model_card(Bundle(card, {}), NAME, "there was no champion", {"MAE": 0.5, "Corr": 0.75}, slices)
    assert "| MAE | 0.400 | 0.500 |" in page
    assert "| Corr |  | 0.750 |" in page
    assert "| speaker | bob | 50 | 0.600 [0.500, 0.700] |" in page
    assert "ann" not in page
    assert f"models:/{NAME}@champion" in page
    many = {f"metric_{number}": 0.5 for number in range(400)}
    assert len(model_card(Bundle(card, {}), NAME, "", many)) <= 5000
