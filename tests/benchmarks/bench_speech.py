"""Whisper base's encoder padded to thirty seconds and as long as the sound, and its words on the demo's voices.

    python -m tests.benchmarks.bench_speech [--ravdess FOLDER] [--demo FOLDER] [--cache FOLDER] [--only words passes]

writes docs/benchmarks/speech.md and .json; what is not measured again stays as it was, with its own revision.

Passes. Sounds of some four seconds: one clip of each RAVDESS speaker and emotion (first statement, first repetition,
normal intensity); UAR of a logistic regression on mean and deviation of the average of layers 3 to 6 over what is
spoken, four folds of speakers (those of ravdess_voice.py), strength chosen within the training speakers. Sounds of
thirty seconds: clips joined; there nothing is left to pad, so the two are compared value by value. Times are processor
seconds of one thread. Words: synthetic sentences of the demo (espeak) that have a voice, by the mood it was given.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demeanor.data.files import read_json, write_json
from demeanor.evaluation.environment import code_revision
from demeanor.evaluation.tables import aligned

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "benchmarks" / "speech.md"
MODEL = {"model": "whisper-base", "layers": [3, 4, 5, 6]}
TIMED, LONG, SENTENCES = 8, 4, 80
ERRORS = ("substituted", "left out", "put in")


def chosen(ravdess: Path) -> list[Path]:
    """One file for each speaker and emotion."""
    return sorted(ravdess.glob("Actor_*/03-01-*-01-01-01-*.*"))


def statistics(paths: Sequence[Path], padded: bool, cache: Path) -> dict[str, np.ndarray]:
    """[1024] of each clip."""
    from demeanor.features.base import Clip
    from demeanor.features.engine import StreamRequest, extract_streams

    request = StreamRequest(extractor="hf_speech_statistics", parameters={**MODEL, "padded": padded})
    clips = [Clip(path.stem, media=path) for path in paths]
    name = f"audio.{'padded' if padded else 'cut'}"
    streams, _ = extract_streams(clips, {name: request}, cache, cache / "streams", workers=1)
    ragged = streams[name].ragged
    return {path.stem: np.array(ragged[path.stem][0]) for path in paths if len(ragged[path.stem])}


def probe(values: np.ndarray, labels: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """[N] answers: each clip's by a probe of the folds that lack its speaker."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    answers = np.full(len(labels), -1)
    for fold in np.array_split(np.random.default_rng(0).permutation(np.unique(speakers)), 4):
        held = np.isin(speakers, fold)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        strengths = {"logisticregression__C": [1e-3, 1e-2, 1e-1]}
        search = GridSearchCV(model, strengths, scoring="recall_macro", cv=GroupKFold(3))
        search.fit(values[~held], labels[~held], groups=speakers[~held])
        answers[held] = search.predict(values[held])
    return answers


def passes(ravdess: Path, cache: Path) -> dict[str, Any]:
    """Seconds per sound of both passes at both lengths, answers of the probes, and how far the long ones are apart."""
    import torch

    from demeanor.features.base import SAMPLE_RATE, Clip
    from demeanor.features.speech_statistics import SpeechStatistics, StatisticsSettings

    torch.set_num_threads(1)
    paths = chosen(ravdess)
    found: dict[str, Any] = {"clips": [path.stem for path in paths], "answers": {}, "seconds": {}}
    sounds = [Clip(path.stem, media=path).without_cache().audible for path in paths]
    known = [sound for sound in sounds if sound is not None]
    joined = np.concatenate(known)
    size = 30 * SAMPLE_RATE
    lengths = {"4 s": known[:TIMED], "30 s": [joined[n * size : (n + 1) * size] for n in range(LONG)]}
    states: dict[tuple[str, bool], list[np.ndarray]] = {}
    for padded in (True, False):
        extractor = SpeechStatistics(StatisticsSettings(**MODEL, padded=padded))
        extractor._states(known[:1])  # loads
        for length, given in lengths.items():
            began = time.process_time()
            states[length, padded] = extractor._states(given)
            found["seconds"][f"{length}, {padded}"] = (time.process_time() - began) / len(given)
    pairs = zip(states["30 s", True], states["30 s", False], strict=True)
    found["apart"] = max(float(np.abs(a - b).max()) for a, b in pairs)
    found["seconds_of_sound"] = float(np.mean([len(sound) for sound in known[:TIMED]])) / SAMPLE_RATE
    fields = np.array([[int(value) for value in path.stem.split("-")] for path in paths])
    for padded in (True, False):
        values = statistics(paths, padded, cache)
        x = np.stack([values[path.stem] for path in paths])
        found["answers"][str(padded)] = probe(x, fields[:, 2], fields[:, 6]).tolist()
    found |= {"labels": fields[:, 2].tolist(), "speakers": fields[:, 6].tolist()}
    return found


