"""The columns of an MMSA pickle, checked: every problem of the file is found before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from demeanor.corpora.base import Finding
from demeanor.corpora.imported import as_numbers, as_strings
from demeanor.corpora.paths import why_unsafe_name
from demeanor.data.errors import InputError, nearest

TRIPLE = 3
LARGEST_TOKEN = 1 << 24
"""ids up to here survive being stored as float32, as CH-SIMS's are"""
SPLITS = ("train", "valid", "test")
LABELS = {
    "regression_labels": "sentiment", "regression_labels_T": "sentiment_text",
    "regression_labels_A": "sentiment_audio", "regression_labels_V": "sentiment_vision",
}  # fmt: skip
MODALITIES = ("text_bert", "text", "audio", "vision")


@dataclass
class Part:
    """One split: names (video, clip), labels [N] by column, arrays [N, T, D] (text_bert [N, 3, L]), lengths [N]."""

    names: list[tuple[str, str]]
    raw_text: list[str] = field(default_factory=list)
    annotations: list[str] = field(default_factory=list)
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    lengths: dict[str, np.ndarray | None] = field(default_factory=dict)
    unaligned: bool = False


@dataclass
class Columns:
    """splits: by name; widths: columns per step of each modality; aligned: no lengths of its own for audio, vision."""

    splits: dict[str, Part]
    widths: dict[str, int]
    aligned: bool


def read_columns(content: Any, where: str, low: float, high: float) -> tuple[Columns, list[Finding]]:
    """Check the content of the pickle; InputError with all problems, or its columns and what is odd about them."""
    problems: list[str] = []
    findings: list[Finding] = []
    if not isinstance(content, dict):
        raise InputError(where, [f"holds a {type(content).__name__} instead of a dict with train, valid and test"])
    names = {split: next((key for key in (split, _other(split)) if key in content), None) for split in SPLITS}
    for split, key in names.items():
        if key is None:
            problems.append(f"there is no split '{split}'.{nearest(split, [str(key) for key in content])}")
        elif not isinstance(content[key], dict):
            problems.append(f"split '{split}' is a {type(content[key]).__name__} instead of a dict of columns")
    if problems:
        raise InputError(where, problems)
    parts = {split: _part(content[key], split, problems, findings, (low, high)) for split, key in names.items()}
    shown = {split: set(part.arrays) for split, part in parts.items()}
    if not problems and len({frozenset(keys) for keys in shown.values()}) > 1:
        problems.append(f"the splits hold different features: { {key: sorted(value) for key, value in shown.items()} }")
    widths: dict[str, int] = {}
    for key in MODALITIES:
        width_of_split = {split: part.arrays[key].shape[-1] for split, part in parts.items() if key in part.arrays}
        if width_of_split and key != "text_bert" and len(set(width_of_split.values())) > 1:
            problems.append(f"'{key}' has a different number of columns by split: {width_of_split}")
        if width_of_split:
            widths[key] = next(iter(width_of_split.values()))
    if not widths and not problems:
        problems.append("there is no feature: none of text, text_bert, audio, vision")
    counted = Counter(name for part in parts.values() for name in part.names)
    repeated = [name for name, count in counted.items() if count > 1]
    if repeated:
        problems.append(f"{len(repeated)} ids stand more than once, for example {'_'.join(repeated[0])}")
    if problems:
        raise InputError(where, problems, "docs/corpora.md lists the columns of an MMSA file.")
    return Columns(parts, widths, not any(part.unaligned for part in parts.values())), findings


def _other(split: str) -> str:
    return "dev" if split == "valid" else split


def _part(
    columns: dict[Any, Any], split: str, problems: list[str], findings: list[Finding], bounds: tuple[float, float]
) -> Part:
    """One split; its problems are added to the list and what is left of it is returned."""

    def attempt(key: str, read: Callable[[Any, str], Any], default: Any = None) -> Any:
        if key not in columns:
            return default
        try:
            return read(columns[key], f"{split}/{key}")
        except InputError as error:
            problems.extend(f"{error.where}: {problem}" for problem in error.problems)
            return default

    part = Part([])
    for key in ("id", "regression_labels"):
        if key not in columns:
            problems.append(f"{split}: there is no column '{key}'.{nearest(key, [str(name) for name in columns])}")
    ids = attempt("id", as_strings, [])
    part.names = [_name(text) for text in ids]
    unsafe = [text for text, (video, clip) in zip(ids, part.names, strict=True) if why_unsafe_name(video + clip)]
    if unsafe:
        problems.append(f"{split}/id: {len(unsafe)} ids are no names, for example {unsafe[0][:60]!r}")
    for key in MODALITIES:
        array = attempt(key, as_numbers)
        if array is not None:
            part.arrays[key] = _shaped(array, key, split, problems, findings)
    for key, column in LABELS.items():
        values = attempt(key, as_numbers)
        if values is not None:
            part.labels[column] = _labels(values, f"{split}/{key}", bounds, problems)
    part.raw_text = attempt("raw_text", as_strings, [])
    part.annotations = attempt("annotations", as_strings, [])
    part.unaligned = "audio_lengths" in columns or "vision_lengths" in columns
    sizes = {"id": len(part.names)}
    sizes |= {key: len(getattr(part, key)) for key in ("raw_text", "annotations") if key in columns}
    sizes |= {key: len(array) for key, array in part.arrays.items()}
    sizes |= {name: len(values) for name, values in part.labels.items()}
    if len(set(sizes.values())) > 1:
        problems.append(f"{split}: the columns differ in length: {sizes}")
    else:
        _find_lengths(part, columns, split, problems, findings)
    return part


