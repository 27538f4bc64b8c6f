"""The sealed test and the bundles in; receipts, comparison and champions out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.progress import with_progress
from demeanor.data.task import Task, Tasks
from demeanor.pipelines.branches import enabled
from demeanor.pipelines.evaluation.choosing import comparable_scores
from demeanor.pipelines.evaluation.parts import (
    Part,
    concerned,
    corpus_names,
    learnt_from,
    of_receipts,
    parts_of,
    sampling_of,
    scored_apart,
)
from demeanor.pipelines.evaluation.settings import EvaluationSettings, ceiling_of, predictions_of

logger = logging.getLogger(__name__)

Bundles = Mapping[str, Bundle]
AllBundles = Mapping[str, Bundles]
"""branch -> seed -> bundle"""


def keep_selected(
    bundles: AllBundles, branches: dict[str, Any], joined: dict[str, Any]
) -> dict[str, dict[str, Bundle]]:
    """The enabled branches, and what is joined of them, of the parameters that have been trained; those that have not
    are named once. InputError if that is none."""
    names = (*enabled(branches), *enabled(joined))
    absent = [name for name in names if not bundles.get(name)]
    if absent:
        logger.warning("not trained yet, so not compared: %s", ", ".join(absent))
    selected = {name: dict(bundles[name]) for name in names if bundles.get(name)}
    if not selected:
        raise InputError("evaluation", ["no branch has been trained"], "Run `kedro run --pipelines fusion_training`.")
    return selected


def choose_champions(development: Examples, bundles: AllBundles) -> dict[str, dict[str, Any]]:
    """Per task, the branch with the best mean on validation, and its best seed. The test split has no say.

    Where branches were validated on different utterances, demeanor.pipelines.evaluation.choosing asks them again.
    Bundles that were trained on other data than `development` are an InputError: their scores do not compare.
    """
    stale = [
        f"{branch} {name} was trained on data {bundle.card.data_hash}, features are now {development.data_hash}"
        for branch, by_seed in bundles.items()
        for name, bundle in by_seed.items()
        if bundle.card.data_hash != development.data_hash
    ]
    if stale:
        raise InputError("bundles", stale, "Run `kedro run --pipelines fusion_training` again.")
    champions: dict[str, dict[str, Any]] = {}
    scores = comparable_scores(development, bundles)
    for branch, by_seed in bundles.items():
        task = card_of(by_seed).task
        metric, better = task.selection_metric
        values = scores[branch]
        if np.isnan(list(values.values())).any():
            continue
        mean = float(np.mean(list(values.values())))
        pick = min if better == "min" else max
        seed = pick(values, key=lambda name: values[name])
        entry = {"branch": branch, "seed": seed, "metric": metric, "mean": mean, "value": values[seed]}
        former = champions.get(task.name)
        if former is None or pick(mean, former["mean"]) != former["mean"]:
            champions[task.name] = entry
    return champions


def score_sealed_test(sealed_test: Examples, bundles: AllBundles) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Every bundle on the sealed test: predictions, and one receipt for each; of several corpora one for each of them
    that has labels of the task and streams that the system reads."""
    from demeanor.corpora.cards import is_synthetic
    from demeanor.evaluation.environment import code_revision, peak_memory_mib
    from demeanor.evaluation.metrics import score
    from demeanor.evaluation.predictions import predictions_table
    from demeanor.evaluation.receipts import Receipt
    from demeanor.inference.asked import Asked
    from demeanor.training import tracking

    revision = code_revision(Path.cwd())
    asked, parts = Asked(sealed_test), parts_of(sealed_test)
    tables, receipts = [], []
    every = [(branch, bundle) for branch, by_seed in bundles.items() for bundle in by_seed.values()]
    for branch, bundle in with_progress(every, "scoring the sealed test", "bundles"):
        card = bundle.card
        said = asked(bundle)
        predicted = said.outputs
        target = card.task.targets(sealed_test.utterances)
        seed = int(card.protocol["seed"])
        table = predictions_table(card.task, branch, seed, sealed_test.utterances, predicted)
        tables.append(table.assign(task=card.task.name, corpus=sealed_test.utterances["corpus"].to_numpy()))
        learnt = str(card.protocol["corpus"])
        labelled = card.task.labelled(sealed_test.utterances)
        whole = Part(learnt, np.ones(len(labelled), dtype=bool), sealed_test.data_hash)
        for part in [one for one in parts if concerned(one, card, sealed_test)] if parts else [whole]:
            receipt = Receipt(
                branch=branch,
                system=card.system,
                task=card.task.name,
                corpus=part.corpus,
                split="test",
                seed=seed,
                metrics=score(card.task, predicted[part.rows], target[part.rows]),
                n=int(labelled[part.rows].sum()),
                data_hash=part.data_hash,
                code_revision=revision,
                weights_sha256=bundle.weights_sha256,
                seconds=said.seconds,
                peak_memory_mib=peak_memory_mib(),
                synthetic=is_synthetic(part.corpus),
                learnt_from=learnt if parts else "",
                sampling=sampling_of(card) if parts else {},
                notes=card.notes,
            )
            receipts.append(receipt.as_dict())

    def named(r: dict[str, Any], metric: str) -> str:
        return f"{r['corpus']}.{metric}" if r["learnt_from"] else metric

    logged = {
        f"test.{r['branch']}.{named(r, metric)}.seed_{r['seed']}": value
        for r in receipts
        for metric, value in r["metrics"].items()
        if value is not None
    }
    tracker = tracking.current()
    tracker.log_metrics(logged)
    sealed = tracking.TrackedData(corpus_names(sealed_test), "test", sealed_test.data_hash)
    tracker.log_inputs([sealed])
    for _, bundle in every:
        mine = [r for r in receipts if r["weights_sha256"] == bundle.weights_sha256]
        values = {f"test_{named(r, metric)}": value for r in mine for metric, value in r["metrics"].items()
                  if value is not None}  # fmt: skip
        tracker.log_scores(tracking.TrackedModel.of(bundle), values, sealed)
    rows = [{**{key: value for key, value in r.items() if key != "metrics"}, **r["metrics"]} for r in receipts]
    tracker.log_table(rows, "tables/receipts.json")
    return pd.concat(tables, ignore_index=True), receipts


