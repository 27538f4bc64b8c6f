"""Searches on the toy corpus: validation alone, pruned, resumed, reproduced."""

from __future__ import annotations

from types import SimpleNamespace

import optuna
import pytest
import yaml
from kedro.io import DataCatalog
from optuna.trial import TrialState

from demeanor.configuration import loader_of
from demeanor.data.errors import InputError
from demeanor.data.task import Tasks
from demeanor.pipelines.tuning.nodes import tune_branches
from demeanor.training import tracking
from demeanor.training.fit import fit
from demeanor.training.loop import TrainingFailed
from demeanor.training.settings import BranchSettings
from demeanor.training.tuning import search as tuning
from demeanor.training.tuning.search import Search, TuningFailed
from demeanor.training.tuning.settings import TuningSettings, leaves, placed
from tests.project import PROJECT
from tests.toy import SENTIMENT, toy_examples, toy_score

TASKS = Tasks({"sentiment": SENTIMENT})
BLOCK = {
    "system": "late_fusion",
    "task": "sentiment",
    "streams": {"text": "text.words", "audio": "audio.frames"},
    "model": {"hidden": 8},
    "training": {"seeds": [7, 8], "epochs": 3, "patience": 3, "threads": 1},
}
SPACE = {
    "model": {"dropout": {"low": 0.0, "high": 0.5}, "hidden": {"choices": [4, 8]}},
    "training": {"learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}, "batch_size": {"low": 8, "high": 16}},
}


@pytest.fixture(scope="module")
def development():
    return toy_examples(test=0)


def settings(folder, **more) -> TuningSettings:
    given = {"branches": ["mine"], "space": {"mine": SPACE}, "trials": 3, "seeds": [1], "corpus": "toy"}
    return TuningSettings(**{**given, "folder": str(folder), **more})


def search(folder, development, block=BLOCK, **more) -> Search:
    return Search("mine", block, settings(folder, **more), development, TASKS, toy_score, folder / "mine.db", folder)


def test_the_found_environment_reproduces_the_score_exactly(development, tmp_path, monkeypatch):
    monkeypatch.setattr("demeanor.pipelines.tuning.nodes.validation_score", toy_score)
    parameters = {"branches": {"mine": BLOCK, "other": {"kept": True}}, "workers": "1"}
    trials, files = tune_branches(development, settings(tmp_path, seeds=[1, 2]), TASKS, str(tmp_path), parameters)
    entry = loader_of(PROJECT / "conf")["catalog"]["tuned_environment"]
    catalog = DataCatalog.from_config({"tuned": {**entry, "path": str(tmp_path / "toy_tuned")}})
    catalog.save("tuned", {**files, "stale": {}})
    catalog.save("tuned", files)
    assert len(list((tmp_path / "toy_tuned").iterdir())) == len(files), "what is no longer there stays"
    made = yaml.safe_load((tmp_path / "toy_tuned/parameters.yml").read_text())
    assert made["branches"]["other"] == {"kept": True}
    assert made["workers"] == "1"
    assert yaml.safe_load((tmp_path / "toy_tuned/globals.yml").read_text()) == {"corpus": "toy"}
    assert BLOCK["training"]["seeds"] == [7, 8]
    branch = BranchSettings(**made["branches"]["mine"])
    assert branch.training.seeds == (1, 2)
    scores = [
        fit("mine", branch, SENTIMENT, development, seed, toy_score).bundle.card.metrics["MAE"] for seed in (1, 2)
    ]
    assert sum(scores) / 2 == trials["MAE"].min()
    assert not (tmp_path / "tuning/mine").exists()
    assert list(trials["trial"]) == [0, 1, 2]


def test_a_killed_search_goes_on_as_if_nothing_had_been(development, tmp_path, monkeypatch):
    straight = search(tmp_path / "a", development).run()
    original, calls = tuning.train, []

    def killed(*arguments, **more):
        calls.append(arguments)
        if len(calls) == 2:
            report = arguments[6]

            def stop(row, epoch):
                report(row, epoch)
                if epoch == 2:
                    raise KeyboardInterrupt

            arguments = (*arguments[:6], stop, arguments[7])
        return original(*arguments, **more)

    monkeypatch.setattr(tuning, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "b", development).run()
    states = [
        trial.state for trial in optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/b/mine.db").trials
    ]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING]
    assert (tmp_path / "b/tuning/mine/trial_1/seed_1/latest.pt").is_file()
    resumed = search(tmp_path / "b", development).run()
    assert len(calls) == 2 + 2  # the interrupted trial and the one that was left
    left = [table.drop(columns="seconds") for table in (straight.trials, resumed.trials)]
    assert left[0].equals(left[1])
    assert resumed.block == straight.block
    more = search(tmp_path / "b", development, trials=4).run()
    assert len(more.trials) == 4
    assert len(calls) == 5


