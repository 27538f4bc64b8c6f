"""The script for graphics cards runs whole on a machine without one, at tiny sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.benchmarks import gpu


def test_every_measurement_runs_at_tiny_sizes(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    gpu.main(["--tiny", "--device", "cpu", "--minutes", "5", "--output", str(path)])
    figures = json.loads(path.read_text(encoding="utf-8"))
    assert figures["about"]["tiny"]
    assert figures["matrix_rate_bfloat16"] > 0
    for name in gpu.MEASUREMENTS:
        assert "problem" not in figures[name], figures[name]
        assert any(value > 0 for key, value in figures[name].items() if "per_second" in key), name
    for name in ("mmml", "self_mm", "mult"):
        assert figures[name]["loss_difference_from_cpu"] <= 1e-6  # the device is the CPU itself
        assert figures[name]["operations_per_step"] > 0


def test_a_loss_that_differs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run = gpu.Run(torch.device("cpu"), True, until=0.0)
    model = torch.nn.Linear(2, 1)
    losses = iter((1.0, 1.1))

    def loss(one: torch.nn.Module, device: torch.device) -> torch.Tensor:
        return next(losses, 1.0) * one.weight.sum().square().clamp(min=1e-3) / one.weight.sum().square().detach()

    assert "more than" in gpu.step_figures(model, loss, run)["problem"]


def test_no_time_left_is_named() -> None:
    figures = gpu.measure(gpu.Run(torch.device("cpu"), True, until=0.0))
    assert {figures[name]["problem"] for name in gpu.MEASUREMENTS} == {"no time was left"}


def test_no_card_is_one_sentence() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    with pytest.raises(SystemExit, match="no CUDA device is here"):
        gpu.main([])
