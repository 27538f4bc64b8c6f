"""Two processes train the same run: equal loss curves at the same global batch, one of them logs and saves."""

from __future__ import annotations

import os
import signal

import numpy as np
import psutil
import pytest

from demeanor.data.errors import InputError, Stopped
from demeanor.training.distributed.launch import process_count, train
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
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


def test_devices_that_are_not_there_are_refused(monkeypatch):
    with pytest.raises(InputError, match="devices is 0"):
        process_count(TrainingSettings(devices=0))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InputError, match="there are 2 GPUs"):
        process_count(TrainingSettings(devices=4))
    assert process_count(TrainingSettings(devices="auto")) == 2
    assert process_count(TrainingSettings(devices=3, device="cpu")) == 3
