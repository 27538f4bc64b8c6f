"""The doctor's report: what is wrong or odd about a corpus, before anything is learnt from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from demeanor.corpora.base import Card, Corpus, Finding
from demeanor.corpora.checks import media, streams, transcripts
from demeanor.corpora.duplicates import duplicates
from demeanor.data.errors import InputError
from demeanor.data.media import MediaProbe
from demeanor.data.settings import Settings

SPLITS = ("train", "valid", "test")


class DoctorSettings(Settings):
    """
    bad_share         share of utterances that may be set aside before a run stops
    slowest, fastest  characters of transcript per second of recording outside which a clip is reported; None takes
                      1 and 35 for alphabets, 0.5 and 15 for Chinese, Japanese and Korean
    hash_media        look for identical recordings in several splits (only files of equal size are read)
    """

    bad_share: float = Field(default=0.05, ge=0, le=1)
    slowest: float | None = None
    fastest: float | None = None
    hash_media: bool = True


@dataclass(frozen=True)
class Report:
    """
    findings   what was noticed, errors first
    set_aside  utterance id -> why it is left out of training and testing
    counts     split -> utterances in the table
    histogram  label column -> split -> value -> utterances
    examined   utterances in the table and rows that the reader already left out
    """

    corpus: str
    card: Card
    findings: tuple[Finding, ...]
    set_aside: Mapping[str, str]
    counts: Mapping[str, int]
    histogram: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    speakers: int = 0
    dialogues: int = 0
    streams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    examined: int = 0

    @property
    def bad_share(self) -> float:
        """Utterances set aside, as a share of all that were examined (0 of none)."""
        return len(self.set_aside) / self.examined if self.examined else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for a JSON dataset."""
        return json.loads(json.dumps({**asdict(self), "bad_share": self.bad_share}, default=str))

    def to_markdown(self) -> str:
        """The report as a page of Markdown."""
        return _markdown(self)


def examine(
    corpus: Corpus, settings: DoctorSettings | None = None, probes: Mapping[str, MediaProbe] | None = None
) -> Report:
    """Look at a corpus from all sides; nothing is changed.

    `probes` (utterance id -> MediaProbe) tells what opening each recording gave; without it, only the presence of the
    files is looked at.
    """
    settings = settings or DoctorSettings()
    table = corpus.utterances
    findings = list(corpus.findings)
    set_aside = dict(corpus.set_aside)
    found, unusable = media(corpus, probes)
    findings += found
    set_aside |= unusable
    own = any(finding.kind == "own_split" for finding in findings)
    findings += [*counted(table, {} if own else corpus.card.published), *_leaks(table)]
    findings += transcripts(table, probes, settings.slowest, settings.fastest)
    findings += duplicates(corpus, settings.hash_media)
    facts, found = streams(corpus.streams, table)
    findings += found
    order = {"error": 0, "warning": 1, "note": 2}
    return Report(
        corpus=corpus.name,
        card=corpus.card,
        findings=tuple(sorted(findings, key=lambda finding: order[finding.severity])),
        set_aside=set_aside,
        counts=corpus.counts,
        histogram=_histogram(table),
        speakers=int(table["speaker"].nunique()),
        dialogues=int(table["dialogue"].nunique()),
        streams=facts,
        examined=len(table) + len(corpus.set_aside),
    )


def require_share(report: Report, limit: float) -> None:
    """Raise InputError if more than `limit` of the utterances had to be set aside."""
    if report.bad_share > limit:
        # What stands in brackets is one utterance's own: the file that lies there instead, the decoder's words.
        kinds = {key: reason.partition(" (")[0] for key, reason in report.set_aside.items()}
        reasons = Counter(kinds.values()).most_common()
        examples = {
            kinds[key]: key + reason.removeprefix(kinds[key])
            for key, reason in reversed(list(report.set_aside.items()))
        }
        raise InputError(
            f"corpus '{report.corpus}'",
            [f"{count} utterances: {reason}, for example {examples[reason]}" for reason, count in reasons],
            f"{len(report.set_aside)} of {report.examined} utterances ({report.bad_share:.1%}) cannot be used, more "
            f"than the {limit:.1%} that `bad_share` allows. Repair the corpus, or raise the limit.",
        )


