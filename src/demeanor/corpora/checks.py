"""The doctor's instruments: one function per thing that can be wrong with a corpus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.corpora.base import Corpus, Finding
from demeanor.corpora.paths import VIDEO_SUFFIXES, MediaFolder
from demeanor.data.media import HARMLESS, REMARKS, MediaProbe
from demeanor.data.ragged import Ragged
from demeanor.data.remote import RemoteFile, located
from demeanor.data.stream import Stream
from demeanor.data.table_on_disk import on_disk
from demeanor.data.utterances import cells, has_text, names_in

CHUNK_BYTES = 1 << 26
#: Characters per second of speech: (slowest, fastest) that still look like the transcript of the recording.
SPEEDS = {"zh": (0.5, 15.0), "ja": (0.5, 15.0), "ko": (0.5, 15.0)}
ALPHABET_SPEED = (1.0, 35.0)
SHORTEST_SECONDS = 0.1


def _why_not_there(root: Path, files: list[str], finder: MediaFolder, taken: Callable[[], frozenset[str]]) -> str:
    """Why one of the files of an utterance cannot be opened; empty if all are there."""
    for file in files:
        if RemoteFile.parse(file):
            continue  # whether it is there is seen when it is opened
        try:
            if not (root / file).is_file():
                return f"recording is missing{finder.hint(file, taken())}"
            if (root / file).stat().st_size == 0:
                return "recording is an empty file"
        except OSError as error:  # its folder is closed to this user, or the disk has a fault
            return f"recording cannot be opened ({error.strerror})"
    return ""


def media(corpus: Corpus, probes: Mapping[str, MediaProbe] | None) -> tuple[list[Finding], dict[str, str]]:
    """Findings about recordings, and the utterances that cannot be used because of theirs."""
    there = corpus.utterances["media"].notna()
    table = corpus.utterances if there.all() else on_disk(corpus.utterances, np.flatnonzero(there))
    unusable: dict[str, str] = {}
    finder = MediaFolder(corpus.root)
    taken = cache(lambda: frozenset(table["media"]))
    sounds: dict[str, str] = {}
    if "audio" in table:
        apart = table[table["audio"].notna()]
        sounds = dict(zip(apart["utterance_id"], apart["audio"], strict=True))
    concerned: dict[str, _Concerned] = defaultdict(_Concerned)
    for name, path in zip(names_in(table), cells(table["media"]), strict=True):
        probe = probes.get(name) if probes is not None else None
        place = located(corpus.root, path)
        reason = _why_not_there(corpus.root, [str(path), *([sounds[name]] if name in sounds else [])], finder, taken)
        if reason:
            unusable[name] = reason
        elif probe is not None and probe.error:
            unusable[name] = f"recording cannot be decoded ({probe.error})"
        elif probe is not None and not (probe.has_audio or probe.has_video):
            unusable[name] = "recording has neither sound nor picture"
        elif probe is not None:
            video = place.suffix.lower() in VIDEO_SUFFIXES
            seen = {
                "silent_audio": probe.silent and probe.has_audio,
                "no_face": probe.face is False and probe.has_video,
                "no_audio_track": not probe.has_audio and "audio" not in probe.broken,
                "no_video_track": video and not probe.has_video and "vision" not in probe.broken,
                "short_media": probe.duration is not None and probe.duration < SHORTEST_SECONDS,
            }
            for kind in (kind for kind, so in seen.items() if so):
                concerned[kind].add(name)
    findings = []
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, reason in unusable.items():
        reasons[reason.partition(" (")[0]].append(name)
    advice = "They are left out; put the files back or make them again from the source."
    for reason, names in reasons.items():
        kind = {"recording is missing": "missing_media"}.get(reason, "undecodable_media")
        told = [name + unusable[name].removeprefix(reason) for name in names] if kind == "missing_media" else names
        findings.append(Finding(kind, "error", reason, len(names), _three(told), advice))
    for kind, message, hint in (
        ("silent_audio", "the audio is silent", "Audio counts as absent there."),
        ("no_face", "no face was found", "Vision counts as absent there."),
        ("no_audio_track", "there is no audio track", "Audio counts as absent there."),
        ("no_video_track", "a video file without a picture", "Vision counts as absent there."),
        ("short_media", f"shorter than {SHORTEST_SECONDS} s", "Look whether they were cut wrongly."),
    ):
        if kind in concerned:
            found = concerned[kind]
            findings.append(Finding(kind, "warning", message, found.count, tuple(found.first), hint))
    return findings + _remarked(table, probes or {}), unusable


def _remarked(table: pd.DataFrame, probes: Mapping[str, MediaProbe]) -> list[Finding]:
    """What probing remarked: modalities that are broken, tracks that are not read, how the sound was put together."""
    concerned: dict[tuple[str, str, str, str], _Concerned] = defaultdict(_Concerned)
    for name in names_in(table):
        probe = probes.get(name, MediaProbe())
        for modality, reason in probe.broken.items():
            what = "sound" if modality == "audio" else "picture"
            advice = f"{modality} counts as absent there; the rest is used."
            concerned[f"broken_{modality}", "warning", f"the {what} cannot be decoded", advice].add(
                f"{name} ({reason})"
            )
        if probe.tracks:
            advice = "The default one is read, as players do; set the disposition of the others if it is the wrong one."
            concerned["several_tracks", "note", "there are further tracks, which are not read", advice].add(
                f"{name} ({', '.join(probe.tracks)})"
            )
        for remark in probe.remarks:
            message, advice = REMARKS[remark]
            concerned[remark, "note" if remark in HARMLESS else "warning", message, advice].add(name)
    return [
        Finding(kind, "note" if severity == "note" else "warning", message, found.count, tuple(found.first), advice)
        for (kind, severity, message, advice), found in concerned.items()
    ]


@dataclass
class _Concerned:
    """How many utterances, and the first three of them: a remark may concern a million."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.count += 1
        self.first += [name] if self.count <= 3 else []


