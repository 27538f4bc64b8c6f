"""docs/results/trust.md, from the figures that tests/benchmarks/bench_trust.py has kept in trust.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from demeanor.evaluation.coverage import expected_coverage

WHAT = {
    "demo": "the bundled synthetic corpus, where the truth is planted; the champions of the whole job, which "
    "validation chose among all branches",
    "mosi_utterances": "CMU-MOSI as one vector per utterance and modality; validation dialogues held out of train, "
    "whose text and video vectors had seen the labels and are weakened by exchange ([page](mosi_utterances.md))",
    "meld": "MELD's words: sentence vectors of a frozen MiniLM",
    "ravdess": "RAVDESS by voice: eGeMAPS functionals, no speaker in two splits",
}

DRIFT = {
    "meld": "More than half of the surplus is the mix of classes: neutral, which is the easiest, is 48 % of the test "
    "and 42 % of validation. Were classes as common on either, what is held would be as expected.",
    "mosi_utterances": (
        "Validation is weakened on purpose, and differs from the test by that. As many answers are wrong on either, "
        "but not in the same way: what is said of an exchanged vector is wrong and as sure as what is right, while "
        "the wrong answers of the test are less sure than the right ones. Intervals and sets that are to hold nine of "
        "ten labels of validation have to hold those too, become wide, and hold more than was promised on the test. "
        "No other validation can be had: the vectors of text and video saw the labels of all training videos."
    ),
}
"""What is known of a corpus whose test is of another kind than its validation."""


def page(measured: dict[str, dict[str, Any]]) -> str:
    """docs/results/trust.md."""
    revisions = sorted({code for one in measured.values() for code in one["code"]})
    lines = [
        "# Results: how far answers can be taken at their word",
        "",
        f"Made by `python -m tests.benchmarks.bench_trust` at revision {', '.join(revisions)} from receipts of sealed "
        "tests. **Small branches** of the real corpora, the cheapest of each environment, trained as its `conf` says: "
        "they show whether calibration, intervals and abstention hold on data that nobody made for them, not how well "
        "a corpus can be read. Everything was fitted on validation, and nothing was chosen by the test.",
        "",
        *(
            f"* **{corpus}**: {WHAT[corpus]}. Seeds {', '.join(map(str, one['seeds']))}; data {', '.join(one['data'])}."
            for corpus, one in sorted(measured.items())
        ),
        "",
        "## Calibration of classes, before and after",
        "",
        "| corpus | branch | test clips | wrong | ECE before | ECE after | adaptive ECE | NLL before | NLL after "
        "| Brier before | Brier after |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows = [(corpus, row) for corpus, one in sorted(measured.items()) for row in one["rows"]]
    for corpus, row in rows:
        if "ECE" in row:
            lines.append(
                f"| {corpus} | {row['branch']} | {row['n']} | {row['wrong']:.3f} | {row['raw_ECE']:.3f} | "
                f"{row['ECE']:.3f} | {row['raw_adaptive_ECE']:.3f}, {row['adaptive_ECE']:.3f} | {row['raw_NLL']:.3f} | "
                f"{row['NLL']:.3f} | {row['raw_Brier']:.3f} | {row['Brier']:.3f} |"
            )
    lines += [
        "",
        *coverages(rows),
        "## Answering only where it is sure",
        "",
        "AURC: mean share of wrong answers over all shares given, the surest first; lower is better, and `wrong` is "
        "what answers in any order have. Before: by the same system's confidence as it was (largest probability; of a "
        "number, its distance from the middle of the scale).",
        "",
        "| corpus | branch | wrong | AURC before | AURC after | wrong among the surest 80 % | answered at 10 % wrong |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for corpus, row in rows:
        lines.append(
            f"| {corpus} | {row['branch']} | {row['wrong']:.3f} | {row['raw_AURC']:.4f} | {row['AURC']:.4f} | "
            f"{row['risk_at_coverage_0.8']:.3f} | {row['coverage_at_risk_0.1']:.1%} |"
        )
    lines += [
        "",
        "One temperature for all clips cannot change the order of two classes' confidences, so AURC moves only where "
        "there are more classes, where clips have different modalities, or, of a number, where errors are lopsided.",
        "",
        *contributions(measured),
    ]
    return "\n".join(lines)


def coverages(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """What was held beside what chance leads to expect, and what else than chance may have moved it."""
    lines = [
        "## Intervals and sets that are to hold nine of ten labels",
        "",
        "`held`: share of labels of the sealed test that the interval (of a number) or set (of classes) holds, with "
        "the 95 % interval of a binomial share of so many clips. `expected`: between which 95 % of the shares lie that "
        "chance alone gives where the test is of the same kind as validation. The coverage of an interval fitted on n "
        "clips is itself drawn, from Beta(r, n + 1 - r) with r = ⌈(n + 1) · promised⌉; with the test's own chance the "
        "number of held clips is beta-binomial. Clips of one dialogue resemble each other: as many of them as the "
        "design effect says count as one, in both splits (a dash: fewer than ten dialogues, or a run that did not say "
        "it; then 1).",
        "",
        "| corpus | task | branch | validation clips | test clips | promised | held | 95 % interval | design effect "
        "| expected | as expected | size |",
        "|---|---|---|--:|--:|--:|--:|---|--:|---|---|--:|",
    ]
    for corpus, row in rows:
        first, last = expected(row)
        lines.append(
            f"| {corpus} | {row['task']} | {row['branch']} | {row['calibrated_on']} | {row['n']} | "
            f"{row['promised']:.2f} | {row['coverage']:.3f} | [{row['coverage_low']:.3f}, {row['coverage_high']:.3f}] "
            f"| {number(row, 'design_effect', 1)} | [{first:.3f}, {last:.3f}] "
            f"| {as_expected(row['coverage'], first, last)} | {row['size']:.2f} |"
        )
    lines += [
        "",
        "size: length of the interval, or number of classes. Where a share is not as expected, the test is of another "
        "kind than validation. Two figures look into it: the share of wrong answers on either split (validation "
        "has chosen the epoch, which makes its own share a little too small), and what would be held if classes were "
        "as common on the test as on validation.",
        "",
        "| corpus | task | branch | wrong on validation | wrong on test | held | held in validation's mix of classes |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {corpus} | {row['task']} | {row['branch']} | {number(row, 'wrong_on_validation')} | {row['wrong']:.3f} "
        f"| {row['coverage']:.3f} | {number(row, 'coverage_in_mix')} |"
        for corpus, row in rows
    ]
    lines.append("")
    for corpus, text in DRIFT.items():
        if any(name == corpus for name, _ in rows):
            lines += [f"**{corpus}.** {text}", ""]
    return lines


def contributions(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The largest contribution against the modality that carries the label, and `conflict` against what was planted."""
    rows = [(corpus, row) for corpus, one in sorted(measured.items()) for row in one.get("reasons", ())]
    if not rows:
        return []
    lines = [
        "## Contributions against the planted truth",
        "",
        "Exact Shapley values of the modalities. `named`: share of clips whose largest contribution is that of the "
        "modality which carries the label in truth; `commonest`: what naming the commonest carrier always would give; "
        "ρ: rank correlation with the planted contributions, mean over modalities. `conflict` is a flag, judged by the "
        "clips whose words contradict voice and face. `surer without`: share of cases in which taking a modality away "
        "raises the confidence by more than 0.01. Truth is known of the demo's sentiment alone.",
        "",
        "| corpus | task | branch | modality dropout | clips | named | commonest | ρ | contradictions | flagged "
        "| precision | recall | AUROC | surer without |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for corpus, row in rows:
        figures = (
            number(row, "modality_dropout", 1), number(row, "n", 0), number(row, "agreement"), number(row, "chance"),
            number(row, "spearman", 2), number(row, "planted", 0), number(row, "conflicts", 0),
            number(row, "precision", 2), number(row, "recall", 2), number(row, "AUROC", 2),
            number(row, "surer_without"),
        )  # fmt: skip
        lines.append(f"| {corpus} | {row['task']} | {row['branch']} | {' | '.join(figures)} |")
    lines.append("")
    for corpus, row in rows:
        if {"agreement", "precision", "recall"} <= row.keys():
            more = 100 * (row["agreement"] - row["chance"])
            lines += [
                f"Of {corpus}'s {row['n']:.0f} test clips the largest contribution names the carrier in "
                f"{row['agreement']:.0%}, {more:.0f} points more than the commonest one would. `conflict` finds "
                f"{row['recall']:.0%} of the {row['planted']:.0f} planted contradictions, and "
                f"{1 - row['precision']:.0%} of what it flags was not planted: it says where to look, and proves "
                "nothing.",
                "",
            ]
    return lines


def number(row: Mapping[str, Any], name: str, digits: int = 3) -> str:
    """A figure, or a dash where the run did not have it."""
    return f"{row[name]:.{digits}f}" if name in row else "-"


def as_expected(held: float, low: float, high: float) -> str:
    if low <= held <= high:
        return "yes"
    return "no, more" if held > high else "no, fewer"


def expected(row: Mapping[str, Any]) -> tuple[float, float]:
    """`expected` as the run said it; of a run that did not yet say it, as if all clips had been drawn one by one."""
    if "expected_low" in row:
        return row["expected_low"], row["expected_high"]
    return expected_coverage(row["promised"], [(row["calibrated_on"], row["n"])])
