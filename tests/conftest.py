"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which `kedro run` has ended once. Tests that use it read; those that write copy it first.

    All test processes share one: the first that comes makes it, the others wait for it.
    """
    from tests.project import command, make_project

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = shared / "finished" / "project"
    with FileLock(str(shared / "finished.lock")):
        if not (folder / "run.log").is_file():
            make_project(folder, embedded=True)
            done = command(folder, "kedro", "run")
            (folder / "run.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    return folder
