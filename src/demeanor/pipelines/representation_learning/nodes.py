"""Development examples in; self-supervised representations, their embeddings and what a probe makes of them out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ConfigDict, RootModel

from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError, nearest
from demeanor.data.examples import Examples
from demeanor.data.places import anchored
from demeanor.data.progress import with_progress
from demeanor.data.stream import Stream
from demeanor.data.task import Task, Tasks
from demeanor.pipelines.branches import enabled
from demeanor.training.pretraining.settings import RepresentationSettings
from demeanor.training.pretraining.sweep import SweepSettings

if TYPE_CHECKING:
    from demeanor.training.distributed.workshop import Job, Place

logger = logging.getLogger(__name__)
#: Node that puts representations into the registry.
REGISTER = "representation_learning.register_representations"

Pretrained = tuple[Bundle, list[dict[str, float]]]
"""A representation, and one dict of metrics per epoch."""


class Representations(RootModel[dict[str, RepresentationSettings]]):
    """Representations to learn, by name."""

    model_config = ConfigDict(frozen=True)

    @property
    def enabled(self) -> dict[str, RepresentationSettings]:
        """Those that are learnt."""
        return {name: self.root[name] for name in enabled(self.root)}


def pretraining_jobs(development: Examples, settings: Representations, checkpoints: str) -> list[Job]:
    """One job per representation of the settings that is enabled."""
    from demeanor.data.device import choose_device
    from demeanor.training.distributed.workshop import Job

    def job(name: str, chosen: RepresentationSettings) -> Job:
        def run(place: Place, tell: Callable[[str], None]) -> Pretrained:
            return pretrain_one(place, tell, name, development, chosen, checkpoints)

        return Job(("representation", name), run, apart=choose_device(chosen.device).type == "cpu")

    return [job(name, chosen) for name, chosen in settings.enabled.items()]


def pretrain_one(
    place: Place, tell: Callable[[str], None], name: str, development: Examples, settings: RepresentationSettings,
    checkpoints: str,
) -> Pretrained:  # fmt: skip
    """Learn one representation at `place`, as a child run of the tracker; `tell` hears how far it is."""
    import tempfile

    from demeanor.training import tracking
    from demeanor.training.pretraining.loop import pretrain_reporting

    parameters = {"representation": name, "settings": settings.as_dict()}
    tags = {"representation": name, "data_hash": development.data_hash}
    with tracking.current().child(f"representation {name}", parameters, tags) as run:

        def report(epoch: int, metrics: dict[str, float]) -> None:
            run.log_metrics(metrics, epoch)
            tell(f"{name} epoch {epoch} of at most {settings.epochs}")

        folder = anchored(checkpoints).resolve() / "representation" / name
        bundle, history = place.call(pretrain_reporting, settings, development, folder, name, report=report)
        with tempfile.TemporaryDirectory() as made:
            bundle.save(Path(made) / "bundle")
            run.log_artifacts(Path(made) / "bundle", "bundle")
    return bundle, history


def pretrain_representations(
    development: Examples, settings: Representations, checkpoints: str
) -> tuple[dict[str, Bundle], pd.DataFrame]:
    """Learn every enabled representation of the settings without labels, on the train split."""
    from demeanor.training.distributed import workshop

    bundles: dict[str, Bundle] = {}
    rows = []
    jobs = pretraining_jobs(development, settings, checkpoints)
    for name, (bundle, history) in zip(settings.enabled, workshop.current().results(jobs, development), strict=True):
        bundles[name] = bundle
        rows += [{"representation": name, **row} for row in history]
        best = min(row["valid_loss"] for row in history)
        logger.info("representation %s: validation loss %.4f after %d epochs", name, best, len(history))
    return bundles, pd.DataFrame(rows, columns=None if rows else ["representation", "epoch"])


def embed_development(development: Examples, bundles: dict[str, Bundle]) -> dict[str, Stream]:
    """One stream `representation.<name>` per representation."""
    from demeanor.inference.model import TrainedModel

    every = with_progress(list(bundles.values()), "embedding", "representations")
    streams = [TrainedModel.load(bundle).embed(development) for bundle in every]
    return {stream.name: stream for stream in streams}


def probe_representations(
    development: Examples,
    streams: dict[str, Stream],
    bundles: dict[str, Bundle],
    tasks: Tasks,
) -> tuple[pd.DataFrame, str]:
    """What a linear model reads out of each representation, against majority and pooled raw features.

    As numbers, and as a table for readers. The sealed test has no part in it: valid is scored.
    """
    from demeanor.evaluation.probe import compared
    from demeanor.evaluation.probe_table import probe_to_markdown
    from demeanor.representations.embedding import pooled_features
    from demeanor.training import tracking
    from demeanor.training.distributed import workshop

    if not bundles:
        nothing = pd.DataFrame({"task": [], "representation": []})
        return nothing, probe_to_markdown(nothing, [])
    embeddings = {name.partition(".")[2]: stream for name, stream in streams.items()}
    embeddings["pooled_features"] = pooled_features(next(iter(bundles.values())), development)
    tables = []
    jobs = [
        probe_job(name, stream, development, task)
        for task in tasks.root.values()
        for name, stream in embeddings.items()
    ]
    probed = iter(workshop.current().results(jobs, development))
    for name, task in tasks.root.items():
        table = compared({name: next(probed) for name in embeddings}).rename_axis("representation").reset_index()
        tables.append(table.assign(task=name))
        metric = task.selection_metric[0]
        tracking.current().log_metrics(
            {f"probe.{name}.{row['representation']}.{metric}": row[metric] for _, row in table.iterrows()}
        )
    table = pd.concat(tables, ignore_index=True)
    return table, probe_to_markdown(table, list(tasks.root.values()))


def probe_job(name: str, stream: Stream, development: Examples, task: Task) -> Job:
    """The job of one linear probe: from an embedding [utterances, dimension] to the metrics of one task."""
    from demeanor.evaluation.probe import probe_reporting
    from demeanor.training.distributed.workshop import Job

    def run(place: Place, tell: Callable[[str], None]) -> dict[str, float]:
        tell(f"{task.name} from {name}")
        return place.call(probe_reporting, stream, development, task, report=lambda: None)

    return Job(("probe", name, task.name), run)


def register_representations(
    bundles: dict[str, Bundle], names: list[str], utterances: pd.DataFrame, root: str
) -> dict[str, dict[str, Any]]:
    """The representations named in `registered_representations` as models that embed a recording. InputError for one
    that there is not."""
    from demeanor.data.raw_rows import example_row
    from demeanor.serving.registry import (
        RegistryUnreachable,
        register,
        registered_name,
        told_if_unreachable,
    )

    missing = [f"there is no '{name}'.{nearest(name, bundles)}" for name in names if name not in bundles]
    if missing:
        raise InputError("registered_representations", missing, "Name some of `representations`.")
    registered = {}
    for name in with_progress(names, "registering representations", "models"):
        card = bundles[name].card
        if not card.recomputable:
            logger.warning("%s reads imported features: registered, but it cannot embed a recording", name)
        tags = {
            "corpus": str(card.protocol["corpus"]),
            "representation": card.system,
            "dimension": str(card.protocol["dimension"]),
            "data_hash": card.data_hash,
            **{key: f"{value:.6g}" for key, value in card.metrics.items()},
        }
        model = registered_name(card)
        try:
            with told_if_unreachable(f"The representation {name}", f"kedro run --nodes {REGISTER}"):
                registered[name] = register(bundles[name], model, tags, {}, example_row(utterances, root))
        except RegistryUnreachable as error:
            logger.warning("%s", error)
            break  # the others would wait for the same server
    return registered


def sweep_representations(
    development: Examples, representations: Representations, settings: SweepSettings, tasks: Tasks
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pretraining on mixtures of corpora and sets of modalities, each probed on this corpus; and what leaving this
    corpus out of the mixture costs. Nothing unless `sweep.enabled`. InputError for a representation that there is not.
    """
    from demeanor.evaluation.probe import probe
    from demeanor.inference.model import TrainedModel
    from demeanor.training import tracking
    from demeanor.training.pretraining.sweep import Combination, cost_of_leaving_out, sweep

    if not settings.enabled:
        return pd.DataFrame({"corpora": [], "modalities": []}), pd.DataFrame({"corpora": [], "modalities": []})
    if settings.representation not in representations.root:  # one that is not enabled stands ready for this
        found = nearest(settings.representation, representations.root)
        raise InputError("sweep", [f"there is no representation '{settings.representation}'.{found}"])
    target = "+".join(sorted(development.utterances["corpus"].unique()))
    corpora = {target: development, **{name: Examples.load(anchored(path)) for name, path in settings.corpora.items()}}

    def scores(bundle: Bundle, examples: Examples) -> dict[str, float]:
        stream = TrainedModel.load(bundle).embed(examples)
        return {
            f"{task.name}.{metric}": value
            for task in tasks.root.values()
            for metric, value in probe(stream, examples, task).items()
            if metric not in ("utterances", "dimension") and "majority" not in metric and not metric.endswith("C")
        }

    def around(combination: Combination) -> Any:
        parameters = {"corpora": combination.corpora, "modalities": combination.modalities}
        return tracking.current().child(f"sweep {combination.name}", parameters, {"sweep": settings.representation})

    chosen = representations.root[settings.representation]
    table = sweep(chosen, corpora, target, settings.over, scores, around)
    return table, cost_of_leaving_out(table, target, f"{tasks.first.name}.{tasks.first.selection_metric[0]}")
