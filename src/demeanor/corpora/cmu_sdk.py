"""CMU-MOSEI and CMU-MOSI as the CMU Multimodal SDK delivers them: a folder of `.csd` files.

docs/systems/conv_autoencoder.md#sources. Videos are read, aligned and written one at a time, so that the 66
hours of 74-dimensional COVAREP frames in MOSEI never stand in memory together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from tqdm import tqdm

from demeanor.corpora.base import Corpus, Finding, Reader, ReaderSettings, require_path
from demeanor.corpora.cards import card_for
from demeanor.corpora.csd_file import SUFFIX, CsdFile, files_by_name, rarer_widths
from demeanor.corpora.imported import StreamFolder
from demeanor.corpora.paths import as_identifier
from demeanor.corpora.sdk_segments import Segment, segments_of
from demeanor.data.errors import InputError, nearest
from demeanor.data.files import parse_json, read_json
from demeanor.data.places import ProjectPath
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import RaggedWriter
from demeanor.data.texts import read_text, spoken
from demeanor.data.utterances import make_table

#: Modality -> (stream, names under which the SDK publishes its sequence, in order of preference).
SEQUENCES = {
    "text": ("text.words", ("glove_vectors", "glove_vectors_with_sp", "CMU_MOSEI_TimestampedWordVectors")),
    "audio": ("audio.frames", ("COVAREP", "OpenSMILE", "OpenSmile_emobase2010")),
    "vision": ("vision.frames", ("FACET 4.2", "FACET_4.2", "FACET 4.1", "FACET_4.1", "OpenFace_2")),
}
LABELS = ("All Labels", "Opinion Segment Labels", "Opinion_Labels")
WORDS = ("words", "CMU_MOSEI_TimestampedWords")
#: Columns of the label sequence by their number: MOSI has the first alone (docs/systems/conv_autoencoder.md#labels).
LABEL_COLUMNS = ("sentiment", "emotion_happiness", "emotion_sadness", "emotion_anger", "emotion_surprise",
                 "emotion_disgust", "emotion_fear")  # fmt: skip

STANDARD_FOLDS = {"mosei": "cmu_mosei", "mosi": "cmu_mosi", "pom": "pom"}


class CmuSdkSettings(ReaderSettings):
    """
    folds       "mosei", "mosi": the SDK's standard folds; or a JSON file with lists train, valid and test of video ids
    alignment   "average": one row per word, the mean of the frames within it; "reference": frames as they are, cut at
                words, which is what the published loader does (its 20 rows are 20 words of text but 0.2 s of audio)
    text, audio, vision, labels, words   names of the sequences where they are none of the usual ones
    non_finite  "zero": NaN and infinities are left out of averages and become 0; "keep": nothing is changed
    prefix_bug  remove incomplete videos by the beginning of their id, as the SDK does
    low, high   range of the sentiment labels
    """

    folds: Literal["mosei", "mosi", "pom"] | ProjectPath = "mosei"
    alignment: Literal["average", "reference"] = "average"
    text: str | None = None
    audio: str | None = None
    vision: str | None = None
    labels: str | None = None
    words: str | None = None
    non_finite: Literal["zero", "keep"] = "zero"
    prefix_bug: bool = False
    low: float = -3.0
    high: float = 3.0
    corpus: str | None = Field(default=None, description="key of licence and citation; None: by `folds`")


class CmuSdkReader(Reader):
    """Gives one utterance per label segment, `text.words`, `audio.frames` and `vision.frames`."""

    settings_type = CmuSdkSettings

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        if path.is_dir():
            return {"path": path} if any(path.glob(f"*{SUFFIX}")) else None
        return {"path": path.parent} if path.suffix == SUFFIX else None

    def read(self, settings: CmuSdkSettings, output: Path) -> Corpus:
        folds = load_folds(settings.folds)
        paths = _chosen_files(settings)
        with ExitStack() as stack:
            files = {role: stack.enter_context(CsdFile.open(path)) for role, path in paths.items()}
            content = _write(files, settings, folds, output)
        if not content.rows:
            raise InputError(
                str(settings.path), ["no label segment is left"], "Look whether `folds` names videos of these files."
            )
        table = make_table(content.rows, str(settings.path))
        known = settings.corpus or (f"{settings.folds}_sdk" if isinstance(settings.folds, str) else settings.name)
        return Corpus(
            name=settings.name, utterances=table, root=settings.path, card=card_for(known),
            streams=content.folder.streams, findings=tuple(content.findings(len(files["labels"].videos))),
        )  # fmt: skip


@cache
def _standard_folds() -> dict[str, dict[str, list[str]]]:
    return read_json(Path(__file__).with_name("standard_folds.json"))


def load_folds(folds: str | Path) -> dict[str, list[str]]:
    """Video ids of train, valid and test; InputError if a video stands in two of them."""
    if str(folds) in STANDARD_FOLDS:
        return _standard_folds()[STANDARD_FOLDS[str(folds)]]
    path = require_path(Path(folds), "file")
    try:
        content = parse_json(read_text(path).content, str(path))
        loaded = {name: [str(video) for video in content[name]] for name in ("train", "valid", "test")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(str(path), [f"needs lists train, valid and test of video ids ({error})"]) from None
    shared = [
        video for name in loaded for other in loaded if name < other for video in set(loaded[name]) & set(loaded[other])
    ]
    if shared:
        raise InputError(str(path), [f"{len(shared)} videos stand in two folds, for example {min(shared)}"])
    return loaded


def _chosen_files(settings: CmuSdkSettings) -> dict[str, Path]:
    """Role -> file, by the names in the files; all that is missing at once."""
    names = files_by_name(require_path(settings.path, "folder"))
    problems = []
    chosen: dict[str, Path] = {}
    wanted = {role: usual for role, (_, usual) in SEQUENCES.items()} | {"labels": LABELS, "words": WORDS}
    for role, usual in wanted.items():
        configured = getattr(settings, role)
        file_name = next((name for name in ((configured,) if configured else usual) if name in names), None)
        if file_name is not None:
            chosen[role] = names[file_name]
        elif configured or role in ("text", "labels"):
            expected = configured or " or ".join(usual)
            problems.append(f"there is no sequence '{expected}' for {role}.{nearest(configured or usual[0], names)}")
    if problems:
        raise InputError(str(settings.path), problems, "Set the reader's options to the names that the files have.")
    return chosen


@dataclass
class _Content:
    folder: StreamFolder
    rows: list[dict[str, Any]] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    other_width: list[str] = field(default_factory=list)
    widths: list[str] = field(default_factory=list)
    unfolded: list[str] = field(default_factory=list)
    wordless: list[str] = field(default_factory=list)
    out_of_range: list[str] = field(default_factory=list)

    def findings(self, videos: int) -> Iterator[Finding]:
        for kind, names, message, advice in (
            (
                "incomplete_videos",
                self.incomplete,
                "videos that a sequence lacks",
                "They are left out, as the SDK does.",
            ),
            (
                "other_width",
                self.other_width,
                f"videos of another width than most ({'; '.join(self.widths)})",
                "They are left out, as the SDK's authors advise; download the sequence again if they are many.",
            ),
            ("no_fold", self.unfolded, "videos in no fold", "They are left out; the standard folds do not name them."),
            ("no_words", self.wordless, "label segments without a word", "They are left out, as the SDK does."),
        ):
            if names:
                yield Finding(kind, "note", f"{message} ({videos} videos in all)", len(names), tuple(names[:3]), advice)


def _write(
    files: Mapping[str, CsdFile], settings: CmuSdkSettings, folds: Mapping[str, list[str]], output: Path
) -> _Content:
    """Align and write video after video."""
    member = {video: fold for fold, videos in folds.items() for video in videos}
    modalities = [role for role in SEQUENCES if role in files]
    labels = files["labels"]
    videos = sorted(labels.videos)
    with StreamFolder.open(output) as folder:
        content = _Content(folder)
        held = [set(files[role].videos) for role in [*modalities, "labels"]]
        lacking = set().union(*held) - held[0].intersection(*held)
        prefixes = tuple(lacking)
        rare, content.widths = rarer_widths({role: files[role] for role in modalities}, lacking)
        writers: dict[str, RaggedWriter] = {}
        for video in tqdm(videos, desc=f"aligning {settings.name}", unit="video", disable=None):
            gone = video.startswith(prefixes) if settings.prefix_bug and prefixes else video in lacking
            if gone:
                content.incomplete.append(video)
            elif video in rare:
                content.other_width.append(video)
            elif video not in member:
                content.unfolded.append(video)
            else:
                entries = {role: files[role].read(video, numbers=True) for role in [*modalities, "labels"]}
                words = files["words"].read(video) if "words" in files and video in files["words"] else None
                average = settings.alignment == "average"
                for segment in segments_of(entries, words, average, settings.non_finite == "zero"):
                    _store(segment, video, member[video], content, writers, files, settings)
        if content.out_of_range:
            raise InputError(
                str(labels.path),
                [f"{len(content.out_of_range)} sentiment labels are NaN or outside [{settings.low:g}, "
                 f"{settings.high:g}], for example of {', '.join(content.out_of_range[:3])}"],
                "Set `low` and `high` to the range of this corpus.",
            )  # fmt: skip
    return content


def _store(
    segment: Segment, video: str, split: str, content: _Content, writers: dict[str, RaggedWriter],
    files: Mapping[str, CsdFile], settings: CmuSdkSettings,
) -> None:  # fmt: skip
    name = f"{as_identifier(video)}[{segment.number}]"
    if segment.features is None:
        content.wordless.append(name)
        return
    labels = np.asarray(segment.labels, dtype=float)
    if not settings.low - 1e-6 <= labels[0] <= settings.high + 1e-6:
        content.out_of_range.append(name)
    content.rows.append({
        "utterance_id": name, "corpus": settings.name, "split": split, "dialogue": as_identifier(video),
        "turn": segment.number, "start": max(0.0, segment.start), "end": segment.end, "text": spoken(segment.text),
        "language": settings.language, **dict(zip(LABEL_COLUMNS, map(float, labels), strict=False)),
    })  # fmt: skip
    for role, values in segment.features.items():
        if role not in writers:
            stream = SEQUENCES[role][0]
            writers[role] = content.folder.add(stream, values.shape[1], _provenance(role, files[role], settings))
        if values.shape[1] != writers[role].dimension:
            raise InputError(
                str(files[role].path),
                [f"video '{video}' has {values.shape[1]} columns, others {writers[role].dimension}"],
            )
        writers[role].append(name, values)


def _provenance(role: str, file: CsdFile, settings: CmuSdkSettings) -> Provenance:
    return Provenance(
        extractor="cmu_sdk", version=str(file.metadata.get("computational sequence version", "unknown")),
        parameters={"sequence": file.name, "alignment": settings.alignment, "non_finite": settings.non_finite},
        unit="word" if settings.alignment == "average" or role == "text" else "frame", alignment="corpus",
        licence="research use, as the corpus", recomputable=False,
        notes="Imported from the CMU Multimodal SDK; it cannot be recomputed from a recording.",
    )  # fmt: skip