def transcripts(
    table: pd.DataFrame, probes: Mapping[str, MediaProbe] | None, slowest: float | None, fastest: float | None
) -> list[Finding]:
    """Empty transcripts, and recordings far too short or long for what is said in them."""
    findings = []
    said = has_text(table)
    text = table["text"].fillna("").str.strip().where(said, "")
    empty = list(table.loc[~said, "utterance_id"])
    if empty:
        findings.append(
            Finding("no_text", "note" if len(empty) == len(table) else "warning", "there is no transcript",
                    len(empty), _three(empty), "Text counts as absent there.")
        )  # fmt: skip
    seconds = durations(table, probes)
    language = table["language"].mode().iloc[0] if len(table) else "en"
    low, high = SPEEDS.get(language, ALPHABET_SPEED)
    low, high = slowest or low, fastest or high
    speed = text.str.len() / seconds
    spoken = (text != "") & (seconds > 0)
    for kind, rows, message in (
        ("too_long", spoken & (speed < low), f"fewer than {low:g} characters per second"),
        ("too_short", spoken & (speed > high), f"more than {high:g} characters per second"),
    ):
        names = list(table.loc[rows, "utterance_id"])
        if names:
            findings.append(
                Finding(kind, "warning", f"the recording is {kind.replace('_', ' ')} for its transcript ({message})",
                        len(names), _three(names), "Listen to a few: text and recording may not belong together.")
            )  # fmt: skip
    return findings


def durations(table: pd.DataFrame, probes: Mapping[str, MediaProbe] | None) -> pd.Series:
    """Seconds of each utterance: its span, or what probing gave; NaN where neither is known."""
    seconds = (table["end"] - table["start"]).astype(float)
    if probes is None:
        return seconds
    lengths = (probes[name].duration if name in probes else None for name in names_in(table))
    probed = np.fromiter((np.nan if length is None else length for length in lengths), float, len(table))
    return seconds.fillna(probed - table["start"])


