"""MLflow behind the training's tracker: a parent run per `kedro run`, a child per branch and seed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demeanor.data.settings import flatten

LONGEST_PARAMETER = 6000


def tracking_uri(project: Path, configured: str | None = None) -> str:
    """MLFLOW_TRACKING_URI, else what conf says, else a SQLite file in the project's root."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured or "sqlite:///mlflow.db"
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(f"{prefix}/"):
        # A relative file is meant from the project's root, wherever the command is typed.
        return f"{prefix}{(project / uri.removeprefix(prefix)).resolve()}"
    return uri


def connect(project: Path, configured: str | None = None) -> str:
    """Point MLflow at the tracking server or file of this project; its address."""
    import logging

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    # Alembic tells of every migration of a new database and MLflow of every step: that drowns what a user reads.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = tracking_uri(project, configured)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return uri


def choose_experiment(name: str, project: Path) -> str:
    """Id of the experiment; a new one keeps its artifacts in the project's mlruns where the store is a local file."""
    import mlflow

    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    local = mlflow.get_tracking_uri().startswith("sqlite:")
    location = (project / "mlruns").resolve().as_uri() if local else None
    return mlflow.create_experiment(name, artifact_location=location)


class MlflowRun:
    """One MLflow run, addressed by its id, so that it does not matter which thread reports."""

    def __init__(self, run_id: str):
        from mlflow import MlflowClient

        self.run_id = run_id
        self.client = MlflowClient()

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = flatten(dict(parameters))
        entries = [Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in flat.items()]
        for start in range(0, len(entries), 100):
            self.client.log_batch(self.run_id, params=entries[start : start + 100])

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """NaN is left out: MLflow stores it as 0 in some back ends, which would be a lie."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [
            Metric(key.replace("%", "percent"), float(value), now, step or 0)
            for key, value in metrics.items()
            if math.isfinite(value)
        ]
        self.client.log_batch(self.run_id, metrics=entries)

    def log_artifacts(self, folder: Path, place: str) -> None:
        self.client.log_artifacts(self.run_id, str(folder), place)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)


class MlflowTracker(MlflowRun):
    """The parent run; `child` opens one run below it."""

    def __init__(self, run_id: str, experiment_id: str):
        super().__init__(run_id)
        self.experiment_id = experiment_id

    @contextmanager
    def child(self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[MlflowRun]:
        tags = {**tags, "mlflow.parentRunId": self.run_id, "mlflow.runName": name}
        made = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
        run = MlflowRun(made.info.run_id)
        try:
            run.log_parameters(parameters)
            yield run
        except BaseException:
            self.client.set_terminated(run.run_id, "FAILED")
            raise
        self.client.set_terminated(run.run_id, "FINISHED")
