"""A real tracking store tells the truth of runs that end, fail, are stopped, or are killed."""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demeanor import owners, tracking, tracking_store
from demeanor.data.errors import Stopped
from demeanor.logged_models import trained_model
from demeanor.mlflow_sender import send_kept
from demeanor.owners import PROCESS
from demeanor.tracking_store import choose_experiment
from demeanor.training import tracking as training_tracking
from demeanor.training.tracking import TrackedData, TrackedModel


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose store all tests of this module share: making one takes seconds."""
    import mlflow

    folder = tmp_path_factory.mktemp("tracked")
    former = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking_store.connect(folder, writing=True)
        yield folder
    mlflow.set_tracking_uri(former[0])
    mlflow.set_registry_uri(former[1])


@pytest.fixture
def session(project: Path) -> Iterator[tracking.Session]:
    yield tracking.begin(project, "demeanor-test", "all", {"code_revision": "abc"}, {"a": {"b": 1}}, False)
    tracking.end(tracking.FINISHED)


def client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient()


def children(run_id: str) -> dict[str, Any]:
    place = client().get_run(run_id).info.experiment_id
    found = client().search_runs([place], filter_string=f"tags.mlflow.parentRunId = '{run_id}'")
    return {run.info.run_name: run for run in found}


def test_what_was_reported_is_what_is_stored(session: tracking.Session, tmp_path: Path, project: Path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "card.json").write_text("{}")
    with training_tracking.current().child("one seed 1", {"settings": {"rate": 0.5}}, {"seed": "1"}) as run:
        run.log_metrics({"loss": 0.5, "valid_F1%": 0.25, "undefined": math.nan}, 1)
        run.log_metrics({"loss": 0.25}, 2)
        run.log_artifacts(tmp_path / "bundle", "bundle")
    training_tracking.current().set_tags({"mlflow.note.content": "the summary"})
    training_tracking.current().log_metrics({"test.one.MAE.seed_1": 0.125})
    tracking.end(tracking.FINISHED)
    parent = client().get_run(session.run_id)
    assert (parent.info.status, parent.data.params) == ("FINISHED", {"a.b": "1"})
    assert parent.data.metrics == {"test.one.MAE.seed_1": 0.125}
    assert parent.data.tags["mlflow.note.content"] == "the summary"
    made = children(session.run_id)["one seed 1"]
    assert made.info.status == "FINISHED"
    assert made.data.params == {"settings.rate": "0.5"}
    assert made.data.metrics == {"loss": 0.25, "valid_F1percent": 0.25}
    assert [(m.step, m.value) for m in client().get_metric_history(made.info.run_id, "loss")] == [(1, 0.5), (2, 0.25)]
    assert [file.path for file in client().list_artifacts(made.info.run_id, "bundle")] == ["bundle/card.json"]
    assert not (project / tracking.UNSENT).exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (lambda: Stopped(15), "KILLED")],
    ids=["failure", "Ctrl-C", "SIGTERM"],
)
def test_children_end_as_what_ended_them(session: tracking.Session, error: Any, status: str):
    def train() -> None:
        with training_tracking.current().child("one seed 1", {}, {}):
            raise error()

    with pytest.raises((ValueError, KeyboardInterrupt)):
        train()
    tracking.end(tracking.KILLED)
    assert children(session.run_id)["one seed 1"].info.status == status
    assert client().get_run(session.run_id).info.status == "KILLED"


def test_the_next_start_closes_what_a_killed_process_left(session: tracking.Session, project: Path):
    store, place = client(), client().get_run(session.run_id).info.experiment_id
    dead = {**owners.owner(), PROCESS: str(2**22 + 1)}  # beyond every process' number
    orphan = store.create_run(place, tags=dead)
    child = store.create_run(place, tags={"mlflow.parentRunId": orphan.info.run_id})
    elsewhere = store.create_run(place, tags={**dead, owners.HOST: "another machine"})
    assert owners.close_orphans(store, place) == 2
    found = [store.get_run(run.info.run_id).info.status for run in (orphan, child, elsewhere)]
    assert found == ["KILLED", "KILLED", "RUNNING"]
    assert store.get_run(session.run_id).info.status == "RUNNING", "this one is alive"


def test_what_a_dead_server_did_not_get_is_handed_over_later(session: tracking.Session, project: Path, monkeypatch):
    def gone(*arguments: Any, **more: Any) -> None:
        raise ConnectionError("connection refused")

    outbox = session.tracker.outbox
    with monkeypatch.context() as dead:
        dead.setattr("demeanor.outbox.time.sleep", lambda seconds: None)
        dead.setattr(outbox.sender, "_send", gone)
        dead.setattr(outbox.sender, "answers", lambda: False)
        with training_tracking.current().child("one seed 1", {"a": 1}, {}) as run:
            run.log_metrics({"loss": 0.5}, 1)
        tracking.end(tracking.FINISHED)
    folder = project / tracking.UNSENT / session.run_id
    assert not children(session.run_id)
    # The child, its parameters, metrics and end, the parent's end; the parent's parameters may have gone out before.
    assert send_kept(folder) in (5, 6)
    made = children(session.run_id)["one seed 1"]
    assert (made.info.status, made.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert not folder.exists()


VALID = TrackedData("toy", "valid", "d1e1", 20)
SEALED = TrackedData("toy", "test", "5ea1ed")


def trained(weights: str) -> TrackedModel:
    return TrackedModel("one", 1, "late_fusion", "sentiment", "d1e1", weights, 1234)


def test_data_models_and_tables_are_mlflows_own(session: tracking.Session, tmp_path: Path):
    tracker = training_tracking.current()
    with tracker.child("one seed 1", {}, {}) as run:
        run.log_inputs([TrackedData("toy", "train", "d1e1", 80), VALID])
        run.log_model(trained("abc"), {"valid_MAE": 0.5, "valid_Corr": math.nan}, VALID)
    tracker.log_inputs([SEALED])
    tracker.log_scores(trained("abc"), {"test_MAE": 0.75}, SEALED)
    tracker.log_scores(trained("of nobody"), {"test_MAE": 9.0}, SEALED)
    tracker.log_table([{"branch": "one", "MAE": 0.75}, {"branch": "two", "MAE": None}], "tables/receipts.json")
    tracker.flush()
    made = children(session.run_id)["one seed 1"]
    logged = [(i.dataset, i.tags[0].value) for i in made.inputs.dataset_inputs]
    inputs = {data.name: (data.digest, split, data.profile) for data, split in logged}
    assert inputs == {
        "toy train": ("d1e1", "train", '{"num_rows": 80}'),
        "toy valid": ("d1e1", "valid", '{"num_rows": 20}'),
    }
    sealed = client().get_run(session.run_id).inputs.dataset_inputs
    assert [(i.dataset.digest, i.dataset.profile) for i in sealed] == [("5ea1ed", None)], "of the test the digest alone"
    model = trained_model(client(), made.info.experiment_id, "abc")
    assert model is not None
    assert (model.name, model.source_run_id, model.status) == ("one seed 1", made.info.run_id, "READY")
    assert model.tags["bundle"] == f"runs:/{made.info.run_id}/bundle"
    scores = {m.key: (m.value, m.dataset_name, m.dataset_digest) for m in model.metrics}
    assert scores == {"valid_MAE": (0.5, "toy valid", "d1e1"), "test_MAE": (0.75, "toy test", "5ea1ed")}
    assert [output.model_id for output in made.outputs.model_outputs] == [model.model_id]
    assert client().get_run(made.info.run_id).data.metrics == {"valid_MAE": 0.5, "test_MAE": 0.75}
    table = client().load_table(made.info.experiment_id, "tables/receipts.json", [session.run_id])
    assert list(table["branch"]) == ["one", "two"]


def test_a_report_that_arrived_in_part_is_not_doubled(session: tracking.Session, monkeypatch: pytest.MonkeyPatch):
    """The server dies between a model and its metrics: the second try makes no second model and no second table."""
    sender = session.tracker.outbox.sender
    failed = []

    def once(name: str, real: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            if name in failed:
                return real(*arguments, **more)
            failed.append(name)
            if name == "log_table":
                real(*arguments, **more)
            raise ConnectionError("connection refused")

        return call

    monkeypatch.setattr("demeanor.outbox.time.sleep", lambda seconds: None)
    for name in ("finalize_logged_model", "log_table"):
        monkeypatch.setattr(sender.client, name, once(name, getattr(sender.client, name)))
    with training_tracking.current().child("one seed 1", {}, {}) as run:
        run.log_model(trained("def"), {"valid_MAE": 0.5}, VALID)
    training_tracking.current().log_table([{"a": 1}], "tables/paired_tests.json")
    training_tracking.current().flush()
    assert failed == ["finalize_logged_model", "log_table"]
    place = client().get_run(session.run_id).info.experiment_id
    found = client().search_logged_models([place], filter_string="tags.trained_sha256 = 'def'")
    assert [(model.status, len(model.metrics)) for model in found] == [("READY", 1)]
    assert len(client().load_table(place, "tables/paired_tests.json", [session.run_id])) == 1


def test_a_new_store_is_made_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """MLflow makes its tables without a lock: of two runs that begin together the slower one failed in Alembic."""
    import mlflow

    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: f"sqlite:///{tmp_path}/mlflow.db")
    met = []

    def asked(name: str) -> SimpleNamespace:
        other = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        met.append(other)
        return SimpleNamespace(experiment_id="7")

    monkeypatch.setattr(mlflow, "get_experiment_by_name", asked)
    assert choose_experiment("meld", tmp_path) == "7"
    fcntl.flock(met[0], fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is free again
    os.close(met[0])


def test_a_file_system_without_locks_does_not_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import mlflow

    asked = []

    def refused(opened: int, how: int) -> None:
        asked.append(how)
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(tracking_store.fcntl, "flock", refused)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(mlflow, "get_experiment_by_name", lambda name: SimpleNamespace(experiment_id=name))
    assert choose_experiment("meld", tmp_path) == "meld"
    assert asked == [fcntl.LOCK_EX]
