"""The champions with some of their modalities left out: what each set of them is worth, and why an answer is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.bundle import BundleCard
from demeanor.data.examples import Examples
from demeanor.data.places import anchored
from demeanor.data.task import Task, Tasks
from demeanor.pipelines.evaluation.asking import SubsetAnswers
from demeanor.pipelines.evaluation.nodes import AllBundles
from demeanor.pipelines.evaluation.settings import EvaluationSettings


def ablate_modalities(
    answers: Mapping[str, SubsetAnswers],
    sealed_test: Examples,
    champions: dict[str, dict[str, Any]],
    tasks: Tasks,
    settings: EvaluationSettings,
) -> pd.DataFrame:
    """Each champion with every subset of its modalities, all seeds, as if the rest had not been recorded."""
    from demeanor.evaluation.robustness import modality_ablation

    tables = []
    for name, champion in champions.items():
        task, said = tasks[name], answers[name]

        def predict(chosen: Sequence[tuple[str, ...]], said: SubsetAnswers = said) -> np.ndarray:
            return np.stack([said.of(subset) for subset in chosen])

        table = modality_ablation(
            task,
            predict,
            task.targets(sealed_test.utterances),
            said.subsets[-1],
            resamples=settings.resamples,
        )
        tables.append(table.assign(task=name, branch=champion["branch"]))
    return pd.concat(tables, ignore_index=True)


def explain_champions(
    answers: Mapping[str, SubsetAnswers],
    sealed_test: Examples,
    champions: dict[str, dict[str, Any]],
    bundles: AllBundles,
    settings: EvaluationSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of each champion with several modalities: every answer's contributions, and how they agree with the planted
    truth where there is one (demeanor.corpora.demo.planted); the share of cases in which losing a modality makes surer.
    """
    tables, judged = [], []
    for name, champion in champions.items():
        card = bundles[champion["branch"]][champion["seed"]].card
        if len(card.modalities) < 2:
            continue
        said = answers[name]
        table, figures = explain_champion(card, said.of_seed(champion["seed"]), said, sealed_test.ids)
        figures |= judge(card.task, card.modalities, table, settings)
        tables.append(table.assign(task=name, branch=champion["branch"]))
        judged.append({"task": name, "branch": champion["branch"], **figures})
    nothing = pd.DataFrame(columns=["task", "branch"])
    return (pd.concat(tables, ignore_index=True) if tables else nothing), (pd.DataFrame(judged) if judged else nothing)


def explain_champion(
    card: BundleCard, outputs: np.ndarray, said: SubsetAnswers, ids: list[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Contributions per clip, and what is to be said of all of them; asked whatever the training left out.

    outputs [subsets, N, outputs] of the seed that is explained; ids of the N clips
    """
    from demeanor.data.calibration import subset_name
    from demeanor.evaluation.trust import risen_confidence
    from demeanor.inference.explanation import explain, strength_of_conflict

    named = {subset_name(chosen): values for chosen, values in zip(said.subsets, outputs, strict=True)}
    present = dict(said.present)
    table = explain(card, outputs, present).assign(strength=strength_of_conflict(card, named, present))
    table.insert(0, "utterance_id", ids)
    figures: dict[str, Any] = {
        "modality_dropout": float(card.protocol.get("training", {}).get("modality_dropout") or 0.0),
        "conflicts": int((table["strength"] > 1).sum()),
    }
    if card.calibration is not None:
        figures["surer_without"] = risen_confidence(card.task, named, present, card.calibration)
    return table, figures


def judge(task: Task, modalities: tuple[str, ...], table: pd.DataFrame, settings: EvaluationSettings) -> dict[str, Any]:
    """Contributions against the planted truth of a demo corpus, nothing for any other."""
    from demeanor.corpora.demo.planted import planted_answers
    from demeanor.evaluation.attribution import shapley
    from demeanor.evaluation.planted import carrier_agreement, flag_quality

    folder = None if settings.ceiling is None else Path(anchored(settings.ceiling)).parent
    if task.kind != "regression" or folder is None or not (folder / "sidecar.json").is_file():
        return {}
    ids, answers, contradiction = planted_answers(folder, "test")
    carriers = {name for name in answers if "+" not in name} - {""}
    if set(ids) != set(table["utterance_id"]) or set(modalities) != carriers:
        return {}
    ordered = table.set_index("utterance_id").loc[ids]
    own = {name: ordered[f"contribution_{name}"].to_numpy() for name in modalities}
    return carrier_agreement(own, shapley(answers)) | flag_quality(ordered["strength"].to_numpy(), contradiction)