def spoken(text: str) -> list[str]:
    """Words without case and punctuation."""
    bare = ("".join(letter for letter in word if letter.isalnum()) for word in text.lower().replace("-", " ").split())
    return [word for word in bare if word]


def word_errors(said: Sequence[str], heard: Sequence[str]) -> tuple[int, int, int]:
    """Words substituted, left out and put in, of the fewest changes that make one out of the other."""
    row = [(n, (0, 0, n)) for n in range(len(heard) + 1)]
    for n, word in enumerate(said, 1):
        before, row[0] = row[0], (n, (0, n, 0))
        for m, other in enumerate(heard, 1):
            (kept, changed), (dropped, lacking), (added, more) = before, row[m], row[m - 1]
            before = row[m]
            row[m] = min(
                (kept + (word != other), (changed[0] + (word != other), *changed[1:])),
                (dropped + 1, (lacking[0], lacking[1] + 1, lacking[2])),
                (added + 1, (*more[:2], more[2] + 1)),
            )
    return row[-1][1]


def words(demo: Path) -> dict[str, Any]:
    """Errors, number of words and mood of the voice of every n-th sentence of the demo, and processor seconds each."""
    import pandas as pd

    from demeanor.features.base import Clip
    from demeanor.features.recognition import RecognitionSettings, transcribe

    truth = json.loads((demo / "sidecar.json").read_text(encoding="utf-8"))["utterances"]
    table = pd.read_csv(demo / "label.csv", dtype=str)
    table.index = pd.Index(table["video_id"] + "_" + table["clip_id"])
    table = table[["audio" not in truth[name]["missing"] for name in table.index]]
    table = table.iloc[:: max(1, len(table) // SENTENCES)].head(SENTENCES)
    places = [demo / "Raw" / row.video_id / f"{row.clip_id}.mp4" for row in table.itertuples()]
    clips = [Clip(name, media=path) for name, path in zip(table.index, places, strict=True)]
    settings = RecognitionSettings(model="whisper-base")
    transcribe(clips[:1], settings)  # loads
    began = time.process_time()
    heard = transcribe(clips, settings)
    seconds = (time.process_time() - began) / len(clips)
    said = [spoken(text) for text in table["text"]]
    errors = [word_errors(one, spoken(answer.text or "")) for one, answer in zip(said, heard, strict=True)]
    moods = [truth[name]["views"]["audio"]["emotion"] for name in table.index]
    return {"errors": errors, "words": [len(one) for one in said], "moods": moods, "seconds": seconds}


def drawn(units: np.ndarray, value: Any) -> tuple[float, float]:
    """95 % interval of value(rows), with `units` [N] resampled."""
    members = [np.flatnonzero(units == one) for one in np.unique(units)]
    generator = np.random.default_rng(0)
    resamples = (generator.integers(0, len(members), len(members)) for _ in range(2000))
    low, high = np.quantile([value(np.concatenate([members[n] for n in one])) for one in resamples], [0.025, 0.975])
    return float(low), float(high)


def page(facts: dict[str, Any]) -> str:
    lines = ["# Whisper base: its passes, its words", "", "Made by `python -m tests.benchmarks.bench_speech`.", ""]
    parts = [part(facts[name]) for name, part in (("passes", passes_of), ("words", words_of)) if name in facts]
    return "\n".join([*lines, *(line for part in parts for line in part)])


def passes_of(facts: dict[str, Any]) -> list[str]:
    labels, speakers = np.array(facts["labels"]), np.array(facts["speakers"])
    right = {padded: np.array(facts["answers"][str(padded)]) == labels for padded in (True, False)}

    def recall(hits: np.ndarray, rows: np.ndarray) -> float:
        return float(np.mean([hits[rows][labels[rows] == one].mean() for one in np.unique(labels[rows])]))

    every = np.arange(len(labels))
    body = []
    for length in ("4 s", "30 s"):
        for padded in (True, False):
            uar, bounds = "the same states", ""
            if length == "4 s":
                low, high = drawn(speakers, lambda rows, hits=right[padded]: recall(hits, rows))
                uar, bounds = f"{recall(right[padded], every):.3f}", f"[{low:.3f}, {high:.3f}]"
            name = "padded to 30 s" if padded else "as long as the sound"
            body.append([length, name, f"{facts['seconds'][f'{length}, {padded}']:.2f}", uar, bounds])
    difference = recall(right[False], every) - recall(right[True], every)
    low, high = drawn(speakers, lambda rows: recall(right[False], rows) - recall(right[True], rows))
    ratio = facts["seconds"]["4 s, True"] / facts["seconds"]["4 s, False"]
    verdict = "the score does not tell them apart" if low <= 0 <= high else "the scores differ"
    return [
        "## Passes",
        "",
        f"Code {facts['code']}: {len(labels)} clips of {len(set(facts['speakers']))} RAVDESS speakers "
        f"({facts['seconds_of_sound']:.1f} s on average), and sounds of 30 s joined from them; processor seconds of "
        "one thread.",
        "",
        *aligned(["sound", "pass", "seconds each", "UAR of a probe", "95 % interval, by speaker"], body, left=2),
        "",
        f"At 4 s the pass of the sound's own length takes {ratio:.1f} times less; UAR {difference:+.3f} "
        f"[{low:+.3f}, {high:+.3f}] against the padded one: {verdict}. At 30 s nothing is padded: the states of both "
        f"are at most {facts['apart']:.1e} apart.",
        "",
    ]


def words_of(facts: dict[str, Any]) -> list[str]:
    errors, said, moods = np.array(facts["errors"]), np.array(facts["words"]), np.array(facts["moods"])
    groups = [("all", np.arange(len(said)))] + [(name, np.flatnonzero(moods == name)) for name in np.unique(moods)]
    body = []
    for name, rows in groups:
        low, high = drawn(rows, lambda chosen, rows=rows: errors[rows[chosen]].sum() / said[rows[chosen]].sum())
        counts = [str(count) for count in errors[rows].sum(axis=0)]
        rate = f"{errors[rows].sum() / said[rows].sum():.3f}"
        body.append([name, str(len(rows)), str(said[rows].sum()), *counts, rate, f"[{low:.3f}, {high:.3f}]"])
    head = ["mood of the voice", "sentences", "words", *ERRORS, "word error rate", "95 % interval"]
    return [
        "## Words",
        "",
        f"Code {facts['code']}: Whisper base (faster-whisper, int8, beam 1) on {len(said)} sentences of the demo, "
        f"spoken by espeak; {facts['seconds']:.2f} processor seconds each. Intervals resample sentences.",
        "",
        *aligned(head, body, left=1),
        "",
        f"{int((errors.sum(axis=1) == 0).sum())} of {len(said)} sentences are without an error. Synthetic voices: it "
        "says little of people.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ravdess", type=Path, default=PROJECT.parent / "shared" / "data" / "ravdess_speech")
    parser.add_argument("--demo", type=Path, default=PROJECT / "data" / "01_raw" / "demo")
    parser.add_argument("--cache", type=Path, default=PROJECT / "data" / "08_reporting" / "speech")
    parser.add_argument("--only", nargs="*", choices=["words", "passes"], default=["words", "passes"])
    options = parser.parse_args()
    place = PAGE.with_suffix(".json")
    facts = read_json(place) if place.is_file() else {}
    code = code_revision(PROJECT)
    for name in options.only:
        found = words(options.demo) if name == "words" else passes(options.ravdess, options.cache)
        facts[name] = {**found, "code": code}
        write_json(place, facts)
    PAGE.write_text(page(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
