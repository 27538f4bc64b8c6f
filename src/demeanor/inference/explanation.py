"""Why an answer is what it is: contributions of the modalities, and whether they contradict each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from demeanor.data.bundle import BundleCard
from demeanor.data.calibration import subset_name
from demeanor.data.errors import InputError
from demeanor.evaluation.attribution import disagreement, every_subset, shapley, value_of_answers


def refuse_unseen_subsets(card: BundleCard) -> None:
    """InputError for a model whose contributions mean little: one that embeds, or was trained without leaving
    modalities out, and has then never learnt what to say of the rest alone."""
    if card.kind == "embeds":
        raise InputError(f"model '{card.branch}'", ["it embeds: there is no answer to explain"])
    if not card.knows_parts:
        raise InputError(
            f"model '{card.branch}'",
            ["it was trained without modality_dropout, so what it says of some modalities alone was never learnt"],
            "Train it with `training.modality_dropout`, or ask for the explanation all the same (--explain-anyway).",
        )


def can_explain(card: BundleCard) -> bool:
    """Does `refuse_unseen_subsets` let it pass?"""
    try:
        refuse_unseen_subsets(card)
    except InputError:
        return False
    return True


def explain(
    card: BundleCard,
    outputs: Float[np.ndarray, "subsets utterances outputs"],
    present: Mapping[str, Bool[np.ndarray, " utterances"]],
) -> pd.DataFrame:
    """One row per utterance: baseline, contribution_<modality> and conflict.

    outputs  of every set of the modalities that `present` names, in the order of `every_subset`
    present  modality -> the utterances that have it

    Units: the number itself; for classes the probability of the answered class (any of several: the sum over the
    answered ones). baseline is what the model says when nothing was recorded; with the contributions it sums to the
    answer. What an utterance lacks contributes nothing to it, but in a dialogue, where a modality is left out of all
    turns: there it may owe something to the others' voices. conflict is None where the model is uncalibrated: nothing
    is known then of how far apart is too far.
    """
    named = {subset_name(chosen): values for chosen, values in zip(every_subset(list(present)), outputs, strict=True)}
    values = value_of_answers(card.task, named, present, card.calibration)
    made = pd.DataFrame({"baseline": values[""]})
    for name, contribution in shapley(values).items():
        made[f"contribution_{name}"] = contribution
    if card.calibration is None:
        return made.assign(conflict=pd.Series([None] * len(made), dtype=object))
    return made.assign(conflict=strength_of_conflict(card, named, present) > 1)


def strength_of_conflict(
    card: BundleCard,
    outputs: Mapping[str, Float[np.ndarray, "utterances outputs"]],
    present: Mapping[str, Bool[np.ndarray, " utterances"]],
) -> Float[np.ndarray, " utterances"]:
    """How strongly single modalities contradict each other, above 1 a conflict; 0 for an uncalibrated model."""
    if card.calibration is None:
        return np.zeros(len(outputs[""]))
    alone = {name: outputs[name] for name in present}
    return disagreement(card.task, alone, present, card.calibration)
