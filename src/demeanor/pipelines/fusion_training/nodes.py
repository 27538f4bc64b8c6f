"""Development examples in; per branch one bundle per seed and the history of its training out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError, nearest
from demeanor.data.examples import Examples
from demeanor.data.places import anchored
from demeanor.data.task import Task, Tasks
from demeanor.training.settings import BranchSettings, JoinedSettings

if TYPE_CHECKING:
    from demeanor.training.distributed.workshop import Job, Place
    from demeanor.training.fit import Trained
    from demeanor.training.tracking import Run, TrackedData

logger = logging.getLogger(__name__)

EMBEDDINGS = "representation."
"""Beginning of the names of streams that representation_learning makes."""


def seed_jobs(
    branch: str, development: Examples, settings: BranchSettings, tasks: Tasks, checkpoints: str, data_hash: str = ""
) -> list[Job]:
    """One job per seed of a branch: trained in a worker or here, reported to the tracker by this process, which calls
    the data `data_hash` where that is not its own. None where the union leaves out all the corpora that it learns from.
    """
    from demeanor.training.distributed.launch import on_cpu_alone
    from demeanor.training.distributed.workshop import Job

    if nothing_there(development, settings):
        return []
    also = {name: tasks[name] for name in settings.also}
    data = [tracked_data(development, split, data_hash) for split in ("train", "valid")]

    def job(seed: int) -> Job:
        def run(place: Place, tell: Callable[[str], None]) -> Trained:
            task = tasks[settings.task]
            return train_seed(place, tell, branch, development, settings, task, seed, checkpoints, also, data)

        return Job((branch, f"seed {seed}"), run, apart=on_cpu_alone(settings.training))

    return [job(seed) for seed in settings.training.seeds]


def nothing_there(development: Examples, settings: BranchSettings) -> bool:
    """Are none of the corpora that a branch names among the examples?"""
    return bool(settings.corpora) and not set(settings.corpora) & set(development.utterances["corpus"])


def train_seed(
    place: Place, tell: Callable[[str], None], branch: str, development: Examples, settings: BranchSettings,
    task: Task, seed: int, checkpoints: str, also: Mapping[str, Task], data: Sequence[TrackedData],
) -> Trained:  # fmt: skip
    """Train at `place` with one seed, as a child run of the tracker, told of train and valid; `tell` hears how far it
    is."""
    from demeanor.evaluation.environment import code_revision
    from demeanor.evaluation.validation import validation_score
    from demeanor.training import tracking
    from demeanor.training.distributed.launch import train_reporting

    parameters = {"branch": branch, "seed": seed, "task": task.as_dict(), "settings": settings.as_dict()}
    tags = {"branch": branch, "system": settings.system, "seed": str(seed), "data_hash": data[0].data_hash}
    with tracking.current().child(f"{branch} seed {seed}", parameters, tags) as run:
        run.log_inputs(data)

        def report(row: dict[str, float], epoch: int) -> None:
            run.log_metrics(row, epoch)
            tell(f"{branch} seed {seed} epoch {epoch} of at most {settings.training.epochs}")

        folder = anchored(checkpoints).resolve() / branch / f"seed_{seed}"
        trained = place.call(
            train_reporting, branch, settings, task, development, seed, validation_score, folder,
            code_revision(Path.cwd()), also, report=report,
        )  # fmt: skip
        track(run, trained.bundle, data[1])
    return trained


def track(run: Run, bundle: Bundle, valid: TrackedData) -> None:
    """Tell a run of the bundle that it ended with, and of its figures on `valid`."""
    from demeanor.training.tracking import TrackedModel

    run.log_metrics({f"best_{name}": value for name, value in bundle.card.metrics.items()})
    with tempfile.TemporaryDirectory() as place_on_disk:
        bundle.save(Path(place_on_disk) / "bundle")
        run.log_artifacts(Path(place_on_disk) / "bundle", "bundle")
    run.log_model(
        TrackedModel.of(bundle), {f"valid_{name}": value for name, value in bundle.card.metrics.items()}, valid
    )


def tracked_data(examples: Examples, split: str, data_hash: str = "") -> TrackedData:
    """A split of the development examples, as the tracker is told of it: by the hash that bundles carry."""
    from demeanor.training.fit import corpus_of
    from demeanor.training.tracking import TrackedData

    number = int((examples.utterances["split"] == split).sum())
    return TrackedData(corpus_of(examples), split, data_hash or examples.data_hash, number)


def train_branch(
    branch: str, development: Examples, settings: BranchSettings, tasks: Tasks, checkpoints: str, data_hash: str = ""
) -> tuple[dict[str, Bundle], pd.DataFrame]:
    """Train one branch with every seed of its settings.

    Returns bundles by name (`seed_1`, ...) and the history: one row per seed and epoch. All bundles carry the same
    calibration, fitted on validation by all seeds together. None of either, and a warning, where the union leaves out
    all the corpora that the branch learns from.
    """
    from demeanor.training.calibrating import calibrate
    from demeanor.training.distributed import workshop
    from demeanor.training.fit import sealed
    from demeanor.training.sources import left_out, of_corpora

    absent = ", ".join(left_out(development, settings))
    jobs = seed_jobs(branch, development, settings, tasks, checkpoints, data_hash)
    if not jobs:
        logger.warning("%s is not trained: nothing is there of what it learns from, %s", branch, absent)
        return {}, pd.DataFrame(columns=["branch", "seed", "epoch"])
    if absent:
        logger.warning("%s learns without %s, which the union leaves out", branch, absent)
    bundles: dict[str, Bundle] = {}
    rows: list[dict[str, float | str]] = []
    subsets = []
    task = tasks[settings.task]
    name = task.selection_metric[0]
    for seed, trained in zip(settings.training.seeds, workshop.current().results(jobs, development), strict=True):
        bundles[f"seed_{seed}"] = trained.bundle
        subsets.append(trained.subsets)
        rows += [{"branch": branch, "seed": seed, **row} for row in trained.history]
        value = trained.bundle.card.metrics.get(name, float("nan"))
        logger.info("%s seed %s: validation %s %.3f after %d epochs", branch, seed, name, value, len(trained.history))
    inputs = next(iter(bundles.values())).card.inputs
    every = [task, *(tasks[one] for one in settings.also)]
    valid = sealed(of_corpora(development, settings, every), task)[1]
    calibration = calibrate(task, inputs, valid, settings.training.seeds, subsets, settings.calibration)
    logger.info("%s: %s", branch, calibration.describe())
    return {name: bundle.calibrated(calibration) for name, bundle in bundles.items()}, pd.DataFrame(rows)


def train_on_embeddings(
    branch: str,
    development: Examples,
    representations: dict[str, Bundle],
    settings: BranchSettings,
    tasks: Tasks,
    checkpoints: str,
) -> tuple[dict[str, Bundle], pd.DataFrame]:
    """`train_branch` where streams `representation.<name>` are among the inputs.

    The representations, which were learnt on the train split, embed the development examples, and travel in the
    bundles: these then answer for whatever the representations read, the sealed test and recordings included.
    InputError for a representation that there is not.
    """
    from demeanor.inference.model import TrainedModel

    wanted = {stream: stream.partition(".")[2] for stream in settings.streams.values() if stream.startswith(EMBEDDINGS)}
    missing = [f"there is no '{name}'.{nearest(name, representations)}" for name in wanted.values()
               if name not in representations]  # fmt: skip
    if missing:
        raise InputError(f"representations of {branch}", missing, "Add it to `representations` of the parameters.")
    carried = {stream: representations[name] for stream, name in wanted.items()}
    made = {stream: TrainedModel.load(bundle).embed(development, stream) for stream, bundle in carried.items()}
    examples = Examples.of(development.utterances, {**development.streams, **made})
    bundles, history = train_branch(branch, examples, settings, tasks, checkpoints, development.data_hash)
    # What the branch was trained on is the development data; the embeddings' own making is in their provenance.
    complete = {}
    for name, bundle in bundles.items():
        card = bundle.card.model_copy(update={"data_hash": development.data_hash})
        complete[name] = Bundle(card, bundle.tensors).carrying(carried)
    return complete, history


def join_branches(
    name: str, development: Examples, settings: JoinedSettings, tasks: Tasks, members: dict[str, dict[str, Bundle]]
) -> dict[str, Bundle]:
    """Trained branches as one model, a bundle for each seed that all have, each told to the tracker as a training is.

    A member that was not trained, because the union leaves out all it learns from, is left out with a warning; none is
    made, with a warning, where nobody is left, or one alone who has nobody to be joined with. InputError where they
    cannot answer for one task together.
    """
    absent = ", ".join(member for member, seeds in members.items() if not seeds)
    members = {member: seeds for member, seeds in members.items() if seeds}
    if len(members) < (2 if settings.seeds == "each" else 1):
        logger.warning("%s is not made, for lack of %s", name, absent)
        return {}
    if absent:
        logger.warning("%s is joined without %s, for which nothing was trained", name, absent)
    from demeanor.evaluation.environment import code_revision
    from demeanor.evaluation.validation import validation_score
    from demeanor.training import tracking
    from demeanor.training.joining import join

    task = tasks[settings.task]
    bundles = join(name, settings, task, development, members, validation_score, code_revision(Path.cwd()))
    metric = task.selection_metric[0]
    data = [tracked_data(development, split) for split in ("train", "valid")]
    for bundle in bundles.values():
        seed, value = bundle.card.protocol["seed"], bundle.card.metrics.get(metric, float("nan"))
        parameters = {"branch": name, "seed": seed, "task": task.as_dict(), "settings": settings.as_dict()}
        tags = {"branch": name, "system": bundle.card.system, "seed": str(seed), "data_hash": development.data_hash}
        with tracking.current().child(f"{name} seed {seed}", parameters, tags) as run:
            run.log_inputs(data)
            track(run, bundle, data[1])
        logger.info("%s seed %s: validation %s %.3f", name, seed, metric, value)
    logger.info("%s: %s", name, next(iter(bundles.values())).card.notes)
    return bundles


def gather_bundles(**bundles: dict[str, Bundle]) -> dict[str, dict[str, Bundle]]:
    """branch -> seed -> bundle: one view on all branches for the evaluation."""
    return bundles


def draw_training(tasks: Tasks, **histories: pd.DataFrame) -> Any:
    """Loss and validation metric per epoch of every branch, for the first task that any of them was trained for.
    InputError if none was."""
    from demeanor.evaluation.curves import training_curves

    metrics = [task.selection_metric[0] for task in tasks.root.values()]
    found = {metric: [table for table in histories.values() if f"valid_{metric}" in table] for metric in metrics}
    trained = [(metric, rows) for metric, rows in found.items() if rows]
    if not trained:
        advice = "Put a corpus there that one of them learns from."
        raise InputError("branches", ["none of them was trained"], advice)
    metric, rows = trained[0]
    return training_curves(pd.concat(rows, ignore_index=True), metric=f"valid_{metric}")
