"""What every reader takes and gives: settings in, a `Corpus` out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import Field, field_validator, model_validator

from demeanor.corpora.paths import why_unsafe_name
from demeanor.data.errors import InputError
from demeanor.data.places import ProjectPath
from demeanor.data.settings import Settings
from demeanor.data.stream import Stream
from demeanor.data.table_on_disk import on_disk
from demeanor.data.texts import has_content

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One kind of thing that was noticed about a corpus.

    kind      short machine name, for example "silent_audio"
    severity  "error": the utterances concerned are set aside; "warning": legal but foolish; "note": good to know
    message   what was found, in one line
    count     how many utterances, columns or files
    examples  at most three of them
    advice    what to do about it
    """

    kind: str
    severity: Severity
    message: str
    count: int = 1
    examples: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True)
class Card:
    """Who made a corpus, what it may be used for, and how large it was when it was published."""

    title: str
    licence: str = "unknown: ask the owner of the recordings"
    citation: str = ""
    published: Mapping[str, int] = field(default_factory=dict)
    "utterances by split as published; empty where nothing was published"
    synthetic: bool = False
    "made by a program: figures of it say nothing about people"


@dataclass(frozen=True)
class Corpus:
    """What a reader makes of files on disk.

    utterances  the checked table (demeanor.data.utterances)
    root        folder that `media` of the table is relative to
    streams     features that came with the corpus, memory-mapped from the reader's `output` folder; each has a row
                for every utterance, and its provenance says whether it can be recomputed from a recording
    set_aside   utterance id -> why a row of the corpus is not in the table
    """

    name: str
    utterances: pd.DataFrame
    root: Path
    card: Card
    streams: Mapping[str, Stream] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Utterances by split."""
        found = self.utterances["split"].value_counts()
        return {split: int(found.get(split, 0)) for split in ("train", "valid", "test")}


class ReaderSettings(Settings):
    """What every reader is told.

    path          folder or file of the corpus; a relative one is meant from the project's root
    name          how the corpus is called in tables and tags; a plain name, because it becomes part of folders' names
    language      ISO 639-1 code of its transcripts; it also tells which encoding is likely where they are not Unicode
    follow_links  read what links within the folder lead to where that lies outside; only for links of your own making
    remote        fetch recordings that a table names by an address (https, s3, ...); only for tables that you trust
    """

    path: ProjectPath
    name: str = "corpus"
    language: str = "en"
    follow_links: bool = False
    remote: bool = False

    @field_validator("language", mode="before")
    @classmethod
    def _norwegian(cls, language: object) -> object:
        """YAML takes `no` for a no."""
        return "no" if language is False else language

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        reason = why_unsafe_name(name) if has_content(name) else "is empty"
        if reason is None and not name.isprintable():
            reason = "holds characters that nobody sees"
        if reason is not None:
            raise ValueError(f"the name of a corpus {reason}: use letters, digits and - or _")
        return name.strip()


class Reader:
    """Base of all readers: `settings_type` names the settings, `read` does the work, `recognise` knows its format."""

    settings_type: ClassVar[type[ReaderSettings]] = ReaderSettings
    #: Recognises whatever is not recognised by another reader.
    takes_what_is_left: ClassVar[bool] = False
    #: Are they several corpora, each with settings of its own? Then `split` and `valid_swap_noise` are said of each.
    of_several: ClassVar[bool] = False

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        """The options that read what lies at `path`, a folder or file, if it looks like this format; else None.

        A look at names, a header or a file's outline is enough: what is wrong further down is for `read` to say.
        """
        return None

    def read(self, settings: Any, output: Path) -> Corpus:
        """Read the corpus at `settings.path`; large streams go to `output`, one safetensors file each.

        Raises InputError that lists every problem; then nothing is left in `output`.
        """
        raise NotImplementedError


class CorpusSettings(Settings):
    """The `corpus` entry of the parameters: which reader, and what it is told.

    `options` are checked against the reader's own settings as soon as the parameters are loaded. `split`, if given,
    takes the place of the split that the corpus comes with (demeanor.corpora.splits.SplitSettings). `valid_swap_noise`,
    stream -> share, is for features that have seen the labels (demeanor.corpora.swap_noise). `labels`, new column ->
    column, space, to, maps labels into another space (demeanor.corpora.mapped_labels).
    """

    reader: str = Field(description="one of demeanor.corpora.READERS")
    options: dict[str, Any] = Field(default_factory=dict)
    split: dict[str, Any] | None = None
    valid_swap_noise: dict[str, float] = Field(default_factory=dict)
    labels: dict[str, dict[str, str]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _options_fit_the_reader(self) -> CorpusSettings:
        from demeanor.corpora import find_reader
        from demeanor.corpora.splits import SplitSettings

        try:
            reader = find_reader(self.reader)
        except InputError as error:
            raise ValueError(str(error)) from None
        if reader.of_several and (self.split is not None or self.valid_swap_noise):
            raise ValueError(
                "each corpus keeps its own split: say `split` and `valid_swap_noise` of one in its own entry"
            )
        reader.settings_type.model_validate(self.options)
        if self.split is not None:
            SplitSettings.model_validate(self.split)
        if self.labels:
            from demeanor.corpora.mapped_labels import LabelMapping
            from demeanor.data.label_spaces import find_map

            try:
                for asked in map(LabelMapping.model_validate, self.labels.values()):
                    find_map(asked.space, asked.to)
            except InputError as error:
                raise ValueError(str(error)) from None
        return self

    def read(self, output: Path) -> Corpus:
        """The corpus as its reader gives it, with the splits and the swap noise asked for.

        Its streams lie below `output`. InputError, of all problems at once, where the raw files are not what the
        reader takes; pydantic's ValidationError for settings that are not its own.
        """
        from demeanor.corpora import find_reader

        reader = find_reader(self.reader)
        settings = reader.settings_type.model_validate(self.options)
        corpus = reader().read(settings, output)
        if not settings.remote:
            from demeanor.corpora.recordings import without_addresses

            corpus = without_addresses(corpus)
        if not settings.follow_links:
            from demeanor.corpora.recordings import without_links

            corpus = without_links(corpus)
        if self.split is not None:
            corpus = self._split(corpus)
        if self.labels:
            from demeanor.corpora.mapped_labels import LabelMapping, map_labels

            corpus = map_labels(corpus, {name: LabelMapping(**asked) for name, asked in self.labels.items()})
        if self.valid_swap_noise:
            from demeanor.corpora.swap_noise import add_swap_noise

            corpus = add_swap_noise(corpus, self.valid_swap_noise, output)
        return replace(corpus, utterances=on_disk(corpus.utterances))

    def _split(self, corpus: Corpus) -> Corpus:
        from demeanor.corpora.splits import SplitSettings

        made = SplitSettings.model_validate(self.split).make(corpus.utterances)
        counted = ", ".join(f"{count} {part}" for part, count in made.counts().items())
        finding = Finding("own_split", "note", f"split '{made.name}' ({counted}), sha256 {made.sha256[:16]}")
        return replace(corpus, utterances=made.apply(corpus.utterances), findings=(*corpus.findings, finding))


def require_path(path: Path, kind: Literal["file", "folder", "any"], advice: str = "") -> Path:
    """`path`, or an InputError that says what is there instead."""
    hint = advice or "Set the reader's `path` to where the corpus lies on this machine."
    if not path.exists():
        raise InputError(str(path), [f"there is no such {kind if kind != 'any' else 'file or folder'}"], hint)
    if kind == "file" and not path.is_file():
        raise InputError(str(path), ["is a folder, but a file is expected"], hint)
    if kind == "folder" and not path.is_dir():
        raise InputError(str(path), ["is a file, but a folder is expected"], hint)
    return path
