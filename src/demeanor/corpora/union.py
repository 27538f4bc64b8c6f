"""Several corpora in one table: each with its own reader, options, split and label maps, none mixed with another.

Ids, dialogues and speakers begin with the corpus' name and a point, so that two corpora share none; every row stays in
the split that its own corpus gives it; `corpus` says where it comes from.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from demeanor.corpora import find_reader
from demeanor.corpora.base import Card, Corpus, CorpusSettings, Finding, Reader, ReaderSettings
from demeanor.corpora.doctor import counted
from demeanor.corpora.imported import StreamFolder
from demeanor.corpora.joined_tables import SEPARATOR, joined, mixed, tables_of
from demeanor.corpora.paths import why_unsafe_name
from demeanor.data.errors import InputError
from demeanor.data.stream import Stream
from demeanor.data.utterances import COLUMNS


class UnionSettings(ReaderSettings):
    """
    path          folder that the corpora lie in: a relative `path` among their options is meant from there
    corpora       name -> what the parameters' `corpus` says of one alone; its path is its name where it gives none
    missing       a corpus with nothing at its path: "error" names all of them, "leave_out" goes on without, and tells
    follow_links  and `remote`: each corpus says so itself, among its own options
    """

    name: str = "union"
    corpora: dict[str, CorpusSettings] = Field(min_length=1)
    missing: Literal["error", "leave_out"] = "error"
    follow_links: bool = True
    remote: bool = True

    @model_validator(mode="before")
    @classmethod
    def _named_and_placed(cls, given: Any) -> Any:
        """Each corpus is called by its name in the union, and lies below `path`."""
        corpora = given.get("corpora") if isinstance(given, Mapping) else None
        if not isinstance(corpora, Mapping):
            return given
        folder = str(given.get("path", ""))
        return {**given, "corpora": {str(name): _placed(str(name), one, folder) for name, one in corpora.items()}}

    @model_validator(mode="after")
    def _apart(self) -> UnionSettings:
        problems = [
            f"corpora.{name}: the name {reason}"
            for name in self.corpora
            if (reason := why_unsafe_name(name) or ("holds a point" if SEPARATOR in name else None))
        ]
        problems += [f"corpora.{name}: a union holds no union" for name, one in self.corpora.items()
                     if find_reader(one.reader).of_several]  # fmt: skip
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _placed(name: str, given: Any, folder: str) -> Any:
    if not isinstance(given, Mapping) or not isinstance(given.get("options", {}), Mapping):
        return given
    options = {"path": name, **given.get("options", {}), "name": name}
    path = str(options["path"])
    # What begins with `~` or a variable, or is an address, is whole as it is; so is an absolute path, as Path joins it.
    whole = path.startswith(("~", "$")) or "://" in path
    return {**given, "options": {**options, "path": path if whole else str(Path(folder) / path)}}


class UnionReader(Reader):
    """Reads each corpus by its own reader and lays their tables and streams below each other."""

    settings_type = UnionSettings
    of_several = True

    def read(self, settings: UnionSettings, output: Path) -> Corpus:
        there, left_out = _there(settings)
        with _folders(there, output) as folders:
            parts = _read(settings, there, folders)
            root, tables = tables_of(parts)
            utterances = joined(tables, settings.name)
            streams = _streams(parts, list(utterances["utterance_id"]), output, settings.name)
        findings = [_told(name, part) for name, part in parts.items()]
        findings += [replace(one, message=f"{name}: {one.message}") for name, part in parts.items()
                     for one in (*part.findings, *_counted(part))]  # fmt: skip
        findings += mixed(tables)
        if left_out:
            told = tuple(f"{name}: nothing at {where}" for name, where in left_out.items())
            advice = "What is learnt knows nothing of them. Put them there, or say where they are."
            findings.append(Finding("left_out_corpus", "warning", f"left out: {', '.join(left_out)}", len(left_out),
                                    told[:3], advice))  # fmt: skip
        aside = {f"{name}{SEPARATOR}{key}": why for name, part in parts.items() for key, why in part.set_aside.items()}
        return Corpus(settings.name, utterances, root, _card(parts), streams, tuple(findings), aside)


def _there(settings: UnionSettings) -> tuple[list[str], dict[str, Path]]:
    """Names of the corpora that are there, and name -> path of those that are not. InputError as `missing` says."""
    paths = {
        name: find_reader(one.reader).settings_type.model_validate(one.options).path
        for name, one in settings.corpora.items()
    }
    # An address is asked by its reader.
    missing = {name: path for name, path in paths.items() if isinstance(path, Path) and not path.exists()}
    if missing and (settings.missing == "error" or len(missing) == len(paths)):
        problems = [f"{name}: there is nothing at {path}" for name, path in missing.items()]
        advice = "Say where they are (corpus.options.corpora.NAME.options.path=...)"
        without = ", or go on without them (corpus.options.missing=leave_out)" if len(missing) < len(paths) else ""
        raise InputError(f"corpora of '{settings.name}'", problems, f"{advice}{without}.", shown=len(problems))
    return [name for name in paths if name not in missing], missing


@contextmanager
def _folders(names: list[str], output: Path) -> Iterator[dict[str, Path]]:
    """A folder for the streams of each corpus, until they are joined."""
    folder = output / ".corpora"
    try:
        yield {name: folder / name for name in names}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(settings: UnionSettings, names: list[str], folders: Mapping[str, Path]) -> dict[str, Corpus]:
    """Name -> corpus; InputError with what is wrong with any of them."""
    parts, problems, advice = {}, [], []
    for name in names:
        try:
            parts[name] = settings.corpora[name].read(folders[name])
        except InputError as error:
            problems += [f"{name}, {error.where}: {problem}" for problem in error.problems]
            advice += [f"{name}: {error.advice}"] if error.advice else []
    if problems:
        raise InputError(f"corpora of '{settings.name}'", problems, "\n".join(advice))
    return parts


def _streams(parts: Mapping[str, Corpus], ids: list[str], output: Path, name: str) -> dict[str, Stream]:
    """The streams that came with any of the corpora, without a step in the rows of the others.

    InputError where two corpora bring streams of one name that were not made in one way: a stream has one provenance.
    """
    owners: dict[str, dict[str, Stream]] = {}
    for corpus, part in parts.items():
        for stream, made in part.streams.items():
            owners.setdefault(stream, {})[corpus] = made
    problems = []
    for stream, by_corpus in owners.items():
        kinds = {(one.provenance.fingerprint, one.dimension, str(one.ragged.dtype)) for one in by_corpus.values()}
        if len(kinds) > 1:
            whose = ", ".join(by_corpus)
            problems.append(f"stream '{stream}' comes with {whose}, made in different ways: they cannot be one stream")
    if problems:
        raise InputError(f"corpora of '{name}'", problems, "Use one of them, or extract the stream from recordings.")
    with StreamFolder.open(output) as folder:
        for stream, by_corpus in owners.items():
            first = next(iter(by_corpus.values()))
            writer = folder.add(stream, first.dimension, first.provenance, first.ragged.dtype.type)
            for identity in ids:
                corpus, _, own = identity.partition(SEPARATOR)
                ragged = by_corpus[corpus].ragged if corpus in by_corpus else None
                nothing = np.zeros((0, first.dimension), first.ragged.dtype)
                writer.append(identity, ragged[own] if ragged is not None and own in ragged else nothing)
    return folder.streams


def _card(parts: Mapping[str, Corpus]) -> Card:
    def listed(what: str) -> str:
        return "; ".join(f"{name}: {getattr(part.card, what)}" for name, part in parts.items()
                         if getattr(part.card, what))  # fmt: skip

    synthetic = any(part.card.synthetic for part in parts.values())
    return Card(f"union of {listed('title')}", listed("licence"), listed("citation"), synthetic=synthetic)


def _told(name: str, part: Corpus) -> Finding:
    counts = ", ".join(f"{count} {split}" for split, count in part.counts.items())
    labels = [str(one) for one in part.utterances if one not in COLUMNS]
    message = f"{name}: {part.card.title}, {counts}; columns {', '.join(labels) or 'none'}"
    return Finding("corpus", "note", message, len(part.utterances))


def _counted(part: Corpus) -> list[Finding]:
    own = any(finding.kind == "own_split" for finding in part.findings)
    return counted(part.utterances, {} if own else part.card.published)