def compare_systems(
    predictions: pd.DataFrame,
    receipts: list[dict[str, Any]],
    champions: dict[str, dict[str, Any]],
    bundles: AllBundles,
    development: Examples,
    tasks: Tasks,
    settings: EvaluationSettings,
) -> tuple[pd.DataFrame, str, dict[str, str]]:
    """All systems of every task with means, deviations and intervals, and each against the champion.

    Also, by task, one sentence on whether joining modalities paid.
    """
    from demeanor.evaluation.comparison import compare
    from demeanor.evaluation.paired import differences
    from demeanor.evaluation.receipts import Receipt
    from demeanor.evaluation.seeds import seeds_to_markdown
    from demeanor.evaluation.tables import differences_to_markdown, to_markdown
    from demeanor.training import tracking

    scored = [Receipt(**receipt) for receipt in receipts]
    train = development.split("train").utterances
    parts, text = [], []
    paired: list[dict[str, Any]] = []
    verdicts: dict[str, str] = {}
    for name, champion in with_progress(list(champions.items()), "comparing the systems by bootstrap", "tasks"):
        task = tasks[name]
        for corpus, own in scored_apart(scored, name).items():
            apart = bool(own[0].learnt_from)
            mine = predictions_of(task, of_receipts(predictions, own))
            target = task.targets(train[train["corpus"] == corpus] if apart else train)
            known = not apart or bool(task.labelled(train[train["corpus"] == corpus]).any())
            table = compare(
                task, own, mine, train_target=target if known else None, resamples=settings.resamples, by="utterance"
            )
            parts.append(table.assign(task=name))
            shown = to_markdown(task, table, reference=ceiling_of(settings, name))
            text += [f"# {name}, tested on {corpus}" if apart else f"# {name}", "", shown]
            text += [*learnt_from(own), *remarks(bundles, name), "", "Every seed:", "", seeds_to_markdown(task, own)]
            if mine["branch"].nunique() > 1 and champion["branch"] in set(mine["branch"]):
                against = differences(task, mine, champion["branch"]).assign(task=name)
                rows = (against.assign(corpus=corpus) if apart else against).to_dict("records")
                paired += [{str(key): value for key, value in row.items()} for row in rows]
                text += ["", f"Against the champion, {champion['branch']}:", "", differences_to_markdown(against)]
        verdicts[name] = fusion_verdict(task, champion["branch"], bundles, predictions_of(task, predictions))
        text += ["", verdicts[name], ""]
    if paired:
        tracking.current().log_table(paired, "tables/paired_tests.json")
    return pd.concat(parts, ignore_index=True), "\n".join(text), verdicts


def remarks(bundles: AllBundles, task: str) -> list[str]:
    """What a reader of the table must know of a branch: the notes of its parameters."""
    cards = {branch: card_of(by_seed) for branch, by_seed in bundles.items()}
    noted = [f"{branch}: {card.notes}." for branch, card in cards.items() if card.task.name == task and card.notes]
    return ["", *noted] if noted else []


def fusion_verdict(task: Task, champion: str, bundles: AllBundles, predictions: pd.DataFrame) -> str:
    """The champion against each branch of a single modality, by a paired bootstrap on the test."""
    from demeanor.evaluation.metrics import metric_of
    from demeanor.evaluation.paired import paired_bootstrap
    from demeanor.evaluation.predictions import stacks

    mine = {name: by_seed for name, by_seed in bundles.items() if card_of(by_seed).task.name == task.name}
    single = [name for name, by_seed in mine.items() if is_unimodal(by_seed)]
    if not single:
        return "There is no branch of a single modality to compare with."
    if len(single) == len(mine):
        return "Every branch reads a single modality: nothing was joined that could be compared."
    if champion in single:
        return f"{champion}, a single modality, is itself the champion: joining modalities did not pay on validation."
    metric = metric_of(task, task.selection_metric[0])
    stacked = stacks(task, predictions, [champion, *single])
    best = stacked[champion]
    lines = [
        paired_bootstrap(best.prediction, stacked[name].prediction, best.target, metric).describe(champion, name)
        for name in single
    ]
    return "\n".join(lines)


def card_of(by_seed: Bundles) -> BundleCard:
    """The card of a branch; its seeds' differ in the seed alone."""
    return next(iter(by_seed.values())).card


def is_unimodal(by_seed: Bundles) -> bool:
    """Whether the branch reads one modality only."""
    return len({value.modality for value in card_of(by_seed).inputs.values()}) == 1