def counted(table: pd.DataFrame, published: Mapping[str, int]) -> list[Finding]:
    """Utterances by split against the published numbers, and splits without rows."""
    findings = []
    counts = table["split"].value_counts()
    different = [
        f"{split}: {int(counts.get(split, 0))} here, {number} published"
        for split, number in published.items()
        if int(counts.get(split, 0)) != number
    ]
    if different:
        findings.append(
            Finding("counts", "warning", "; ".join(different), len(different),
                    advice="Scores on another set of utterances do not compare with published ones.")
        )  # fmt: skip
    empty = tuple(split for split in SPLITS if not counts.get(split, 0))
    if empty:
        findings.append(
            Finding("empty_split", "warning", f"no utterance in {' and '.join(empty)}", len(empty), empty,
                    "Make the split from a file of ids (demeanor.corpora.splits).")
        )  # fmt: skip
    return findings


def _leaks(table: pd.DataFrame) -> list[Finding]:
    """Speakers and dialogues that several splits share."""
    findings = []
    for column, kind in (("speaker", "speaker_leakage"), ("dialogue", "dialogue_leakage")):
        shared = _shared(table, column)
        if shared:
            findings.append(
                Finding(kind, "warning", f"{column}s that stand in several splits", len(shared), tuple(shared[:3]),
                        f"A model can learn the {column} instead of the mood; split by {column}.")
            )  # fmt: skip
    return findings


def _shared(table: pd.DataFrame, column: str) -> list[str]:
    splits = table.dropna(subset=[column]).groupby(column)["split"].nunique()
    return [str(name) for name in splits[splits > 1].index]


def _histogram(table: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Labels by split: numbers rounded to the nearest integer (to 0.2 if all lie within 1), classes as they are."""
    from demeanor.data.utterances import COLUMNS

    found: dict[str, dict[str, dict[str, int]]] = {}
    for name in table.columns:
        if name in COLUMNS or name == "annotation":
            continue
        values = table[name]
        if pd.api.types.is_numeric_dtype(values):
            step = 0.2 if values.abs().max() <= 1 and not (values.dropna() % 1 == 0).all() else 1.0
            values = ((values / step).round() * step).round(1) + 0.0
            order: Sequence[Any] = sorted(values.dropna().unique())
        elif values.nunique() <= 32:
            order = sorted(values.dropna().astype(str).unique())
        else:
            continue
        found[name] = {
            split: {f"{value:g}" if isinstance(value, (float, np.floating)) else str(value):
                    int((part == value).sum()) for value in order}
            for split, part in values.groupby(table["split"])
        }  # fmt: skip
    return found


def _markdown(report: Report) -> str:
    card = report.card
    lines = [f"# Doctor's report: {report.corpus}", "", f"{card.title}. Licence: {card.licence}."]
    if card.citation:
        lines += ["", f"Citation: {card.citation}."]
    counted = ", ".join(f"{count} {split}" for split, count in report.counts.items())
    lines += ["", f"{counted}; {report.dialogues} dialogues, {report.speakers or 'unknown'} speakers. "
                  f"{len(report.set_aside)} of {report.examined} set aside ({report.bad_share:.1%})."]  # fmt: skip
    lines += ["", "## Findings", ""]
    if report.findings:
        lines += ["| | what | how many | for example | what to do |", "|---|---|---|---|---|"]
        lines += [
            f"| {f.severity} | {_cell(f.message)} | {f.count} | {_cell(', '.join(f.examples))} | {_cell(f.advice)} |"
            for f in report.findings
        ]
    else:
        lines.append("Nothing to remark.")
    for name, splits in report.histogram.items():
        values = list(next(iter(splits.values()), {}))
        lines += ["", f"## Labels: {name}", "", "| | " + " | ".join(map(_cell, values)) + " |"]
        lines.append("|---" * (len(values) + 1) + "|")
        for split in SPLITS:
            if split in splits:
                lines.append(f"| {split} | " + " | ".join(str(splits[split][value]) for value in values) + " |")
    if report.streams:
        lines += ["", "## Streams that came with the corpus", "", "| stream | steps | columns | longest | empty |",
                  "|---|---|---|---|---|"]  # fmt: skip
        for name, facts in report.streams.items():
            lines.append(f"| {name} | {facts['steps']} | {facts['columns']} | {facts['longest']} | {facts['empty']} |")
    if report.set_aside:
        lines += ["", "## Set aside", ""]
        shown = list(report.set_aside.items())[:20]
        lines += [f"* {key}: {reason}" for key, reason in shown]
        if len(report.set_aside) > len(shown):
            lines.append(f"* and {len(report.set_aside) - len(shown)} more")
    return "\n".join(lines) + "\n"


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
