"""Trainings in worker processes: the same numbers, the errors of whoever asked, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.training.distributed import launch
from demeanor.training.distributed.worker import Closed, Worker, WorkerDied
from demeanor.training.distributed.workshop import Alone, Job, Workshop
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.toy import SENTIMENT, toy_examples, toy_score
from tests.training import errands

SETTINGS = BranchSettings(
    system="text_only", streams={"text": "text.words"}, model={"dropout": 0.3},
    training=TrainingSettings(epochs=2, patience=2, batch_size=8, threads=1, device="cpu"),
)  # fmt: skip


@pytest.fixture(scope="module")
def worker():
    made = Worker()
    yield made
    made.close()


def nothing(*told: object) -> None:
    pass


def test_results_reports_and_log_records_come_back(worker: Worker, caplog):
    told: list[int] = []
    number, process = worker.call(errands.count_to, 3, report=told.append)
    assert (number, told) == (3, [1, 2, 3])
    assert process != os.getpid()
    assert "counted to 3" in caplog.text


def test_an_error_is_raised_where_the_work_was_asked_for(worker: Worker):
    with pytest.raises(InputError, match="no label") as raised:
        worker.call(errands.refuse, report=nothing)
    assert raised.value.advice == "Give it one."
    with pytest.raises(KeyError) as broken:
        worker.call(errands.break_down, report=nothing)
    assert "errands.py" in broken.value.__notes__[0], "where it happened is lost"


def test_its_threads_wait_without_holding_a_core_unless_the_caller_says_otherwise(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """Set where the package is imported, before anything loads torch."""
    assert worker.call(errands.variable, "OMP_WAIT_POLICY", report=nothing) == "passive"
    assert worker.call(errands.variable, "OMP_NUM_THREADS", report=nothing) == "1"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    other = Worker()
    assert other.call(errands.variable, "OMP_WAIT_POLICY", report=nothing) == "active"
    other.close()


def test_a_worker_that_dies_is_told_and_replaced(worker: Worker):
    with pytest.raises(WorkerDied, match="killed by signal 9"):
        worker.call(errands.die, report=nothing)
    assert worker.call(errands.count_to, 1, report=nothing)[0] == 1


def test_closing_stops_what_goes_on():
    worker, found = Worker(), []

    def ask() -> None:
        try:
            worker.call(errands.sleep, 600.0, report=lambda process: started.set())
        except Closed as error:
            found.append(error)

    started = threading.Event()
    thread = threading.Thread(target=ask)
    thread.start()
    assert started.wait(60)
    worker.close()
    thread.join(20)
    assert len(found) == 1


def test_workers_end_with_a_process_that_is_killed(tmp_path: Path):
    """kill -9 leaves no time for closing anything."""
    script = (
        "from demeanor.training.distributed.worker import Worker\nfrom tests.training import errands\n"
        "Worker().call(errands.sleep, 600.0, report=lambda process: print(process, flush=True))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        child = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    ends = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < ends, "the worker outlives what it worked for"
        time.sleep(0.05)


def seed_job(seed: int, folder: Path) -> Job:
    def run(place, tell):
        return place.call(
            launch.train_reporting, "words", SETTINGS, SENTIMENT, toy_examples().split("train", "valid"), seed,
            toy_score, folder / str(seed), "", report=nothing,
        )  # fmt: skip

    return Job(("words", f"seed {seed}"), run)


@pytest.mark.slow
def test_two_workers_give_what_one_process_gives(tmp_path: Path):
    development = toy_examples().split("train", "valid")
    alone = Alone().results([seed_job(seed, tmp_path / "alone") for seed in (1, 2)], development)
    planned = [seed_job(seed, tmp_path / "apart") for seed in (1, 2, 3)]
    workshop = Workshop(2, [lambda examples: planned])
    try:
        apart = workshop.results(planned[:2], development)
        (third,) = workshop.results(planned[2:], development)
    finally:
        workshop.close()
    for one, other in zip(alone, apart, strict=True):
        assert one.bundle.weights_sha256 == other.bundle.weights_sha256
        np.testing.assert_array_equal(one.validation, other.validation)
    assert third.bundle.card.protocol["seed"] == 3
    assert all(worker.process.poll() is not None for worker in workshop.workers)


def test_a_failed_job_ends_the_others():
    def job(name: str, function, *arguments) -> Job:
        return Job((name,), lambda place, tell: place.call(function, *arguments, report=nothing))

    workshop = Workshop(2)
    began = time.monotonic()
    with pytest.raises(InputError, match="no label"):
        workshop.results([job("bad", errands.refuse), job("long", errands.sleep, 600.0)], toy_examples())
    assert time.monotonic() - began < 300
    assert all(worker.process.poll() is not None for worker in workshop.workers)


def test_what_must_stay_here_is_done_here():
    job = Job(("here",), lambda place, tell: place.call(errands.count_to, 1, report=nothing), apart=False)
    workshop = Workshop(1)
    try:
        ((_, process),) = workshop.results([job], toy_examples())
    finally:
        workshop.close()
    assert process == os.getpid()
