"""What a reader wants to know of a model before using it, in a page of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from demeanor.data.bundle import BundleCard


def spec_sheet(card: BundleCard, parameters: int) -> str:
    """What a reader wants to know of a model before using it."""
    lines = [
        f"{card.branch} ({card.system}), {parameters:,} parameters",
        f"embeds      an utterance in {card.protocol.get('dimension', '?')} numbers"
        if card.kind == "embeds"
        else f"task        {card.task.describe()}",
    ]
    for role, value in card.inputs.items():
        source = value.provenance
        how = "from a recording" if source.recomputable else "imported, not recomputable"
        lines.append(
            f"{role:<11} {value.stream} [{value.dimension}] by {source.extractor} {source.version}, {how}, "
            f"licence: {source.licence}"
        )
    protocol = card.protocol
    lines.append(
        f"trained on  {protocol.get('corpus', '?')}, {protocol.get('train', '?')} utterances, "
        f"seed {protocol.get('seed', '?')}, data {card.data_hash}, code {card.code_revision or 'unknown'}"
    )
    lines += [f"            {line}" for line in sources(protocol)]
    if card.origin:
        lines.append(f"fetched as  {card.origin}")
    if card.metrics:
        listed = ", ".join(f"{name} {value:.3f}" for name, value in sorted(card.metrics.items()))
        lines.append(f"validation  {listed}")
    if card.kind == "predicts":
        calibrated = "none: the answers are uncalibrated" if card.calibration is None else card.calibration.describe()
        lines.append(f"calibration {calibrated}")
    if any(value.modality == "text" for value in card.raw_inputs.values()):
        lines.append(
            f"words       given, or recognised ({card.recogniser}); languages: {', '.join(card.languages) or '?'}"
        )
    if card.licence:
        lines.append(f"licence     {card.licence}")
    if card.notes:
        lines.append(f"notes       {card.notes}")
    return "\n".join(lines)


def sources(protocol: Mapping[str, Any]) -> list[str]:
    """Of which corpora of a union a model learnt and how often it met their rows, and which were not there; what it
    learnt beside its own task: sentences. Nothing of one task on a corpus that stood alone."""
    rows, absent = protocol.get("corpora", {}), protocol.get("left_out", [])
    told = (
        f"{name} ({one['train']} rows, {one['valid']} for validation, each met {one['draws']:g} times an epoch)"
        for name, one in rows.items()
    )
    lines = [f"Learnt from {', '.join(told)}; validated on no other corpus."] if rows else []
    also = (f"{name} ({one['train']} rows, weight {one['weight']:g})" for name, one in protocol.get("also", {}).items())
    lines += [f"While it was trained it learnt {', '.join(also)} as well."] if protocol.get("also") else []
    return lines + ([f"Left out, because nothing was there: {', '.join(absent)}."] if absent else [])
