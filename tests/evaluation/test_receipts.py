"""Receipts: written and read back whole, with the code and the machine that they name."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime

import numpy as np
import pytest
from pydantic import ValidationError

from demeanor.data.errors import InputError
from demeanor.evaluation.environment import UNKNOWN, code_revision, peak_memory_mib, this_machine
from demeanor.evaluation.receipts import Receipt, load_receipts, save_receipts


def _receipt(**changes) -> Receipt:
    values = {
        "branch": "self_mm",
        "system": "self_mm",
        "task": "sentiment",
        "corpus": "demo",
        "split": "test",
        "seed": 1,
        "metrics": {"MAE": 0.1 + 0.2, "Corr": float("nan")},
        "n": 140,
        "data_hash": "abc",
    }
    return Receipt(**{**values, **changes})


def test_written_and_read_back(tmp_path):
    receipt = _receipt(modalities=("text", "audio"), synthetic=True)
    (path,) = save_receipts([receipt], tmp_path / "receipts")
    assert path.name == "sentiment-self_mm-seed1-test-text-audio.receipt.json"
    text = path.read_text()
    assert "NaN" not in text
    assert json.loads(text)["metrics"]["Corr"] is None
    (again,) = load_receipts(tmp_path / "receipts")
    assert np.isnan(again.metrics["Corr"])
    assert again.metrics["MAE"] == 0.1 + 0.2
    assert again.model_dump(exclude={"metrics"}) == receipt.model_dump(exclude={"metrics"})
    assert again.time.tzinfo is not None
    assert load_receipts(tmp_path / "nowhere") == []


def test_names_are_safe_and_a_rerun_replaces(tmp_path):
    first, second = _receipt(branch="a/b c"), _receipt(branch="a/b c", n=3)
    assert first.save(tmp_path) == second.save(tmp_path)
    assert [receipt.n for receipt in load_receipts(tmp_path)] == [3]


def test_broken_receipts_are_all_named(tmp_path):
    _receipt().save(tmp_path)
    (tmp_path / "a.receipt.json").write_text("{")
    (tmp_path / "b.receipt.json").write_text('{"branch": "x"}')
    with pytest.raises(InputError, match="2 problems") as caught:
        load_receipts(tmp_path)
    assert "a.receipt.json" in str(caught.value)
    assert "b.receipt.json" in str(caught.value)


def test_unknown_fields_are_refused_and_times_are_utc():
    with pytest.raises(ValidationError, match="surprise"):
        _receipt(surprise=1)
    assert _receipt(time="2024-05-01T12:00:00+02:00").time == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert _receipt(time="2024-05-01T12:00:00").time == datetime(2024, 5, 1, 12, tzinfo=UTC)


def test_the_machine_is_described():
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.memory_mib > 100
    assert machine.python.startswith("3.")
    assert machine.processor != ""
    assert peak_memory_mib() > 10


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_code_revision_of_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as inside a git hook

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
        environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(tmp_path)}
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, env=environment, capture_output=True)

    assert code_revision(tmp_path) == UNKNOWN
    git("init", "-q")
    assert code_revision(tmp_path) == UNKNOWN  # no commit yet
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "first")
    git("tag", "v1")
    clean = code_revision(tmp_path)
    assert len(clean) == 12
    assert int(clean, 16) >= 0
    (tmp_path / "new").write_text("untracked files do not count")
    assert code_revision(tmp_path) == clean
    (tmp_path / "file").write_text("two")
    assert code_revision(tmp_path) == f"{clean}-dirty"
    inside = tmp_path / "inside"
    inside.mkdir()
    assert code_revision(inside) == UNKNOWN  # a repository around the project does not answer for it


def test_code_revision_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_revision(tmp_path) == UNKNOWN
    assert code_revision(tmp_path / "absent") == UNKNOWN
