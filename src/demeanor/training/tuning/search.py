"""Search of a branch's settings with Optuna: on validation only, pruned, and resumed where it was stopped.

Akiba et al. 2019, https://arxiv.org/abs/1907.10902; the sampler is TPE (Bergstra et al. 2011), a trial whose validation
score falls behind the median of the others at the same epoch is pruned. MMSA's own tuning chose by test scores
(docs/systems/mmsa.md#d8); here the test split is not within reach.
"""

from __future__ import annotations

import logging
import math
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from demeanor.data.errors import DemeanorError, InputError, MissingExtraError
from demeanor.data.examples import Examples
from demeanor.data.files import disk_errors_told, sha256_of
from demeanor.data.task import Tasks
from demeanor.training import tracking
from demeanor.training.distributed.launch import process_count, train
from demeanor.training.loop import Score, TrainingFailed, mixed, selection_of
from demeanor.training.settings import BranchSettings
from demeanor.training.tuning.settings import Choices, TuningSettings, branch_with, placed

logger = logging.getLogger(__name__)
IDENTITY = "identity"


class TuningFailed(DemeanorError):
    """No trial ended with a score."""


@dataclass(frozen=True)
class Tuned:
    """block: the branch's parameters with the best trial's values; score: its validation score; trials: all of them."""

    block: dict[str, Any]
    score: float
    trials: pd.DataFrame


class _Pruned(Exception):
    """Leaves the training of a trial that has fallen behind."""


