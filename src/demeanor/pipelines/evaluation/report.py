"""The run's report.html: what a reader opens first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from demeanor.data.spec_sheet import sources
from demeanor.pipelines.evaluation.nodes import AllBundles, Bundles, card_of

Picture = Any
"""A figure, or the PNG file that the catalog keeps of it, as bytes."""


def write_report(
    summary: str,
    comparison: pd.DataFrame,
    trust_table: pd.DataFrame,
    slices: pd.DataFrame,
    reasons: pd.DataFrame,
    champions: dict[str, dict[str, Any]],
    bundles: AllBundles,
    robustness: dict[str, Any],
    comparison_figure: Picture,
    scatter_figure: Picture,
    confusion_figure: Picture,
    ablation_figure: Picture,
    reliability_figure: Picture,
    risk_coverage_figure: Picture,
) -> str:
    """The run's `report.html`. Figures are those that the other nodes have drawn; robustness is what `demeanor
    robustness` has kept, or nothing."""
    from demeanor.evaluation.report import Section, html_report
    from demeanor.pipelines.evaluation.worse import kept_section

    corpus = ", ".join(dict.fromkeys(comparison["corpus"].astype(str)))
    shown = [column for column in comparison if not str(column).endswith(("_low", "_high", "_sd"))]
    several = comparison["corpus"].nunique() > 1
    systems = {
        f"{name}{f', {tested}' if several else ''}: means over seeds on the sealed test; n clips.": table[
            ["branch", *[c for c in shown if c not in (*SAID_ABOVE, "branch", "task")]]
        ].dropna(axis=1, how="all")
        for name in champions
        for tested, table in comparison[comparison["task"] == name].groupby("corpus", sort=False)
    }
    best = {bundles[one["branch"]][one["seed"]].weights_sha256 for one in champions.values()}
    every = {bundle.weights_sha256 for by_seed in bundles.values() for bundle in by_seed.values()}
    sections = [
        Section("Summary", words(champions, bundles, corpus)),
        Section("Systems", tables=systems, figures={
            "The first task's systems with 95 % bootstrap intervals.": comparison_figure,
        }),
        Section("Answers of the champions", figures={
            "Predicted against true.": scatter_figure,
            "Confusion of classes, or of the sign of a number.": confusion_figure,
            "What each set of modalities is worth to the champion.": ablation_figure,
        }),
        Section("How sure, and rightly so?", TRUST_WORDS, in_parts(trust_table, champions, TRUST_PARTS), {
            "How often the champion is right over how sure it is.": reliability_figure,
            "Risk over coverage: the champion and other branches.": risk_coverage_figure,
        }),
        Section("Who is served worse?", (*SLICE_WORDS, *too_small(slices)), slice_tables(slices, champions)),
        Section("Why: contributions of the modalities", REASON_WORDS, in_parts(reasons, champions, REASON_PARTS)),
        *kept_section(robustness, best, every),
        Section("The closing summary of the run", plain=summary),
    ]  # fmt: skip
    return html_report(f"Demeanor on {corpus}", sections)


SAID_ABOVE = ("kind", "corpus", "split", "synthetic")
"""Columns of the comparison that say the same of every row."""
TRUST_WORDS = (
    "coverage is the share of clips whose interval, or set of classes, holds the label, with the 95 % interval of such "
    "a share; promised is what it was fitted for on validation. size is the mean length of an interval, or number of "
    "classes in a set.",
    "expected: between these two 95 % of all shares lie that chance alone gives, that of the clips of validation on "
    "which it was calibrated included. Clips of one dialogue resemble each other: as many of them as design effect "
    "says count as one. A coverage outside is that of a test of another kind than validation: see what is wrong on "
    "either. coverage in mix is the coverage if classes were as common as on validation.",
    "ECE, adaptive ECE, Brier and NLL say how far probabilities are from what happens; lower is better. Figures with "
    "raw before them are those without calibration.",
    "AURC and AUGRC are the mean risk over all shares of answers given, the surest first; lower is better. An answer "
    "counts as wrong when it names another class, or lies on the other side of the scale's middle than the label. "
    "coverage at risk 0.1 is the share of answers that can be given with one in ten of them wrong; risk at coverage "
    "0.8 what is wrong among the surest four fifths.",
)
TRUST_PARTS = {
    "intervals and sets": (
        "n", "seeds", "calibrated_on", "promised", "coverage", "coverage_low", "coverage_high", "expected_low",
        "expected_high", "size",
    ),
    "is the test of validation's kind?": (
        "coverage", "design_effect", "wrong_on_validation", "wrong", "coverage_in_mix",
    ),
    "probabilities": ("raw_ECE", "ECE", "raw_adaptive_ECE", "adaptive_ECE", "raw_Brier", "Brier", "raw_NLL", "NLL"),
    "answering where it is sure": (
        "wrong", "raw_AURC", "AURC", "AUGRC", "coverage_at_risk_0.1", "coverage_at_risk_0.2", "risk_at_coverage_0.8",
    ),
}  # fmt: skip
"""Columns of the table of trust that stand together."""
REASON_PARTS = {
    "what the champion says": ("modality_dropout", "conflicts", "surer_without"),
    "against the planted truth": ("n", "agreement", "chance", "spearman", "planted", "flagged", "precision", "recall",
                                  "AUROC"),
}  # fmt: skip
"""Of the table of reasons; the second are there of the demo alone."""
COUNTS = ("n", "seeds", "calibrated_on", "planted", "flagged", "conflicts")
"""Columns of whole numbers, which are floats where another task has none."""
SLICE_WORDS = (
    "Groups are made by what the corpus states and never by what is inferred; those of fewer than 30 clips stand in "
    "slices.csv with their number alone. Of each column the worst group is marked.",
)
REASON_WORDS = (
    "Exact Shapley values of the modalities in the task's own units. agreement is the share of clips in which the "
    "largest contribution is of the modality that carries the label in truth, chance what naming the commonest one "
    "would give, spearman the rank correlation over clips; precision, recall and AUROC judge the flag of conflict by "
    "the planted contradictions. These are known for the synthetic demo alone.",
    "conflicts is the number of clips whose modalities contradict each other; surer without the share of cases in "
    "which taking a modality away raises the confidence by more than 0.01.",
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
            f"{champion['metric']} ({champion['value']:.3f}). {fitted}{f' Of it: {card.notes}.' if card.notes else ''}"
        )
        lines += sources(card.protocol)
    return lines


def scored_groups(slices: pd.DataFrame) -> pd.DataFrame:
    """The groups that are large enough to be scored."""
    return slices[slices["wrong"].notna()] if "wrong" in slices else slices


def slice_tables(slices: pd.DataFrame, champions: dict[str, dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """Caption -> the scored groups of each champion, its metric before what all tasks have."""
    made = {}
    for name, mine in by_task(scored_groups(slices), champions).items():
        last = [column for column in ("wrong", "coverage", "size") if column in mine]
        first = [column for column in mine if column not in ("branch", *last)]
        made[f"{name}: {mine['branch'].iloc[0]}"] = mine[[*first, *last]]
    return made


def too_small(slices: pd.DataFrame) -> list[str]:
    """One sentence on the columns of which no group is large enough, or nothing."""
    if "wrong" not in slices:
        return []
    found = []
    for column, rows in slices.groupby("slice", sort=False):
        if rows["wrong"].isna().all():
            one = rows[rows["branch"] == rows["branch"].iloc[0]]
            found.append(f"{column} ({len(one)} groups of at most {int(one['n'].max())} clips)")
    return [f"Too small in all of their groups: {', '.join(found)}."] if found else []


def by_task(table: pd.DataFrame, champions: dict[str, dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """Caption -> the rows of each task, without columns that hold nothing for it."""
    made = {}
    for name in champions:
        mine = table[table["task"] == name].drop(columns="task").dropna(axis=1, how="all")
        if "worst" in mine and not mine["worst"].any():
            mine = mine.drop(columns="worst")
        counts = [column for column in COUNTS if column in mine and mine[column].notna().all()]
        if len(mine):
            made[name] = mine.astype(dict.fromkeys(counts, int))
    return made


def in_parts(
    table: pd.DataFrame, champions: dict[str, dict[str, Any]], parts: Mapping[str, Sequence[str]]
) -> dict[str, pd.DataFrame]:
    """Caption -> for each task the columns that belong together, as `parts` has them."""
    return {
        f"{name}: {part}": mine[["branch", *(column for column in columns if column in mine)]]
        for name, mine in by_task(table, champions).items()
        for part, columns in parts.items()
        if any(column in mine for column in columns)
    }