def test_trials_that_fall_behind_are_pruned_and_told_apart(development, tmp_path, monkeypatch):
    told: list[tuple[str, dict]] = []

    class Tracker(tracking._Untracked):
        def child(self, name, parameters, tags):
            told.append((name, parameters))
            return super().child(name, parameters, tags)

        def set_tags(self, tags):
            told.append(("tags", dict(tags)))

    def train(branch, settings, task, examples, seed, score, report, checkpoints, **_):
        """Every trial is worse than those before it."""
        number = int(branch.rpartition(" ")[2])
        for epoch in range(1, 6):
            report({"valid_MAE": 1.0 + number}, epoch)
        card = SimpleNamespace(metrics={"MAE": 1.0 + number})
        return SimpleNamespace(bundle=SimpleNamespace(card=card))

    monkeypatch.setattr(tuning, "train", train)
    tracking.use(Tracker())
    try:
        found = search(tmp_path, development, trials=4, startup_trials=2, warmup_epochs=1).run()
    finally:
        tracking.use(None)
    assert list(found.trials["state"]) == ["complete", "complete", "pruned", "pruned"]
    assert list(found.trials["epochs"]) == [5, 5, 2, 2]
    assert found.score == 1.0
    assert [name for name, _ in told if name != "tags"] == [f"mine trial {n}" for n in range(4)]
    assert [tags["trial_state"] for name, tags in told if name == "tags"] == list(found.trials["state"])


def test_another_search_in_the_same_file_is_refused(development, tmp_path):
    search(tmp_path, development)
    with pytest.raises(InputError, match="made with other data, settings or ranges"):
        search(tmp_path, development, block={**BLOCK, "model": {"hidden": 16}})


def test_the_sealed_test_stays_sealed(tmp_path):
    with pytest.raises(InputError, match="sealed"):
        search(tmp_path, toy_examples()).run()


def test_trainings_that_fail_are_told_and_none_left_is_an_error(development, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise TrainingFailed("the loss became nan")

    monkeypatch.setattr(tuning, "train", fails)
    with pytest.raises(TuningFailed, match="none of 3 trials"):
        search(tmp_path, development).run()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "says nothing about mine"),
        ({"model": {"hidden": 8}}, "give choices, or low and high"),
        ({"model": {"hidden": {"low": 8, "high": 8}}}, "must be below"),
        ({"model": {"hidden": {"low": 0, "high": 8, "log": True}}}, "logarithmic"),
        ({"model": {"hidden": {"choices": []}}}, "choices"),
    ],
)
def test_impossible_spaces_are_refused_before_anything_runs(tmp_path, space, message):
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, space={"mine": space})


def test_a_space_beside_the_branch_is_refused(development, tmp_path):
    with pytest.raises(InputError, match="hiden"):
        search(tmp_path, development, space={"mine": {"model": {"hiden": {"choices": [4]}}}})
    with pytest.raises(InputError, match=r"there is no branch 'mine'\. Did you mean 'min'"):
        tune_branches(development, settings(tmp_path), TASKS, str(tmp_path), {"branches": ["min"], "min": BLOCK})


def test_values_are_placed_without_changing_what_was_given():
    given = {"model": {"a": 1}, "training": None}
    assert placed(given, {"model.a": 2, "model.b.c": 3, "training.x": 4}) == {
        "model": {"a": 2, "b": {"c": 3}}, "training": {"x": 4},
    }  # fmt: skip
    assert given == {"model": {"a": 1}, "training": None}
    assert list(leaves(SPACE)) == ["model.dropout", "model.hidden", "training.learning_rate", "training.batch_size"]
