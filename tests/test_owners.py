"""Runs whose process is no more are recognised and closed; those of others are left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demeanor import owners
from demeanor.owners import BOOT, HOST, NAMESPACE, PROCESS, STARTED, is_gone, owner


@pytest.fixture(scope="module")
def ended() -> str:
    """Number of a process that has been."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return str(process.pid)


def test_this_process_is_here():
    assert not is_gone(owner())


def test_a_process_that_has_ended_is_gone(ended: str):
    assert is_gone({**owner(), PROCESS: ended})


def test_a_number_that_was_given_again_is_another_process():
    assert is_gone({**owner(), STARTED: "12.5"})


def test_nothing_outlives_the_start_of_its_machine():
    assert is_gone({**owner(), BOOT: "another start"})


@pytest.mark.parametrize("change", [{HOST: "another machine"}, {NAMESPACE: "pid:[1]"}, {PROCESS: None}],
                         ids=["another machine", "another container", "no owner"])  # fmt: skip
def test_what_cannot_be_known_is_left_alone(ended: str, change: dict[str, Any]):
    tags = {**owner(), PROCESS: ended, **change}
    assert not is_gone({key: value for key, value in tags.items() if value is not None})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_that_nobody_has_buried_is_gone():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    import psutil

    tags = {**owner(), PROCESS: str(process.pid), STARTED: f"{psutil.Process(process.pid).create_time():.2f}"}
    assert not is_gone(tags)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(tags)
    process.wait()


def test_the_machine_tells_which_start_and_container_it_is(tmp_path: Path):
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells")
    assert owners._boot()
    assert owners._namespace().startswith("pid:")
