"""From development examples and settings to a bundle: what surrounds the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from demeanor import __version__
from demeanor.data.batches import Batches
from demeanor.data.bundle import Bundle, BundleCard, InputSpecification
from demeanor.data.device import choose_device
from demeanor.data.errors import InputError, nearest
from demeanor.data.examples import Examples
from demeanor.data.normaliser import Normaliser
from demeanor.data.task import Task
from demeanor.inference.predict import forward_all, is_training_buffer
from demeanor.kernels.linear import use_onednn_linear
from demeanor.models import find_system
from demeanor.models.blocks.auxiliary_heads import give_heads, label_of
from demeanor.training.calibrating import subset_outputs
from demeanor.training.checkpoint import Checkpoint, identity_of
from demeanor.training.distributed.group import Processes
from demeanor.training.loop import Loop, Report, Score, seed_everything
from demeanor.training.settings import BranchSettings
from demeanor.training.sources import draws_of, of_corpora, told
from demeanor.training.threads import threads


@dataclass(frozen=True)
class Trained:
    """bundle: the best epoch's model; history: one row per epoch; validation: predictions [N_valid, outputs]; subsets:
    the same by set of modalities, with all others left out, for its calibration."""

    bundle: Bundle
    history: list[dict[str, float]] = field(default_factory=list)
    validation: np.ndarray | None = None
    subsets: dict[str, np.ndarray] = field(default_factory=dict)


def fit(
    branch: str,
    settings: BranchSettings,
    task: Task,
    development: Examples,
    seed: int,
    score: Score,
    report: Report = lambda metrics, epoch: None,
    checkpoints: Path | str | None = None,
    processes: Processes | None = None,
    progress: bool = True,
    code_revision: str = "",
    also: Mapping[str, Task] | None = None,
) -> Trained:
    """Train one branch with one seed on the train split, choose the epoch on the valid split.

    development : train and valid utterances; a test utterance among them is an error
    score       : metrics of predictions, see demeanor.evaluation.metrics.score
    report      : called with each epoch's row of the history
    checkpoints : folder for resuming; None keeps none
    also        : name -> each of the further tasks that the settings name
    InputError for examples, streams or further tasks that cannot be.
    """
    # What follows in this process, the evaluation for example, does not depend on what was trained before.
    with threads(settings.training.threads):
        return _fit(
            branch, settings, task, development, seed, score, report, checkpoints, processes or Processes(),
            progress, code_revision, dict(also or {}),
        )  # fmt: skip


def _fit(
    branch: str, settings: BranchSettings, task: Task, development: Examples, seed: int, score: Score, report: Report,
    checkpoints: Path | str | None, processes: Processes, progress: bool, code_revision: str, also: dict[str, Task],
) -> Trained:  # fmt: skip
    training = settings.training
    require_further(settings, also, processes)
    chosen = of_corpora(development, settings, [task, *also.values()])
    train, valid = sealed(chosen, task)
    train = train if not also else labelled(chosen.split("train"), task, *also.values())
    inputs = specify(settings, development)
    loop, normaliser = _loop(settings, inputs, task, {"train": train, "valid": valid}, seed, score, processes, also)
    frozen = {} if checkpoints is None or not loop.frozen else {"frozen": loop.frozen_digest()}
    further = {"also": {name: one.as_dict() for name, one in also.items()}} if also else {}
    known = {
        "task": task.as_dict(),
        **further,
        "seed": seed,
        "data": development.data_hash,
        "version": __version__,
        **frozen,
    }
    checkpoint = Checkpoint(checkpoints if processes.is_main else None, identity_of(settings, **known))
    title = f"{branch} seed {seed}"
    loop.run(checkpoint, report, title, progress and processes.is_main)
    predicted = forward_all(loop.system, loop.batches["valid"], task.outputs, device=loop.device)
    subsets = subset_outputs(loop.system, loop.batches["valid"], task.outputs, loop.device, predicted)
    last = loop
    if training.refit:
        table = chosen.utterances[chosen.utterances["utterance_id"].isin({*train.ids, *valid.ids})]
        # From here on validation is training data, also for what guards that statistics are fitted on train alone.
        both = Examples.of(table.assign(split="train"), chosen.streams)
        last, normaliser = _loop(settings, inputs, task, {"train": both}, seed, score, processes, also)
        checkpoint = Checkpoint(None, {})
        last.run(
            checkpoint, lambda row, epoch: None, f"{title}, refit", progress and processes.is_main, loop.best_epoch
        )
    weights = {
        f"model.{name}": value.detach().cpu().contiguous().numpy()
        for name, value in last.best_weights(checkpoint).items()
        if not is_training_buffer(last.system, name)
    }
    best = loop.history[loop.best_epoch - 1]
    card = BundleCard(
        branch=branch,
        system=settings.system,
        settings=loop.system.settings.as_dict(),
        task=task,
        inputs=inputs,
        protocol={
            "corpus": corpus_of(train),
            "seed": seed,
            "train": len(train),
            "valid": len(valid),
            **told(settings, development, {"train": train, "valid": valid}, also),
            "languages": sorted(set(train.utterances["language"])),
            "epoch": loop.best_epoch,
            "epochs": len(loop.history),
            "selection": loop.selection[0],
            "training": training.as_dict(),
        },
        metrics={name.removeprefix("valid_"): value for name, value in best.items() if name.startswith("valid_")},
        data_hash=development.data_hash,
        code_revision=code_revision,
        version=__version__,
        licence=licences(inputs),
        notes=settings.notes,
        languages=tuple(sorted(set(train.utterances["language"].dropna()))),
        recogniser=recogniser_of(settings, train),
    )
    return Trained(Bundle(card, {**weights, **normaliser.tensors()}), loop.history, predicted, subsets)


def _loop(
    settings: BranchSettings, inputs: Mapping[str, InputSpecification], task: Task, parts: Mapping[str, Examples],
    seed: int, score: Score, processes: Processes, also: Mapping[str, Task],
) -> tuple[Loop, Normaliser]:  # fmt: skip
    """A training that has not begun, on the train part, and the statistics of that part."""
    system_class = find_system(settings.system)
    seed_everything(seed)
    model = system_class.Settings(**settings.model)
    roles = system_class.card_of(model).roles
    normalised = {
        role: value.stream
        for role, value in inputs.items()
        if settings.normalise and roles[role].normalised and not value.integer
    }
    normaliser = Normaliser.fit(parts["train"], normalised)
    device = choose_device(settings.training.device)
    system = system_class(model, inputs, task)
    use_onednn_linear(system.to(device))
    batches = {
        name: Batches(
            part, inputs, task, normaliser, system.card.batching, system.length_bucket,
            {label_of(name): one.targets(part.utterances) for name, one in also.items()},
        )
        for name, part in parts.items()
    }  # fmt: skip
    if also:
        give_heads(system, also, settings.also, batches["train"][[0]].to(device))
    draws = draws_of(settings, parts["train"].utterances)
    return Loop(system, task, batches, settings.training, seed, score, device, processes, draws), normaliser


def recogniser_of(settings: BranchSettings, examples: Examples) -> str:
    """The model that recognises words for this one: as set, or the one that wrote transcripts it was trained on."""
    table = examples.utterances
    if settings.recogniser != "auto" or "transcript" not in table:
        return settings.recogniser
    made = table["transcript"].dropna().astype(str).str.extract(r"^recognised by (\S+)")[0].dropna()
    return str(made.mode()[0]) if len(made) else "auto"


def sealed(development: Examples, task: Task) -> tuple[Examples, Examples]:
    """The labelled utterances of train and valid; anything of test, or an empty split, is an InputError."""
    splits = set(development.utterances["split"])
    problems = []
    if "test" in splits:
        problems.append("test utterances reached training: the test split is sealed")
    known = labelled(development, task)
    parts = [known.split(name) for name in ("train", "valid")]
    problems += [
        f"the {name} split has no utterance with a label for {task.name}"
        for name, part in zip(("train", "valid"), parts, strict=True)
        if not len(part)
    ]
    if problems:
        raise InputError("development examples", problems)
    return parts[0], parts[1]


def require_further(settings: BranchSettings, also: Mapping[str, Task], processes: Processes) -> None:
    """InputError where the further tasks are not those of the settings, or several processes would learn them."""
    problems = [f"further task '{name}' is not given" for name in settings.also if name not in also]
    problems += [f"further task '{name}' is none of the branch" for name in also if name not in settings.also]
    if also and processes.distributed:
        problems.append("further tasks are learnt by one process: set training.devices to 1")
    if problems:
        raise InputError(f"branch of {settings.system}", problems)


def labelled(examples: Examples, *tasks: Task) -> Examples:
    """The utterances that have a label for one of the tasks."""
    known = np.any([task.labelled(examples.utterances) for task in tasks], axis=0)
    return Examples.of(examples.utterances[known], examples.streams)


def specify(settings: BranchSettings, examples: Examples) -> dict[str, InputSpecification]:
    """What each role is fed with, from the streams that are there. InputError for a stream that there is not."""
    missing = [
        f"role '{role}' wants stream '{name}', which there is not.{nearest(name, examples.streams)}"
        for role, name in settings.streams.items()
        if name not in examples.streams
    ]
    if missing:
        raise InputError(f"streams of {settings.system}", missing, "Add them to feature_engineering's parameters.")
    system = find_system(settings.system)
    max_lengths = {**system.max_lengths(system.Settings(**settings.model)), **settings.max_lengths}
    return {
        role: InputSpecification(
            stream=name,
            dimension=examples.stream(name).dimension,
            integer=np.issubdtype(examples.stream(name).ragged.dtype, np.integer),
            max_length=max_lengths.get(role),
            provenance=examples.stream(name).provenance,
        )
        for role, name in settings.streams.items()
    }


def corpus_of(examples: Examples) -> str:
    """Name of the corpora that the examples come from."""
    return ", ".join(sorted(set(examples.utterances["corpus"])))


def licences(inputs: Mapping[str, InputSpecification]) -> str:
    """Licences of the extractors that a model depends on, each once."""
    found = {value.provenance.licence for value in inputs.values()} - {"unknown", ""}
    return "; ".join(sorted(found))
