"""Where runs are recorded: the address of the tracking server or file, and MLflow pointed at it."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demeanor import remembered
from demeanor.reachability import MODEST, SQLITE, require_answer

logger = logging.getLogger(__name__)


def tracking_uri(project: Path, configured: str | None = None) -> str:
    """MLFLOW_TRACKING_URI, else what conf says, else a SQLite file in the project's root."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured or f"{SQLITE}mlflow.db"
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        # A relative file is meant from the project's root, wherever the command is typed.
        return f"{SQLITE}{(project / uri.removeprefix(SQLITE)).resolve()}"
    return uri


def connect(project: Path, configured: str | None = None, writing: bool = False) -> str:
    """Point MLflow at the tracking server or file of this project; its address. InputError if nothing answers there."""
    uri = tracking_uri(project, configured)
    require_answer(uri, writing)
    remembered.use(None)
    _point_mlflow(uri)
    return uri


def connect_when_asked(project: Path) -> str:
    """The same for a command that only reads: MLflow is imported where the registry has to be asked, which a file has
    not while nobody writes to it (demeanor.remembered). InputError if nothing answers there."""
    uri = tracking_uri(project)
    if not uri.startswith(SQLITE):
        return connect(project)
    require_answer(uri)
    remembered.use(remembered.Registry(Path(uri.removeprefix(SQLITE)), lambda: _point_mlflow(uri)))
    return uri


def _point_mlflow(uri: str) -> None:
    for name, value in {**MODEST, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}.items():
        os.environ.setdefault(name, value)
    import mlflow

    # Alembic tells of every migration of a new database and MLflow of every step: that drowns what a user reads.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of a server that has gone we tell ourselves, once.
    for name in ("mlflow.system_metrics", "mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


def choose_experiment(name: str, project: Path) -> str:
    """Id of the experiment; a new one keeps its artifacts in the project's mlruns where the store is a local file."""
    import mlflow

    uri = mlflow.get_tracking_uri()
    local = uri.startswith(SQLITE)
    with alone(Path(uri.removeprefix(SQLITE)).parent if local else project):
        experiment = mlflow.get_experiment_by_name(name)
        if experiment is not None:
            return experiment.experiment_id
        return mlflow.create_experiment(name, (project / "mlruns").resolve().as_uri() if local else None)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time: two that meet a new store would both make its tables, and MLflow lets the slower fail.

    On a file system without locks they are not kept apart.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
        except OSError as error:
            logger.debug("%s cannot be locked (%s)", folder, error)
        yield
    finally:
        os.close(opened)
