"""Multilogue-Net's dialogue pickles: a 9-tuple of utterance-level features.

docs/systems/multilogue_net.md#data: ids, speakers, labels, text, audio and visual features,
sentences (each a dict by video), then the lists of training and test videos. Stored by Python 2.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from demeanor.corpora.base import Card, Corpus, Finding, Reader, ReaderSettings
from demeanor.corpora.imported import StreamFolder, as_numbers, as_strings, to_float32
from demeanor.corpora.paths import as_identifier, why_unsafe_name
from demeanor.corpora.safe_pickle import load
from demeanor.data.errors import InputError
from demeanor.data.provenance import Provenance
from demeanor.data.utterances import make_table

PARTS = ("ID", "speakers", "labels", "text_feat", "audio_feat", "visual_feat", "sentence_in_text", "train", "test")
SPEAKERS, LABELS, TEXT, AUDIO, VISION, SENTENCES, TRAIN, TEST = range(1, 9)
#: Number in the tuple -> stream and the width that was published.
STREAMS = {TEXT: ("text.sentence", 300), AUDIO: ("audio.functionals", 384), VISION: ("vision.functionals", 35)}
EMOTIONS = ("anger", "happiness", "sadness", "disgust", "fear", "surprise")


class MultiloguePickleSettings(ReaderSettings):
    """
    target     what the labels of this file are: "sentiment" in [low, high], "polarity" (0 negative, 1 not negative),
               or one of six emotions, present (1) or not (0); each of these was published as a file of its own
    low, high  range of a sentiment
    """

    name: str = "multilogue"
    target: Literal["sentiment", "polarity", "anger", "happiness", "sadness", "disgust", "fear", "surprise"] = (
        "sentiment"
    )
    low: float = -3.0
    high: float = 3.0


class MultiloguePickleReader(Reader):
    """Gives the labels as `sentiment`, `polarity`, or `emotion_<name>`; there is no validation part (use `split`)."""

    settings_type = MultiloguePickleSettings

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        from demeanor.corpora.guessing import holds_a_tuple, the_pickle

        file = the_pickle(path)
        return {"path": file} if file is not None and holds_a_tuple(file) else None

    def read(self, settings: MultiloguePickleSettings, output: Path) -> Corpus:
        content, where = load(settings.path).content, str(settings.path)
        parts = _checked(content, where)
        problems: list[str] = []
        splits = dict.fromkeys(parts[TRAIN], "train") | dict.fromkeys(parts[TEST], "test")
        shared = set(parts[TRAIN]) & set(parts[TEST])
        if shared:
            problems.append(f"{len(shared)} videos stand in train and test, for example {min(shared)}")
        rows: list[dict[str, Any]] = []
        for video, split in splits.items():
            rows += _dialogue(video, split, parts, settings, problems)
        problems += _widths(parts, splits)
        if problems:
            raise InputError(where, problems)
        table = make_table(rows, where)
        with StreamFolder.open(output) as folder:
            for number, (name, _) in STREAMS.items():
                width = parts[number][next(iter(splits))].shape[1]
                writer = folder.add(name, width, _provenance(number))
                for video in splits:
                    for turn, vector in enumerate(parts[number][video]):
                        writer.append(f"{as_identifier(video)}_{turn}", to_float32(vector[None]))
        findings = [
            Finding("no_valid", "note", "the file has no validation part; the published scores chose epochs on test",
                    advice="Give `split: {scheme: hold_out}`, which holds whole dialogues of train out.")
        ]  # fmt: skip
        other = [
            f"{name} has {folder.streams[name].dimension} columns instead of {width}"
            for name, width in STREAMS.values() if folder.streams[name].dimension != width
        ]  # fmt: skip
        if other:
            findings.append(Finding("other_file", "note", "; ".join(other), len(other)))
        return Corpus(settings.name, table, settings.path.parent, Card("Multilogue-Net's features of CMU-MOSEI",
                      "research use, as CMU-MOSEI"), folder.streams, tuple(findings))  # fmt: skip


def _checked(content: Any, where: str) -> list[Any]:
    """The nine parts with features as arrays; InputError with everything that is wrong with their form."""
    if not isinstance(content, (tuple, list)) or len(content) != len(PARTS):
        size = f"{len(content)} parts" if isinstance(content, (tuple, list)) else type(content).__name__
        raise InputError(where, [f"expected a tuple of {len(PARTS)} parts ({', '.join(PARTS)}), found {size}"])
    parts: list[Any] = list(content)
    problems: list[str] = []

    def attempt(number: int, read: Callable[[Any, str], Any], value: Any, what: str) -> Any:
        try:
            return read(value, what)
        except InputError as error:
            problems.extend(f"{error.where}: {problem}" for problem in error.problems)
            return None

    for number in (TRAIN, TEST):
        parts[number] = attempt(number, as_strings, parts[number], PARTS[number]) or []
        for video in parts[number]:
            reason = why_unsafe_name(video)
            if reason:
                problems.append(f"{PARTS[number]}: video '{video[:60]}' {reason}")
    videos = [*parts[TRAIN], *parts[TEST]]
    for number in (SPEAKERS, LABELS, TEXT, AUDIO, VISION, SENTENCES):
        if not isinstance(parts[number], dict):
            problems.append(f"{PARTS[number]} is a {type(parts[number]).__name__} instead of a dict by video")
            continue
        missing = [video for video in videos if video not in parts[number]]
        if missing:
            problems.append(f"{PARTS[number]} lacks {len(missing)} videos, for example {missing[0]}")
            continue
        if number in STREAMS:
            name = PARTS[number]
            parts[number] = {v: attempt(number, as_numbers, parts[number][v], f"{name}/{v}") for v in videos}
    if not parts[TRAIN] or not parts[TEST]:
        problems.append("train or test names no video")
    if problems:
        raise InputError(where, problems)
    return parts


def _widths(parts: list[Any], splits: dict[str, str]) -> list[str]:
    by_split = []
    for number in STREAMS:
        widths = {parts[number][video].shape[1] for video in splits if parts[number][video].ndim == 2}
        if len(widths) > 1:
            by_split.append(f"{PARTS[number]} has videos of different width: {sorted(widths)}")
    return by_split


def _dialogue(
    video: str, split: str, parts: list[Any], settings: MultiloguePickleSettings, problems: list[str]
) -> list[dict[str, Any]]:
    features = {PARTS[number]: parts[number][video] for number in STREAMS}
    flat = [name for name, values in features.items() if values.ndim != 2]
    if flat:
        problems.append(f"{video}: {', '.join(flat)} must be [utterances, columns]")
        return []
    try:
        speakers = as_strings(parts[SPEAKERS][video], f"speakers/{video}")
        sentences = as_strings(parts[SENTENCES][video], f"sentence_in_text/{video}")
        labels = as_numbers(parts[LABELS][video], f"labels/{video}").astype(float).reshape(-1)
    except InputError as error:
        problems += [f"{error.where}: {problem}" for problem in error.problems]
        return []
    counts = {name: len(values) for name, values in features.items()}
    counts |= {"speakers": len(speakers), "labels": len(labels), "sentences": len(sentences)}
    if len(set(counts.values())) > 1:
        problems.append(f"{video}: the parts differ in length: {counts}")
        return []
    problem = _label_problem(labels, settings)
    if problem:
        problems.append(f"labels/{video}: {problem}")
        return []
    dialogue = as_identifier(video)
    return [
        {"utterance_id": f"{dialogue}_{turn}", "corpus": settings.name, "split": split, "dialogue": dialogue,
         "turn": turn, "speaker": speakers[turn], "text": repair_python2(sentences[turn]) or None,
         "language": settings.language, **_label(float(labels[turn]), settings.target)}
        for turn in range(len(labels))
    ]  # fmt: skip


def _label_problem(labels: np.ndarray, settings: MultiloguePickleSettings) -> str | None:
    if not np.isfinite(labels).all():
        return f"{int((~np.isfinite(labels)).sum())} labels are NaN or infinite"
    if settings.target == "sentiment":
        outside = (labels < settings.low - 1e-6) | (labels > settings.high + 1e-6)
        return (
            f"{int(outside.sum())} labels are outside [{settings.low:g}, {settings.high:g}]" if outside.any() else None
        )
    other = ~np.isin(labels, (0, 1))
    return f"{int(other.sum())} labels are neither 0 nor 1; is this a file for sentiment?" if other.any() else None


def _label(value: float, target: str) -> dict[str, Any]:
    if target == "sentiment":
        return {"sentiment": value}
    if target == "polarity":
        return {"polarity": "positive" if value else "negative"}
    return {f"emotion_{target}": value}


def repair_python2(text: str) -> str:
    """Text of Python 2 is read as latin-1; what was UTF-8 becomes itself again."""
    with suppress(UnicodeError):
        return text.encode("latin-1").decode("utf-8")
    return text


def _provenance(number: int) -> Provenance:
    return Provenance(
        extractor="multilogue_pickle", version="1", parameters={"part": PARTS[number]}, unit="utterance",
        licence="research use, as the corpus", recomputable=False,
        notes="Imported; how utterances were pooled was not published.",
    )  # fmt: skip
