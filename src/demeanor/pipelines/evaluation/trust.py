"""The sealed test and what the branches know of themselves: calibration, abstention, slices, reasons."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.bundle import Bundle
from demeanor.data.calibration import Calibration
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.places import anchored
from demeanor.data.task import Task, Tasks
from demeanor.pipelines.evaluation.nodes import AllBundles, Bundles, card_of
from demeanor.pipelines.evaluation.settings import EvaluationSettings, predictions_of

logger = logging.getLogger(__name__)

Figure = Any
"""matplotlib.figure.Figure, see demeanor.pipelines.evaluation.drawing."""
Scored = tuple[str, Calibration, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""branch, calibration, ids [N], prediction [S, N, outputs], target, names of modalities [N]"""


def scored(task: Task, predictions: pd.DataFrame, bundles: AllBundles, sealed_test: Examples) -> Iterator[Scored]:
    """What the branches of a task said of the sealed test; those that are uncalibrated are named and left out."""
    from demeanor.evaluation.conformal import presence_names
    from demeanor.evaluation.predictions import stacks
    from demeanor.inference.presence import presence

    for branch, stack in stacks(task, predictions_of(task, predictions)).items():
        if branch not in bundles:
            continue
        card = card_of(bundles[branch])
        if card.calibration is None:
            logger.warning("%s is uncalibrated: train it again for its intervals and confidences", branch)
            continue
        names = presence_names(presence(card.inputs, sealed_test, card.representations))
        by_id = dict(zip(sealed_test.ids, names, strict=True))
        has = np.array([by_id[name] for name in stack.ids], dtype=object)
        yield branch, card.calibration, stack.ids, stack.prediction, stack.target, has