def _name(text: str) -> tuple[str, str]:
    """(video, clip) of `video$_$clip` or `video_clip`."""
    if "$_$" in text:
        video, clip = text.split("$_$", 1)
    else:
        video, _, clip = text.rpartition("_")
    return (video, clip) if video else (text, "")


def _shaped(array: np.ndarray, key: str, split: str, problems: list[str], findings: list[Finding]) -> np.ndarray:
    """[N, T, D], or [N, 3, L] for text_bert, whichever way round its maker stored it (MMSA issues 22 and 23)."""
    if array.ndim == 2 and key != "text_bert":
        array = array[:, None, :]  # one vector per utterance
    if array.ndim != 3 or 0 in array.shape[1:]:
        problems.append(f"{split}/{key}: expected [utterances, steps, columns], found shape {array.shape}")
        return np.zeros((len(array) if array.ndim else 0, 3, 1), dtype=np.float32)
    if key == "text_bert" and array.shape[1] != TRIPLE:
        if array.shape[2] != TRIPLE:
            problems.append(f"{split}/{key}: expected [utterances, 3, length], found shape {array.shape}")
        else:
            array = array.transpose(0, 2, 1)
            findings.append(
                Finding("turned_tokens", "note", f"{split}/{key} is stored as [utterances, length, 3]; it was turned")
            )
    if key == "text_bert" and array.shape[1] == TRIPLE:
        ids = np.asarray(array[:, 0])
        with np.errstate(invalid="ignore"):
            wrong = ~((ids >= 0) & (ids < LARGEST_TOKEN) & (ids == np.floor(ids)))
        if wrong.any():
            problems.append(f"{split}/{key}: {int(wrong.sum())} token ids are negative, not whole or not finite")
        mask = np.asarray(array[:, 1])
        strange = int(((mask != 0) & (mask != 1)).sum())
        if strange:
            problems.append(
                f"{split}/{key}: {strange} values of the attention mask are neither 0 nor 1; its three rows are ids, "
                "mask and segments, in this order"
            )
    return array


def _labels(values: np.ndarray, where: str, bounds: tuple[float, float], problems: list[str]) -> np.ndarray:
    count = len(values) if values.ndim else 1
    if values.size != count:
        problems.append(f"{where}: expected one label per utterance, found shape {values.shape}")
        return np.zeros(count)
    flat = np.asarray(values, dtype=np.float64).reshape(count)
    low, high = bounds
    missing = np.flatnonzero(np.isnan(flat))
    outside = np.flatnonzero((flat < low - 1e-6) | (flat > high + 1e-6))
    if len(missing):
        problems.append(f"{where}: {len(missing)} labels are NaN, the first is number {missing[0]}")
    if len(outside):
        problems.append(
            f"{where}: {len(outside)} labels are outside [{low:g}, {high:g}], the first is number {outside[0]} with "
            f"{flat[outside[0]]:g}; set `low` and `high` to the range of this corpus"
        )
    return flat


def _find_lengths(
    part: Part, columns: dict[Any, Any], split: str, problems: list[str], findings: list[Finding]
) -> None:
    """True lengths: their own column, else the text's (aligned files), else up to the last row that is not zero."""
    count = len(part.names)
    text = None
    if "text_bert" in part.arrays:
        text = np.array([int((mask > 0).sum()) for mask in part.arrays["text_bert"][:, 1]], dtype=np.int64)
    for key, array in part.arrays.items():
        own = columns.get(f"{key}_lengths")
        steps = array.shape[1]
        if key == "text_bert":
            part.lengths[key] = text
        elif own is not None:
            part.lengths[key] = _own_lengths(own, f"{split}/{key}_lengths", count, steps, problems, findings)
        elif text is not None:
            part.lengths[key] = np.minimum(text, steps)
        else:
            part.lengths[key] = np.array([_last_row(values) for values in array], dtype=np.int64)


def _own_lengths(
    own: Any, where: str, count: int, steps: int, problems: list[str], findings: list[Finding]
) -> np.ndarray | None:
    try:
        values = as_numbers(own, where).astype(np.float64).reshape(-1)
    except InputError as error:
        problems.extend(f"{where}: {problem}" for problem in error.problems)
        return None
    if len(values) != count:
        problems.append(f"{where}: {len(values)} lengths for {count} utterances")
        return None
    if not np.isfinite(values).all() or (values < 0).any() or (values % 1 != 0).any():
        problems.append(f"{where}: a length is negative, not whole or not finite")
        return None
    long = int((values > steps).sum())
    if long:
        findings.append(
            Finding("long_lengths", "warning", f"{where}: {long} lengths exceed the {steps} steps that are stored",
                    long, advice="They were cut to what is there; MMSA's own models would stop with an error.")
        )  # fmt: skip
    return np.minimum(values, steps).astype(np.int64)


def _last_row(values: np.ndarray) -> int:
    filled = np.flatnonzero((values != 0).any(axis=1))
    return int(filled[-1]) + 1 if len(filled) else 0
