"""Two processes train the same run: equal loss curves at the same global batch, one of them logs and saves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import psutil
import pytest

from demeanor.data.errors import InputError, Stopped
from demeanor.training.distributed.launch import collect, prepare, process_count, train
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.project import PROJECT
from tests.toy import SENTIMENT, toy_examples, toy_score


def settings(devices: int) -> BranchSettings:
    training = TrainingSettings(epochs=3, patience=3, batch_size=7, threads=1, devices=devices, device="cpu")
    return BranchSettings(
        system="text_only",
        streams={"text": "text.words"},
        model={"dropout": 0.0},
        training=training,
    )


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    development = toy_examples().split("train", "valid")
    alone = fit("fusion", settings(1), SENTIMENT, development, 5, toy_score, progress=False)
    rows: dict[int, list[dict]] = {}
    together = train(
        "fusion", settings(2), SENTIMENT, development, 5, toy_score,
        lambda row, epoch: rows.setdefault(epoch, []).append(row), tmp_path / "checkpoint",
    )  # fmt: skip
    assert sorted(rows) == [1, 2, 3]
    assert all(len(reported) == 1 for reported in rows.values()), "only one process may report"
    for name in ("train_loss", "valid_loss", "valid_MAE"):
        expected = [row[name] for row in alone.history]
        np.testing.assert_allclose([row[name] for row in together.history], expected, rtol=2e-5, err_msg=name)
    np.testing.assert_allclose(together.validation, alone.validation, rtol=1e-3, atol=1e-4)
    assert (tmp_path / "checkpoint" / "latest.pt").is_file()


@pytest.mark.slow
def test_a_request_to_stop_ends_all_processes_and_gives_the_signals_back(tmp_path):
    endless = settings(2).model_copy(
        update={"training": settings(2).training.model_copy(update={"epochs": 10_000, "patience": 10_000})}
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    others = psutil.Process().children(recursive=True)  # servers of processes that former tests have started
    seen: list[psutil.Process] = []

    def stop(row: dict[str, float], epoch: int) -> None:
        if not seen:
            seen.extend(set(psutil.Process().children(recursive=True)) - set(others))
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as raised:
        train("fusion", endless, SENTIMENT, toy_examples().split("train", "valid"), 5, toy_score, stop)
    assert raised.value.number == signal.SIGTERM
    assert {number: signal.getsignal(number) for number in before} == before
    _, alive = psutil.wait_procs(
        [
            process
            for process in seen
            if "resource_tracker" not in str(process.cmdline() if process.is_running() else "")
        ],
        timeout=10,
    )
    assert not alive


@pytest.mark.slow
def test_two_machines_need_the_job_folder_alone(tmp_path):
    """Two torchruns of one process each, in folders of their own; one of them names the job by a relative path."""
    development = toy_examples().split("train", "valid")
    job = tmp_path / "shared" / "job"
    job.mkdir(parents=True)
    prepare(job, "fusion", settings(2), SENTIMENT, development, 5, toy_score)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "-m", "demeanor.training.distributed.launch",
    ]  # fmt: skip
    machines = []
    for name, place in (("first", str(job)), ("second", "../shared/job")):
        (tmp_path / name).mkdir()
        started = subprocess.Popen(
            [*arguments, place], cwd=tmp_path / name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{PROJECT}"},
        )  # fmt: skip
        machines.append(started)
    told = [machine.communicate(timeout=200)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], told
    together = collect(job)
    alone = fit("fusion", settings(1), SENTIMENT, development, 5, toy_score, progress=False)
    for name in ("train_loss", "valid_loss"):
        expected = [row[name] for row in alone.history]
        np.testing.assert_allclose([row[name] for row in together.history], expected, rtol=2e-5, err_msg=name)


def test_devices_that_are_not_there_are_refused(monkeypatch):
    with pytest.raises(InputError, match="devices is 0"):
        process_count(TrainingSettings(devices=0))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InputError, match="there are 2 GPUs"):
        process_count(TrainingSettings(devices=4))
    assert process_count(TrainingSettings(devices="auto")) == 2
    assert process_count(TrainingSettings(devices=3, device="cpu")) == 3
