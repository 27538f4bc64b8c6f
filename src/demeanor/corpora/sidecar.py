"""`sidecar.json` beside `label.csv`: what the table has no column for.

Speaker, turn, emotion and word times, by utterance. Demeanor's demo corpus comes with one, and any corpus in the same
layout may:

    {"utterances": {"video_clip": {"speaker": "s01", "turn": 0, "emotion": "joy",
                                   "words": [["hello", 0.10, 0.42], ...]}}}

Other keys of an utterance are left alone; a list of objects that each have a `video_id` and `clip_id` does as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.corpora.paths import as_identifier
from demeanor.data.errors import InputError
from demeanor.data.files import parse_json
from demeanor.data.names import Index
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.texts import read_text

COLUMNS = ("speaker", "turn", "emotion", "dialogue", "start", "end")
CELLS = 3


@dataclass(frozen=True)
class Sidecar:
    """entries: utterance id -> columns for the table; words: utterance id -> [W, 2] seconds, start and end."""

    entries: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    words: Mapping[str, np.ndarray] = field(default_factory=dict)

    def columns(self, utterance_id: str) -> dict[str, Any]:
        """What the file says of one utterance, by column; empty if it says nothing."""
        return self.entries.get(utterance_id, {})


def read_sidecar(path: Path, clips: pd.DataFrame, corpus: str) -> Sidecar:
    """The sidecar at `path`, or an empty one if there is none; InputError that lists what cannot be used."""
    if not path.exists():
        return Sidecar()
    content = parse_json(read_text(path).content, str(path))
    entries: dict[str, dict[str, Any]] = {}
    words: dict[str, np.ndarray] = {}
    problems: list[str] = []
    known = Index(clips["utterance_id"])
    for name, entry in _entries(content):
        if not isinstance(entry, dict):
            problems.append(f"'{name}': expected an object, found {type(entry).__name__}")
            continue
        meant = known.matching(name)
        if len(meant) != 1:
            continue
        name = meant[0]  # noqa: PLW2901 - by the table's spelling from here on
        entries[name] = {key: entry[key] for key in COLUMNS if entry.get(key) is not None}
        if "words" in entry:
            times, problem = _times(entry["words"])
            if problem:
                problems.append(f"'{name}': {problem}")
            else:
                words[name] = times
    turns = sum("turn" in entry for entry in entries.values())
    if 0 < turns < len(known.names):
        problems.append(f"a turn is given for {turns} of {len(known.names)} utterances: give it for all or for none")
    if problems:
        raise InputError(str(path), problems)
    return Sidecar(entries, words)


def _entries(content: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(content, dict):
        content = content.get("utterances", content)
    if isinstance(content, dict):
        return ((as_identifier(str(name)), entry) for name, entry in content.items())
    if isinstance(content, list):
        return ((_name_of(entry), entry) for entry in content)
    return ()


def _name_of(entry: Any) -> str:
    if not isinstance(entry, dict):
        return "?"
    name = entry.get("utterance_id", f"{entry.get('video_id')}_{entry.get('clip_id')}")
    return as_identifier(str(name))


def _times(words: Any) -> tuple[np.ndarray, str | None]:
    """[W, 2] float32 from [[word, start, end], ...] or [{"start": ..., "end": ...}, ...], or what is wrong."""
    empty = np.zeros((0, 2), dtype=np.float32)
    if not isinstance(words, list):
        return empty, "words must be a list"
    try:
        pairs = [
            (float(word["start"]), float(word["end"])) if isinstance(word, dict)
            else (float(word[len(word) - 2]), float(word[len(word) - 1]))
            for word in words
        ]  # fmt: skip
    except (KeyError, IndexError, TypeError, ValueError):
        return empty, "every word needs a start and an end in seconds"
    times = np.array(pairs, dtype=np.float32).reshape(len(pairs), 2)
    if not np.isfinite(times).all() or (times < 0).any() or (times[:, 1] < times[:, 0]).any():
        return empty, "word times must be finite, not negative, and end after they start"
    return times, None


def word_times(ids: Iterable[str], words: Mapping[str, np.ndarray]) -> Stream:
    """Stream `text.word_times`, [W, 2] seconds from the start of the clip; no steps where the corpus has none."""
    ragged = Ragged.from_sequences({name: words.get(name, np.zeros((0, 2), np.float32)) for name in ids}, 2)
    provenance = Provenance(
        extractor="corpus word times", version="1", unit="word", alignment="corpus", recomputable=False,
        licence="that of the corpus", parameters={"columns": ["start", "end"], "measured_in": "seconds"},
    )  # fmt: skip
    return Stream("text.word_times", ragged, provenance)
