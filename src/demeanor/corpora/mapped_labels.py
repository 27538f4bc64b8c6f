"""Label columns in another space: what `corpus.labels` asks for, with what it costs in the doctor's report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import Field

from demeanor.corpora.base import Corpus, Finding
from demeanor.data.errors import InputError, nearest
from demeanor.data.label_spaces import find_map
from demeanor.data.settings import Settings
from demeanor.data.utterances import COLUMNS


class LabelMapping(Settings):
    """A label column that is read in another space (demeanor.data.label_spaces)."""

    column: str = Field(description="label column that is mapped; it stays")
    space: str = Field(description="what it is labelled in")
    to: str = Field(description="what the new column is labelled in")


def map_labels(corpus: Corpus, wanted: Mapping[str, LabelMapping]) -> Corpus:
    """`corpus` with a new column for each entry of `wanted`, and one finding each that counts what was lost.

    A column may be mapped onto its own name, as corpora of one union share columns: what it held before is then called
    `<column>_<space>`. InputError for a column that is not there, one that would be overwritten, and a map that does
    not exist.
    """
    table = corpus.utterances.copy()
    problems = []
    kept = {name: f"{name}_{asked.space}" for name, asked in wanted.items() if name == asked.column}
    for name, asked in wanted.items():
        if asked.column not in corpus.utterances or asked.column in COLUMNS:
            labels = [str(one) for one in corpus.utterances if one not in COLUMNS]
            problems.append(f"{name}: there is no label column '{asked.column}'.{nearest(asked.column, labels)}")
        new = kept.get(name, name)
        if new in corpus.utterances or (new != name and new in wanted):
            problems.append(f"{name}: the corpus has a column '{new}'; choose another name")
    if problems:
        raise InputError(f"labels of corpus '{corpus.name}'", problems)
    findings = []
    for name, new in kept.items():
        table[new] = table[name]
    for name, asked in wanted.items():
        chosen, before = find_map(asked.space, asked.to), corpus.utterances[asked.column]
        table[name] = chosen(before)
        foreign = before.notna() & ~chosen.source.holds(before)
        without = int((before.notna() & table[name].isna()).sum())
        told = f"labels of {asked.column} ({asked.space}) as {asked.to}: {int(table[name].notna().sum())} have one"
        told += f", {without} lose theirs" if without else ""
        told += f", {int(foreign.sum())} of these because they are none of {asked.space}" if foreign.any() else ""
        lost = "; ".join(chosen.lost)
        findings.append(Finding("mapped_labels", "note", f"{told}{f' ({lost})' if lost else ''}", len(table)))
    return replace(corpus, utterances=table, findings=(*corpus.findings, *findings))