class Search:
    """The search of one branch. Its trials lie in the SQLite file `study`, where a later search goes on."""

    def __init__(
        self,
        branch: str,
        block: Mapping[str, Any],
        tuning: TuningSettings,
        development: Examples,
        tasks: Tasks,
        score: Score,
        study: Path | str,
        checkpoints: Path | str,
    ):
        self.branch, self.block, self.tuning = branch, dict(block), tuning
        self.development, self.tasks, self.score = development, tasks, score
        self.ranges = tuning.ranges(branch)
        example = self._settings({name: value.first for name, value in self.ranges.items()})
        self.metric, self.direction = selection_of(tasks[example.task], example.training)
        self.checkpoints = Path(checkpoints) / "tuning" / branch
        self.file = Path(study)
        with disk_errors_told(self.file):
            self.study = self._open(self.file)

    def _settings(self, values: Mapping[str, Any]) -> BranchSettings:
        try:
            return branch_with(self.block, values, self.tuning.seeds)
        except ValueError as error:
            raise InputError(f"tuning.space.{self.branch}", [str(error)]) from None

    def _open(self, path: Path) -> Any:
        try:
            import optuna
        except ImportError:
            raise MissingExtraError("tuning", "tune") from None

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=f"sqlite:///{path.resolve()}",
            study_name=self.branch,
            direction="minimize" if self.direction == "min" else "maximize",
            load_if_exists=True,
            # Optuna's warm-up ends before the step that is named.
            pruner=optuna.pruners.MedianPruner(self.tuning.startup_trials, self.tuning.warmup_epochs + 1),
        )
        # Scores of other data, settings or ranges cannot be compared with those to come.
        identity = sha256_of(
            {
                "settings": self._settings({}).as_dict(),
                "space": {name: value.as_dict() for name, value in self.ranges.items()},
                "search": self.tuning.model_dump(include={"seeds", "sampler_seed", "startup_trials", "warmup_epochs"}),
                "data": self.development.data_hash,
            }
        )
        former = study.user_attrs.get(IDENTITY)
        if former not in (None, identity):
            raise InputError(
                str(path),
                [f"holds {len(study.trials)} trials of '{self.branch}' made with other data, settings or ranges"],
                "Move the file away to begin anew.",
            )
        study.set_user_attr(IDENTITY, identity)
        return study

    def run(self) -> Tuned:
        """Trials until there are as many as were asked for, those of former runs included."""
        with disk_errors_told(self.file):
            return self._run()

    def _run(self) -> Tuned:
        from optuna.trial import TrialState

        for interrupted in self.study.get_trials(states=(TrialState.RUNNING,), deepcopy=False):
            self._trial(self._again(interrupted))
        while len(self.study.trials) < self.tuning.trials:
            self.study.sampler = self._sampler(len(self.study.trials))
            self._trial(self.study.ask())
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        done = self.study.get_trials(states=(TrialState.COMPLETE,), deepcopy=False)
        if not done:
            raise TuningFailed(
                f"{self.branch}: none of {len(self.study.trials)} trials ended with a score. Narrow `tuning.space`."
            )
        best = self.study.best_trial
        logger.info("%s: trial %d of %d is best, validation %s %.4f", self.branch, best.number,
                    len(self.study.trials), self.metric, best.value)  # fmt: skip
        block = placed(self.block, {**best.params, "training.seeds": list(self.tuning.seeds)})
        return Tuned(block, float(best.value), self._table())

    def _sampler(self, number: int) -> Any:
        """Seeded by the trial's number: a search that was interrupted draws what it would have drawn."""
        from optuna.samplers import TPESampler

        return TPESampler(n_startup_trials=self.tuning.startup_trials, seed=mixed(self.tuning.sampler_seed, number))

    def _again(self, interrupted: Any) -> Any:
        """The trial of a killed run; its values are kept, those not drawn yet are drawn now."""
        from optuna.trial import Trial

        self.study.sampler = self._sampler(interrupted.number)
        return Trial(self.study, interrupted._trial_id)

    def _draw(self, trial: Any) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for name, values in self.ranges.items():
            if isinstance(values, Choices):
                drawn[name] = trial.suggest_categorical(name, list(values.choices))
            elif values.whole:
                drawn[name] = trial.suggest_int(
                    name, values.low, values.high, step=int(values.step or 1), log=values.log
                )
            else:
                drawn[name] = trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)
        return drawn

    def _trial(self, trial: Any) -> None:
        from optuna.trial import TrialState

        drawn = self._draw(trial)
        settings = self._settings(drawn)
        title = f"{self.branch} trial {trial.number}"
        tags = {"branch": self.branch, "system": settings.system, "trial": str(trial.number), "tuning": "true"}
        parameters = {"branch": self.branch, "trial": trial.number, "settings": settings.as_dict()}
        with tracking.current().child(title, parameters, tags) as run:
            value, state = math.nan, TrialState.COMPLETE
            try:
                value = self._score(trial, settings, run)
            except _Pruned:
                state = TrialState.PRUNED
            except TrainingFailed as error:
                state = TrialState.FAIL
                logger.warning("%s: %s", title, error)
            run.log_metrics({f"tuning_{self.metric}": value})
            run.set_tags({"trial_state": state.name.lower()})
        self.study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)
        shutil.rmtree(self.checkpoints / f"trial_{trial.number}", ignore_errors=True)

    def _score(self, trial: Any, settings: BranchSettings, run: tracking.Run) -> float:
        """Mean over the seeds of the validation score at the epoch that training keeps.

        The first seed's epochs decide about pruning; with several processes, whose epochs are told to another thread,
        nothing is pruned.
        """
        watched = f"valid_{self.metric}"
        pruning = process_count(settings.training) == 1
        scores = []
        for position, seed in enumerate(self.tuning.seeds):

            def report(row: dict[str, float], epoch: int, first: bool = position == 0) -> None:
                run.log_metrics(row, epoch)
                if not (first and pruning and math.isfinite(row.get(watched, math.nan))):
                    return
                with warnings.catch_warnings():  # of steps that a resumed trial tells again
                    warnings.simplefilter("ignore")
                    trial.report(row[watched], epoch)
                if trial.should_prune():
                    raise _Pruned

            trained = train(
                f"{self.branch} trial {trial.number}", settings, self.tasks[settings.task], self.development, seed,
                self.score, report, self.checkpoints / f"trial_{trial.number}" / f"seed_{seed}",
                also={name: self.tasks[name] for name in settings.also},
            )  # fmt: skip
            scores.append(trained.bundle.card.metrics[self.metric])
        return sum(scores) / len(scores)

    def _table(self) -> pd.DataFrame:
        """One row per trial, in their order."""
        rows = [
            {
                "branch": self.branch,
                "trial": trial.number,
                "state": trial.state.name.lower(),
                # Of a pruned trial Optuna keeps its last epoch's, which is no score.
                self.metric: trial.value if trial.state.name == "COMPLETE" else math.nan,
                "epochs": len(trial.intermediate_values),
                "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
                **trial.params,
            }
            for trial in self.study.get_trials(deepcopy=False)
        ]
        return pd.DataFrame(rows)
