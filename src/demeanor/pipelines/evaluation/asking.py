"""What the branches and champions say of the sealed test, asked once for every node that looks at it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.bundle import BundleCard
from demeanor.data.calibration import Calibration
from demeanor.data.examples import Examples
from demeanor.data.progress import with_progress
from demeanor.data.task import Tasks
from demeanor.pipelines.evaluation.nodes import AllBundles, card_of
from demeanor.pipelines.evaluation.settings import predictions_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibrated:
    """What a calibrated branch said of the sealed test.

    ids [N]; prediction [S, N, outputs]; target as Task.targets; names [N] the modalities of each clip (subset_name)
    """

    branch: str
    calibration: Calibration
    ids: np.ndarray
    prediction: np.ndarray
    target: np.ndarray
    names: np.ndarray


@dataclass(frozen=True)
class SubsetAnswers:
    """What a champion's seeds say of the sealed test with every set of its modalities, the others left out.

    outputs  [subsets, S, N, outputs], in the order of `subsets` (demeanor.evaluation.attribution.every_subset)
    present  modality -> [N] booleans: which clips have it
    """

    subsets: tuple[tuple[str, ...], ...]
    seeds: tuple[str, ...]
    outputs: np.ndarray
    present: Mapping[str, np.ndarray]

    def of(self, subset: Sequence[str]) -> np.ndarray:
        """[S, N, outputs] with these modalities alone."""
        return self.outputs[self.subsets.index(tuple(sorted(subset)))]

    def of_seed(self, seed: str) -> np.ndarray:
        """[subsets, N, outputs] of one seed."""
        return self.outputs[:, self.seeds.index(seed)]


def ask_champions(
    sealed_test: Examples, champions: dict[str, dict[str, Any]], bundles: AllBundles, predictions: pd.DataFrame
) -> dict[str, SubsetAnswers]:
    """Task -> what all seeds of its champion say of the sealed test with every set of modalities; of all of them it is
    what `predictions` hold already."""
    from demeanor.evaluation.attribution import every_subset
    from demeanor.inference.model import Embedded, TrainedModel
    from demeanor.inference.presence import presence

    embedded = Embedded(sealed_test)
    made = {}
    for name, champion in with_progress(list(champions.items()), "leaving modalities out", "champions"):
        found = bundles[champion["branch"]]
        card = card_of(found)
        subsets = every_subset(card.modalities)
        models = [TrainedModel.load(bundle) for bundle in found.values()]
        whole = _predicted(predictions, card, [int(one.card.protocol["seed"]) for one in found.values()], sealed_test)
        outputs = np.stack([model.outputs(embedded.for_model(model), subsets[:-1]) for model in models], axis=1)
        outputs = np.concatenate([outputs, whole[None]])
        present = presence(card.inputs, sealed_test, card.representations)
        made[name] = SubsetAnswers(tuple(subsets), tuple(found), outputs, present)
    return made


def _predicted(predictions: pd.DataFrame, card: BundleCard, seeds: Sequence[int], sealed_test: Examples) -> np.ndarray:
    """[S, N, outputs] in the order of the sealed test."""
    from demeanor.evaluation.predictions import prediction_columns

    mine = predictions[(predictions["task"] == card.task.name) & (predictions["branch"] == card.branch)]
    columns = prediction_columns(card.task)
    by_seed = {seed: rows.set_index("utterance_id")[columns] for seed, rows in mine.groupby("seed")}
    return np.stack([by_seed[seed].loc[sealed_test.ids].to_numpy(dtype=np.float32) for seed in seeds])


def gather_calibrated(
    sealed_test: Examples, predictions: pd.DataFrame, bundles: AllBundles, tasks: Tasks
) -> dict[str, list[Calibrated]]:
    """Task -> what its branches said of the sealed test; those that are uncalibrated are named and left out."""
    from demeanor.evaluation.conformal import presence_names
    from demeanor.evaluation.predictions import stacks
    from demeanor.inference.presence import presence

    made: dict[str, list[Calibrated]] = {}
    for name in dict.fromkeys(predictions["task"]):
        made[name] = []
        for branch, stack in stacks(tasks[name], predictions_of(tasks[name], predictions)).items():
            if branch not in bundles:
                continue
            card = card_of(bundles[branch])
            if card.calibration is None:
                logger.warning("%s is uncalibrated: train it again for its intervals and confidences", branch)
                continue
            names = presence_names(presence(card.inputs, sealed_test, card.representations))
            by_id = dict(zip(sealed_test.ids, names, strict=True))
            has = np.array([by_id[identity] for identity in stack.ids], dtype=object)
            made[name].append(Calibrated(branch, card.calibration, stack.ids, stack.prediction, stack.target, has))
    return made
