"""What surrounds a run: which checkpoints it forgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from demeanor.hooks import CheckpointHooks


class Catalog:
    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, name: str) -> Any:
        assert name == "checkpoints"
        return str(self.folder)


def checkpoints(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "latest.pt").write_bytes(b"state")
    return folder


def left(folder: Path) -> list[str]:
    return sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("latest.pt"))


def run(hooks: CheckpointHooks, folder: Path, *saved: str, complete: bool = True) -> None:
    hooks.before_pipeline_run(pipeline=None)  # type: ignore[arg-type]
    for name in saved:
        hooks.after_dataset_saved(dataset_name=name)
    if complete:
        hooks.after_pipeline_run(catalog=Catalog(folder))  # type: ignore[arg-type]


def test_a_run_of_one_branch_leaves_the_checkpoints_of_the_others_and_of_a_search(tmp_path: Path):
    folder = checkpoints(
        tmp_path / "checkpoints", "one/seed_1", "one/seed_2", "two/seed_1", "tuning/one/trial_3/seed_1",
        "representation/pca",
    )  # fmt: skip
    run(CheckpointHooks(), folder, "fusion_training.one_bundles", "fusion_training.one_history")
    assert left(folder) == ["representation/pca", "tuning/one/trial_3/seed_1", "two/seed_1"]
    assert not (folder / "one").exists()


def test_the_whole_job_forgets_all_of_its_branches(tmp_path: Path):
    folder = checkpoints(tmp_path / "checkpoints", "one/seed_1", "two/seed_1")
    (folder / "representation").mkdir()  # what pretraining leaves of itself
    run(CheckpointHooks(), folder, "fusion_training.one_bundles", "fusion_training.two_bundles", "bundles")
    assert not folder.exists()


def test_a_run_that_did_not_end_and_one_that_trained_nothing_forget_nothing(tmp_path: Path):
    folder = checkpoints(tmp_path / "checkpoints", "one/seed_1")
    hooks = CheckpointHooks()
    run(hooks, folder, "fusion_training.one_bundles", complete=False)
    run(hooks, folder, "evaluation.predictions")
    assert left(folder) == ["one/seed_1"]


def test_a_branch_that_is_called_as_the_search_is_takes_nothing_from_it(tmp_path: Path):
    folder = checkpoints(tmp_path / "checkpoints", "tuning/seed_1", "tuning/one/trial_0/seed_1")
    run(CheckpointHooks(), folder, "fusion_training.tuning_bundles")
    assert left(folder) == ["tuning/one/trial_0/seed_1"]