def examine_trust(
    sealed_test: Examples,
    predictions: pd.DataFrame,
    champions: dict[str, dict[str, Any]],
    bundles: AllBundles,
    tasks: Tasks,
    settings: EvaluationSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per branch the figures of demeanor.evaluation.trust; per champion those of its slices."""
    from demeanor.evaluation.slices import slice_table
    from demeanor.evaluation.trust import trust
    from demeanor.training import tracking

    rows, slices = [], []
    for name, champion in champions.items():
        for branch, calibration, ids, prediction, target, has in scored(tasks[name], predictions, bundles, sealed_test):
            figures = trust(tasks[name], prediction, target, has, calibration)
            rows.append({"task": name, "branch": branch, **figures})
            if branch == champion["branch"]:
                table = sealed_test.utterances.set_index("utterance_id", drop=False).loc[list(ids)]
                made = slice_table(
                    tasks[name], prediction, target, table.reset_index(drop=True), has, calibration,
                    min(settings.resamples, 1000),
                )  # fmt: skip
                made.insert(0, "task", name)
                made.insert(1, "branch", branch)
                slices.append(made)
    logged = {
        f"test.{row['branch']}.{key}": value
        for row in rows
        for key, value in row.items()
        if key in ("coverage", "ECE", "Brier", "AURC", "AUGRC") and np.isfinite(value)
    }
    tracking.current().log_metrics(logged)
    nothing = pd.DataFrame(columns=["task", "branch"])
    return (pd.DataFrame(rows) if rows else nothing), (pd.concat(slices, ignore_index=True) if slices else nothing)


def explain_champions(
    sealed_test: Examples, champions: dict[str, dict[str, Any]], bundles: AllBundles, settings: EvaluationSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of each champion with several modalities: every answer's contributions, and how they agree with the planted
    truth where there is one (demeanor.corpora.demo.planted); the share of cases in which losing a modality makes surer.
    """
    tables, judged = [], []
    for name, champion in champions.items():
        bundle = bundles[champion["branch"]][champion["seed"]]
        if len(bundle.card.modalities) < 2:
            continue
        table, figures = explain_bundle(bundle, sealed_test, settings)
        tables.append(table.assign(task=name, branch=champion["branch"]))
        judged.append({"task": name, "branch": champion["branch"], **figures})
    nothing = pd.DataFrame(columns=["task", "branch"])
    return (pd.concat(tables, ignore_index=True) if tables else nothing), (pd.DataFrame(judged) if judged else nothing)


def explain_bundle(
    bundle: Bundle, sealed_test: Examples, settings: EvaluationSettings
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Contributions per clip, and what is to be said of all of them; asked whatever the training left out."""
    from demeanor.data.calibration import subset_name
    from demeanor.evaluation.attribution import every_subset
    from demeanor.evaluation.conformal import presence_names
    from demeanor.evaluation.trust import surer_without
    from demeanor.inference.explanation import explain, strength_of_conflict
    from demeanor.inference.model import Embedded, TrainedModel
    from demeanor.inference.presence import presence

    card, model = bundle.card, TrainedModel.load(bundle)
    examples = Embedded(sealed_test).for_model(model)
    subsets = every_subset(card.modalities)
    outputs = model.outputs(examples, subsets)
    named = {subset_name(chosen): values for chosen, values in zip(subsets, outputs, strict=True)}
    present = presence(card.inputs, examples)
    table = explain(card, outputs, present).assign(strength=strength_of_conflict(card, named, present))
    table.insert(0, "utterance_id", examples.ids)
    figures: dict[str, Any] = {
        "modality_dropout": float(card.protocol.get("training", {}).get("modality_dropout") or 0.0),
        "conflicts": int((table["strength"] > 1).sum()),
    }
    if card.calibration is not None:
        fewer = []
        for lost in card.modalities:
            rest = {key: here & (key != lost) for key, here in present.items()}
            counted = present[lost] & np.any(list(rest.values()), axis=0)
            left = np.where(counted, presence_names(rest), "")
            fewer.append((named[subset_name(part for part in card.modalities if part != lost)], left))
        whole = named[subset_name(card.modalities)]
        figures["surer_without"] = surer_without(card.task, whole, fewer, presence_names(present), card.calibration)
    return table, figures | judge(card.task, card.modalities, table, settings)


def judge(task: Task, modalities: tuple[str, ...], table: pd.DataFrame, settings: EvaluationSettings) -> dict[str, Any]:
    """Contributions against the planted truth of a demo corpus, nothing for any other."""
    from demeanor.corpora.demo.planted import planted_answers
    from demeanor.evaluation.attribution import shapley
    from demeanor.evaluation.planted import carrier_agreement, flag_quality

    folder = None if settings.ceiling is None else Path(anchored(settings.ceiling)).parent
    if task.kind != "regression" or folder is None or not (folder / "sidecar.json").is_file():
        return {}
    ids, answers, contradiction = planted_answers(folder, "test")
    if set(ids) != set(table["utterance_id"]) or set(modalities) != {name for name in answers if "+" not in name} - {
        ""
    }:
        return {}
    ordered = table.set_index("utterance_id").loc[ids]
    own = {name: ordered[f"contribution_{name}"].to_numpy() for name in modalities}
    found: dict[str, Any] = {**carrier_agreement(own, shapley(answers))}
    return found | flag_quality(ordered["strength"].to_numpy(), contradiction)


def draw_trust(
    sealed_test: Examples,
    predictions: pd.DataFrame,
    champions: dict[str, dict[str, Any]],
    bundles: AllBundles,
    tasks: Tasks,
) -> tuple[Figure, Figure]:
    """Of the first task: how often the champion is right over how sure it is; risk over coverage of all branches.
    InputError if there is no champion."""
    from demeanor.evaluation.curves import reliability_diagram, risk_coverage_figure
    from demeanor.evaluation.trust import confidence_curve, selective_curve
    from demeanor.pipelines.evaluation.drawing import empty_figure

    name = next(iter(champions), None)
    if name is None:
        raise InputError("evaluation", ["there is no champion"], "Run `kedro run --pipelines fusion_training`.")
    task, curves, reliability = tasks[name], {}, None
    for branch, calibration, _, prediction, target, has in scored(task, predictions, bundles, sealed_test):
        curves[branch] = selective_curve(task, prediction, target, has, calibration)
        if branch == champions[name]["branch"]:
            curve = confidence_curve(task, prediction, target, has, calibration)
            reliability = reliability_diagram(curve, title=f"{branch}: how often it is right, sealed test")
    first = champions[name]["branch"]
    shown = {branch: curves[branch] for branch in sorted(curves, key=lambda one: (one != first, one))[:7]}
    figure = risk_coverage_figure(shown, title=f"{name}, sealed test")
    return reliability or empty_figure("the champion is uncalibrated"), figure


def write_report(
    summary: str,
    comparison: pd.DataFrame,
    ablation: pd.DataFrame,
    trust_table: pd.DataFrame,
    slices: pd.DataFrame,
    reasons: pd.DataFrame,
    predictions: pd.DataFrame,
    champions: dict[str, dict[str, Any]],
    bundles: AllBundles,
    sealed_test: Examples,
    tasks: Tasks,
    settings: EvaluationSettings,
) -> str:
    """The run's `report.html`: what a reader opens first."""
    from demeanor.evaluation.report import Section, html_report
    from demeanor.pipelines.evaluation.drawing import draw_ablation, draw_answers, draw_comparison

    scatter, confusion = draw_answers(predictions, champions, tasks)
    reliability, risk = draw_trust(sealed_test, predictions, champions, bundles, tasks)
    corpus = str(comparison["corpus"].iloc[0])
    shown = [column for column in comparison if not str(column).endswith(("_low", "_high", "_sd"))]
    systems = {
        f"{name}: means over seeds on the sealed test; n clips.": comparison.loc[
            comparison["task"] == name, ["branch", *[c for c in shown if c not in (*SAID_ABOVE, "branch", "task")]]
        ].dropna(axis=1, how="all")
        for name in champions
    }
    sections = [
        Section("Summary", words(champions, bundles, corpus)),
        Section("Systems", tables=systems, figures={
            "The first task's systems with 95 % bootstrap intervals.": draw_comparison(comparison, tasks, settings),
        }),
        Section("Answers of the champions", figures={
            "Predicted against true.": scatter, "Confusion of classes, or of the sign of a number.": confusion,
            "What each set of modalities is worth to the champion.": draw_ablation(ablation, tasks),
        }),
        Section("How sure, and rightly so?", TRUST_WORDS, by_task(trust_table, champions), {
            "How often the champion is right over how sure it is.": reliability,
            "Risk over coverage: the champion and other branches.": risk,
        }),
        Section("Who is served worse?", SLICE_WORDS, by_task(scored_groups(slices), champions)),
        Section("Why: contributions of the modalities", REASON_WORDS, by_task(reasons, champions)),
        Section("The closing summary of the run", plain=summary),
    ]  # fmt: skip
    return html_report(f"Demeanor on {corpus}", sections)


SAID_ABOVE = ("kind", "corpus", "split", "synthetic")
"""Columns of the comparison that say the same of every row."""
TRUST_WORDS = (
    "coverage is the share of clips whose interval, or set of classes, holds the label; promised is what it was fitted "
    "for on validation. size is the mean length of an interval, or number of classes in a set. Figures with raw before "
    "them are those without calibration.",
    "AURC and AUGRC are the mean risk over all shares of answers given, the surest first; lower is better. An answer "
    "counts as wrong when it names another class, or lies on the other side of the scale's middle than the label.",
)
SLICE_WORDS = (
    "Groups are made by what the corpus states and never by what is inferred; those of fewer than 30 clips stand in "
    "slices.csv with their number alone. Of each column the worst group is marked.",
)
REASON_WORDS = (
    "Exact Shapley values of the modalities in the task's own units. agreement is the share of clips in which the "
    "largest contribution is of the modality that carries the label in truth, chance what naming the commonest one "
    "would give; precision, recall and AUROC judge the flag `conflict` by the planted contradictions. Known for the "
    "synthetic demo alone.",
    "A modality_dropout of 0 means that sets of modalities were not seen in training: contributions are then an "
    "experiment, which predict refuses unless asked.",
)


def words(champions: dict[str, dict[str, Any]], bundles: AllBundles, corpus: str) -> list[str]:
    """What the champions are and how they are calibrated, a paragraph each."""
    lines = []
    if "synthetic" in corpus:
        lines.append(
            "This is a synthetic corpus: the figures show that the software works and say nothing about how well "
            "people's feelings are read."
        )
    for name, champion in champions.items():
        found: Bundles = bundles[champion["branch"]]
        card = card_of(found)
        fitted = "It is uncalibrated." if card.calibration is None else f"Calibrated: {card.calibration.describe()}."
        lines.append(
            f"{name}: {champion['branch']} {champion['seed'].replace('_', ' ')}, chosen on validation by "
            f"{champion['metric']} ({champion['value']:.3f}). {fitted}"
        )
    return lines


def scored_groups(slices: pd.DataFrame) -> pd.DataFrame:
    """The groups that are large enough to be scored."""
    return slices[slices["wrong"].notna()] if "wrong" in slices else slices


def by_task(table: pd.DataFrame, champions: dict[str, dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """Caption -> the rows of each task, without columns that hold nothing for it."""
    made = {}
    for name in champions:
        mine = table[table["task"] == name].drop(columns="task").dropna(axis=1, how="all")
        if len(mine):
            made[name] = mine
    return made
