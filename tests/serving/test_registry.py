"""What a registered model requires, and a registry that has gone while the run was at work."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from demeanor.data.bundle import Bundle, BundleCard
from demeanor.pipelines.evaluation import registering
from demeanor.serving import registry
from demeanor.serving.locating import champion_version
from demeanor.serving.packaging import requirements
from demeanor.serving.registry import RegistryUnreachable, told_if_unreachable
from tests.models.examples import TASKS


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a registry where nothing listens any more."""
    import mlflow

    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{place.getsockname()[1]}"
    former = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    yield uri
    mlflow.set_tracking_uri(former[0])
    mlflow.set_registry_uri(former[1])


def test_requirements_are_versions_that_an_index_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "demeanor.serving.packaging.version", lambda package: "2.6.0+cpu" if package == "torch" else "1.0"
    )
    assert "torch==2.6.0" in requirements()
    assert not any("+" in requirement for requirement in requirements())


def test_no_answer_is_not_taken_for_no_champion(gone: str):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException):
        champion_version("demeanor-some-sentiment")


def test_a_registry_that_has_gone_is_one_sentence(gone: str):
    with pytest.raises(RegistryUnreachable) as raised, told_if_unreachable("The champion", "kedro run"):
        champion_version("demeanor-some-sentiment")
    assert str(raised.value) == (
        f"The champion is not registered, because of the model registry at {gone}: nothing answers there (connection "
        "refused). All results of this run are kept; when the registry answers again: kedro run"
    )


def test_what_is_wrong_with_a_model_is_not_blamed_on_the_registry():
    with pytest.raises(ZeroDivisionError), told_if_unreachable("The champion", "kedro run"):
        1 / 0  # noqa: B018


def test_the_evaluation_goes_on_without_its_registry(gone: str, monkeypatch, caplog: pytest.LogCaptureFixture):
    card = BundleCard(
        branch="one", system="toy", settings={}, task=TASKS["regression"], inputs={}, protocol={"corpus": "some"}
    )
    bundle = Bundle(card, {})
    asked = []

    def register(*arguments: Any) -> dict[str, Any]:
        asked.append(arguments[1])
        raise ConnectionError("connection refused")

    class Settings:
        register_champions = True
        registered_as = None

    monkeypatch.setattr(registry, "register", register)
    monkeypatch.setattr("demeanor.data.raw_rows.example_row", lambda *arguments: {})
    champion = {"branch": "one", "seed": "seed_1", "metric": "MAE", "value": 0.5}
    bundles = {"one": {"seed_1": bundle}}
    receipts = [{"weights_sha256": bundle.weights_sha256, "metrics": {}}]
    slices = pd.DataFrame(columns=["task", "branch"])
    call: Any = registering.register_champions
    with caplog.at_level(logging.WARNING):
        made = call({"sentiment": champion, "emotion": champion}, receipts, None, "", Settings(), bundles, None, slices)
    assert made == {}
    assert len(asked) == 1, "the second one would only wait for the same server"
    assert "The champion for sentiment is not registered" in caplog.text
    assert "kedro run --pipelines evaluation" in caplog.text
