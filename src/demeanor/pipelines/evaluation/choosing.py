"""Scores on validation by which branches of one task are chosen: of the same utterances, or they say nothing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.examples import Examples

if TYPE_CHECKING:
    from demeanor.inference.asked import Asked

logger = logging.getLogger(__name__)


def comparable_scores(
    development: Examples, bundles: Mapping[str, Mapping[str, Bundle]]
) -> dict[str, dict[str, float]]:
    """branch -> seed -> the selection metric of its task on validation, NaN where it is unknown.

    Where all branches of a task were judged by the same utterances that is what their cards say. Where not (an expert
    in words on dialogues, one in voices on recordings, and what is joined of both), all are asked again about every
    labelled utterance of the corpora that any of them learnt from: of what it cannot read a branch then says what it
    says of nothing.

    bundles  branch -> seed -> bundle
    """
    by_task: dict[str, list[str]] = {}
    for branch, by_seed in bundles.items():
        by_task.setdefault(_card(by_seed).task.name, []).append(branch)
    made: dict[str, dict[str, float]] = {}
    for name, branches in by_task.items():
        judged = {branch: _judged_by(_card(bundles[branch])) for branch in branches}
        alike = len(set(judged.values())) == 1
        if not alike:
            listed = "; ".join(f"{branch}: {count} of {corpus}" for branch, (corpus, count) in judged.items())
            logger.info("%s: branches were judged by different utterances (%s); asked again by all", name, listed)
        known = {one.strip() for corpus, _ in judged.values() for one in str(corpus).split(",")}
        valid = _asked(development, known) if not alike else None
        for branch in branches:
            metric = _card(bundles[branch]).task.selection_metric[0]
            made[branch] = (
                {seed: bundle.card.metrics.get(metric, np.nan) for seed, bundle in bundles[branch].items()}
                if valid is None
                else _asked_again(valid, bundles[branch], metric)
            )
    return made


def _card(by_seed: Mapping[str, Bundle]) -> BundleCard:
    return next(iter(by_seed.values())).card


def _judged_by(card: BundleCard) -> tuple[Any, Any]:
    return card.protocol.get("corpus"), card.protocol.get("valid")


def _asked(development: Examples, corpora: Collection[str]) -> Asked:
    """Who can be asked about the validation utterances of these corpora."""
    from demeanor.inference.asked import Asked

    table = development.split("valid").utterances
    return Asked(Examples.of(table[table["corpus"].isin(corpora)], development.streams), "auto")


def _asked_again(asked: Asked, by_seed: Mapping[str, Bundle], metric: str) -> dict[str, float]:
    from demeanor.evaluation.metrics import score

    task = _card(by_seed).task
    target = task.targets(asked.embedded.examples.utterances)
    return {
        seed: score(task, asked(bundle).outputs, target, warn=False).get(metric, np.nan)
        for seed, bundle in by_seed.items()
    }
