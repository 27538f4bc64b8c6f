"""The page of a trained model in Markdown, what a reader must know before using it: in the MLflow registry, and as the
README.md of a folder or a hub repository (demeanor.inference.hub)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from demeanor.corpora.cards import card_for, is_synthetic
from demeanor.data.bundle import Bundle
from demeanor.data.spec_sheet import sources

LONGEST = 4900
"""Characters: registries hold 5,000."""
MOST_SLICES = 12
"""Rows of slices that a page shows at most; report.html has them all."""


def model_card(
    bundle: Bundle, name: str, reason: str, metrics: Mapping[str, float], slices: pd.DataFrame | None = None
) -> str:
    """The card of a bundle that is registered as `name`.

    reason   why it is champion or challenger
    metrics  its figures on the sealed test
    slices   rows of demeanor.evaluation.slices for its branch, None where nobody measured them
    """
    calls = [
        "```bash",
        f'demeanor predict CLIP.mp4 --text "..." --model models:/{name}@champion',
        f"mlflow models serve -m models:/{name}@champion --env-manager local",
        "```",
    ]
    text = model_page(bundle, metrics, calls, f"Standing: {reason}.", slices)
    return text if len(text) <= LONGEST else text[:LONGEST].rpartition("\n")[0] + "\n\n(cut short)"


def model_page(
    bundle: Bundle,
    metrics: Mapping[str, float],
    calls: Sequence[str],
    remark: str = "",
    slices: pd.DataFrame | None = None,
) -> str:
    """The whole page, of any length: metrics on the sealed test, a remark below them, lines that say how to call it."""
    card = bundle.card
    protocol = card.protocol
    lines = [
        f"# {card.branch} ({card.system}), {bundle.parameters:,} parameters",
        "",
        "## Task",
        "",
        f"Embeds an utterance in {protocol.get('dimension', '?')} numbers."
        if card.kind == "embeds"
        else f"{card.task.describe()}.",
        "",
        "## Data",
        "",
        f"Trained on {protocol.get('corpus', '?')}: {protocol.get('train', '?')} utterances, seed "
        f"{protocol.get('seed', '?')}, data `{card.data_hash}`, code `{card.code_revision or 'unknown'}`.",
        "",
        *(one for line in sources(protocol) for one in (line, "")),
        "| input | stream | dimension | made by | from a recording | licence |",
        "|---|---|---|---|---|---|",
    ]
    for role, value in card.inputs.items():
        source = value.provenance
        lines.append(
            f"| {role} | {value.stream} | {value.dimension} | {source.extractor} {source.version} | "
            f"{'yes' if source.recomputable else 'no, imported'} | {source.licence} |"
        )
    lines += ["", "## Metrics", "", *_metrics(card.metrics, metrics), "", *([remark, ""] if remark else [])]
    if card.kind == "predicts":
        calibration = card.calibration
        lines += ["## Calibration", "", "None: its confidences are raw." if calibration is None
                  else f"{calibration.describe()}.", ""]  # fmt: skip
    if slices is not None and len(slices):
        lines += ["## Slices of the sealed test", "", *_slices(slices), ""]
    lines += ["## Licences", "", card.licence or "None of its parts states one.", ""]
    lines += [f"- corpus {name}: {card_for(name).licence}" for name in _corpora(bundle)]
    lines += ["", "## Limits", ""]
    lines += [f"- {limit}" for limit in _limits(bundle)]
    return "\n".join([*lines, "", "## How to call it", "", *calls])


def _corpora(bundle: Bundle) -> list[str]:
    return [name.strip() for name in str(bundle.card.protocol.get("corpus", "")).split(",") if name.strip()]


def _metrics(validation: Mapping[str, float], test: Mapping[str, float]) -> list[str]:
    names = sorted({*validation, *test})
    if not names:
        return ["None are known."]
    rows = [
        f"| {name} | " + " | ".join("" if name not in of else f"{of[name]:.3f}" for of in (validation, test)) + " |"
        for name in names
    ]
    return ["| metric | validation | sealed test |", "|---|---|---|", *rows]


def _slices(slices: pd.DataFrame) -> list[str]:
    """All clips and the worst group of every column, with intervals."""
    known = {"task", "branch", "slice", "group", "n", "worst", "wrong", "coverage", "size"}
    metric = next(column for column in slices.columns if column not in known and slices[column].notna().any())
    worst = slices["worst"].astype(bool)
    shown = slices[(slices["slice"] == "all") | worst].head(MOST_SLICES)
    rows = [
        f"| {row['slice']} | {row['group']} | {row['n']} | {row[metric]:.3f} "
        f"[{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}] |"
        for row in shown.to_dict("records")
    ]
    return [f"| slice | worst group | n | {metric}, 95 % |", "|---|---|---|---|", *rows]


def _limits(bundle: Bundle) -> list[str]:
    card = bundle.card
    limits = ["It repeats labels that people gave to recordings: an expression is not a feeling (docs/use.md)."]
    if not card.recomputable:
        limits.append("It reads imported features: it cannot score a recording.")
    if any(value.modality == "text" for value in card.raw_inputs.values()):
        languages = ", ".join(card.languages) or "?"
        limits.append(f"Words are given, or recognised ({card.recogniser}); languages: {languages}.")
    if card.kind == "predicts" and not card.knows_parts:
        limits.append("It was trained without leaving modalities out: contributions of one alone mean little.")
    if is_synthetic(card.protocol.get("corpus", "")):
        limits.append("It learnt from a synthetic corpus: a demonstration, not for people.")
    if card.notes:
        limits.append(f"{card.notes}.")
    return limits
