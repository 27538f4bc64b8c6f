"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock
from jaxtyping import install_import_hook

import tests.typechecking

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")

# Whatever a test calls in this process is checked against its annotations, shapes included. Kedro's own parts of the
# project are left out: they are called by Kedro, mostly in processes of their own.
PACKAGES = (
    "data", "kernels", "corpora", "features", "representations", "models", "inference", "training", "evaluation",
    "serving", "timeline", "checkpoints", "reference", "server",
)  # fmt: skip
install_import_hook([f"demeanor.{name}" for name in PACKAGES], f"{tests.typechecking.__name__}.checked")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need the finished project come first: of two processes one makes it while the other does the rest."""
    items.sort(key=lambda item: "finished_project" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which `kedro run` has ended once. Tests that use it read; those that write copy it first.

    All test processes share one: the first that comes makes it, the others wait for it.
    """
    from tests.project import make_project, shell

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = shared / "finished" / "project"
    with FileLock(str(shared / "finished.lock")):
        if not (folder / "run.log").is_file():
            make_project(folder, embedded=True, tracked=False)
            # As README says it; one thread and wide lines, which later runs are compared with.
            done = shell(folder, ". .venv/bin/activate", "kedro run", OMP_NUM_THREADS="1", COLUMNS="200")
            (folder / "run.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def root_of_before():
    """Where relative paths are meant from is an environment variable: no test leaves its own to those after it."""
    from demeanor.data.places import ROOT, use_root

    before = os.environ.get(ROOT)
    yield
    use_root(before)