def streams(found: Mapping[str, Stream], table: pd.DataFrame) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """Facts of each stream, and findings: NaN, infinities, columns that never change, utterances without a step."""
    facts: dict[str, dict[str, Any]] = {}
    findings = []
    for name, stream in found.items():
        ragged = stream.ragged
        if len(ragged.offsets) - 1 != len(ragged):  # a selection: its values hold other utterances as well
            ragged = Ragged.from_sequences(dict(zip(ragged.ids, ragged, strict=True)), ragged.dimension)
        lengths = ragged.lengths
        empty = [key for key, length in zip(ragged.ids, lengths, strict=True) if length == 0]
        facts[name] = {
            "steps": int(lengths.sum()), "columns": ragged.dimension, "empty": len(empty),
            "longest": int(lengths.max(initial=0)), "recomputable": stream.provenance.recomputable,
        }  # fmt: skip
        if empty:
            findings.append(
                Finding("empty_sequences", "warning", f"{name} has no step", len(empty), _three(empty),
                        "The modality counts as absent there.")
            )  # fmt: skip
        findings += _columns(name, ragged)
    return facts, findings


def _columns(name: str, ragged: Ragged) -> list[Finding]:
    findings = []
    low = np.full(ragged.dimension, np.inf)
    high = np.full(ragged.dimension, -np.inf)
    infinite = np.zeros(ragged.dimension, dtype=np.int64)
    bad_rows: list[np.ndarray] = []
    for start, values in _chunks(ragged):
        finite = np.isfinite(values)
        if not finite.all():
            infinite += (~finite).sum(axis=0)
            bad_rows.append(start + np.flatnonzero(~finite.all(axis=1)))
            known = np.where(finite, values, np.nan)
            low = np.fmin(low, np.fmin.reduce(known, axis=0))
            high = np.fmax(high, np.fmax.reduce(known, axis=0))
        else:
            low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    if bad_rows:
        owners = np.searchsorted(ragged.offsets, np.concatenate(bad_rows), side="right") - 1
        names = [ragged.ids[n] for n in np.unique(owners) if n < len(ragged.ids)]
        findings.append(
            Finding("not_finite", "error",
                    f"{name} has {int(infinite.sum())} values that are NaN or infinite, in {(infinite > 0).sum()} "
                    f"of {ragged.dimension} columns", len(names), _three(names),
                    "Set the reader's `non_finite: zero`, or repair the source.")
        )  # fmt: skip
    flat = np.flatnonzero(high <= low) if len(ragged.values) > 1 else np.zeros(0, dtype=int)
    if len(flat):
        findings.append(
            Finding("zero_variance", "warning", f"{name} has columns that never change", len(flat),
                    tuple(f"column {n}" for n in flat[:3]), "They carry nothing; a broken extractor shows like this.")
        )  # fmt: skip
    return findings


def _chunks(ragged: Ragged) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, values) in pieces of some 64 MB.

    A memory-mapped array is read from its file instead: pages of a map that was walked through count as this
    process's memory, and a corpus may be larger than that.
    """
    values = ragged.values
    rows = max(1, CHUNK_BYTES // max(1, values.itemsize * max(1, values.shape[1])))
    source = values.filename if isinstance(values, np.memmap) else None
    for start in range(0, len(values), rows):
        stop = min(start + rows, len(values))
        if source is not None and isinstance(values, np.memmap):
            offset = values.offset + start * values.shape[1] * values.itemsize
            count = (stop - start) * values.shape[1]
            yield start, np.fromfile(source, values.dtype, count, offset=offset).reshape(stop - start, -1)
        else:
            yield start, np.asarray(values[start:stop])


def _three(names: list[str]) -> tuple[str, ...]:
    return tuple(names[:3])
