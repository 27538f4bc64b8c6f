"""The page on the time of the job says what the tracker knows of it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.benchmarks.main_job import measured, newest, page


def run(name: str, start: float, end: float, **tags: str) -> SimpleNamespace:
    """Seconds, as MLflow has them: milliseconds."""
    info = SimpleNamespace(run_name=name, start_time=round(1000 * start), end_time=round(1000 * end))
    return SimpleNamespace(info=info, data=SimpleNamespace(tags={key.replace("_", "."): tags[key] for key in tags}))


def test_what_comes_before_and_after_the_trainings_are_parts_of_their_own():
    parent = run("all", 0.0, 100.0, machine_cores="2", machine_processor="a processor", machine_torch="2.13")
    children = [run("late_fusion seed 1", 40.0, 45.5), run("late_fusion seed 2", 41.0, 70.0), run("pca", 50.0, 60.0)]
    busy = [SimpleNamespace(timestamp=1000 * second, value=value) for second, value in ((10, 90.0), (20, 70.0))]
    found = measured(parent, children, busy)
    assert [(one["seconds"], one["busy"]) for one in found["parts"]] == [(40.0, 80.0), (30.0, None), (30.0, None)]
    assert found["trainings"] == {"late_fusion": [5.5, 29.0], "pca": [10.0]}
    text = page(found)
    assert "| ingestion and features | 40 | 80 % |" in text
    assert "| **all** | **100** | |" in text
    assert "| `late_fusion` | 2 | 5.5, 29.0 |" in text
    assert "2 cores of a processor, torch 2.13" in text


def test_a_job_that_trained_nothing_and_a_folder_without_one_make_no_page(tmp_path: Path):
    with pytest.raises(SystemExit, match="trained nothing"):
        measured(run("all", 0.0, 1.0), [], [])
    with pytest.raises(SystemExit, match=r"holds no mlflow\.db"):
        newest(tmp_path)
