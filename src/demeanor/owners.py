"""Whose run is it? A run says which process of which machine it belongs to, so that the next start can close what
processes that are no more have left RUNNING."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

HOST, PROCESS, STARTED, BOOT, NAMESPACE = (f"demeanor.{name}" for name in ("host", "pid", "started", "boot", "pids"))
EXPERIMENTS = "demeanor-"


def owner() -> dict[str, str]:
    """Tags that name this process among all that have been or will be."""
    import psutil

    return {
        HOST: socket.gethostname(),
        PROCESS: str(os.getpid()),
        STARTED: f"{psutil.Process().create_time():.2f}",
        BOOT: _boot(),
        NAMESPACE: _namespace(),
    }


def is_gone(tags: Mapping[str, str]) -> bool:
    """Is the process that these tags name certainly no more? False for other machines, and where nobody can know."""
    import psutil

    if tags.get(HOST) != socket.gethostname() or PROCESS not in tags:
        return False
    if tags.get(BOOT) != _boot():
        return bool(tags.get(BOOT)) and bool(_boot())
    if tags.get(NAMESPACE) != _namespace():
        return False  # of another container, perhaps, whose processes cannot be seen from here
    try:
        process = psutil.Process(int(tags[PROCESS]))
        # A number is given again; a process that was killed and not yet buried is gone too.
        other = abs(process.create_time() - float(tags.get(STARTED, "nan"))) > 1.0
        return other or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (psutil.AccessDenied, ValueError):
        return False


def close_orphans(client: Any, experiment: str) -> int:
    """End as KILLED what ended processes of this machine left RUNNING, with the runs below; how many were closed."""
    found = client.search_experiments(filter_string=f"name LIKE '{EXPERIMENTS}%'")
    experiments = sorted({experiment, *(entry.experiment_id for entry in found)})
    mine = f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{socket.gethostname()}'"
    closed = 0
    for run in _all(client, experiments, mine):
        if is_gone(run.data.tags):
            below = f"attributes.status = 'RUNNING' and tags.mlflow.parentRunId = '{run.info.run_id}'"
            for one in (*_all(client, [run.info.experiment_id], below), run):
                client.set_terminated(one.info.run_id, "KILLED")
                closed += 1
    if closed:
        logger.info("%d runs of a process that is no more are closed as KILLED", closed)
    return closed


def _all(client: Any, experiments: list[str], wanted: str) -> Iterable[Any]:
    """All runs that a filter finds, gathered before any of them is changed."""
    runs, token = [], None
    while True:
        page = client.search_runs(experiments, filter_string=wanted, max_results=500, page_token=token)
        runs += list(page)
        token = page.token
        if not token:
            return runs


def _boot() -> str:
    """Differs from one start of the machine to the next; nothing where the system does not tell."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.is_file() else ""


def _namespace() -> str:
    """Within which a process' number means something."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
