"""A process that others are forked from: it imports heavy libraries once, where every fresh interpreter would again."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing import forkserver

#: Libraries that start threads when they are imported read these first; a process that forks must have none.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def start_fork_server(preloaded: Sequence[str]) -> None:
    """Let it import the modules `preloaded`, while this process goes on; one that runs already stays as it is.

    What it forks has the environment of its start, not of the fork.
    """
    former = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(preloaded))
        forkserver.ensure_running()
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
