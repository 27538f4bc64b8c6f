"""An empty MLflow database, made once: each of its own would cost a test five seconds of migrations."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock


def empty_store(path: Path) -> str:
    """Put an empty store of the installed MLflow at `path`, a file that is not there yet; its address."""
    made = Path(tempfile.gettempdir()) / f"demeanor-tests-{os.getuid()}" / f"mlflow-{version('mlflow')}.db"
    made.parent.mkdir(exist_ok=True)
    with FileLock(f"{made}.lock"):
        if not made.is_file():
            from mlflow import MlflowClient

            part = made.with_suffix(f".{os.getpid()}.part")
            MlflowClient(f"sqlite:///{part}").search_experiments()
            part.rename(made)
    shutil.copy(made, path)
    return f"sqlite:///{path}"
