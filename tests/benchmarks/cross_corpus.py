"""Trained here, tested there: every pair of corpora that share a task or a map, as a page of docs/results.

    python -m tests.benchmarks.cross_corpus [--data FOLDER] [--out data/08_reporting/cross_corpus]

reads the four corpora below FOLDER as one union, extracts frozen vectors (kept in OUT/cache), and trains the system of
words of the environment `everyday` on each corpus alone and on all of a row together. Settings and epochs are chosen on
validation rows of the training corpora alone; then every target's sealed test is scored, once: what was answered stays
in OUT, and what lies there is never trained or scored again. The page is made from these files: `--page` does no more.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.data.examples import Examples
from demeanor.data.files import read_json, write_json
from demeanor.data.label_spaces import SPACES
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.evaluation.environment import UNKNOWN, code_revision
from demeanor.evaluation.metrics import labelled, metrics_of
from demeanor.evaluation.resampling import Draws, Resampler, bootstrap, interval
from demeanor.evaluation.tables import aligned
from demeanor.training.settings import BranchSettings

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "results" / "cross_corpus.md"
NOTES = Path(__file__).with_name("cross_corpus_notes.md")
POLARITY = {"polarity": {"column": "sentiment", "space": "sentiment", "to": "polarity"}}
CORPORA = {
    "mosei": {"reader": "label_csv", "options": {"path": "mosei_labels"}, "labels": POLARITY},
    "mosi": {"reader": "label_csv", "options": {"path": "mosi_labels"}, "labels": POLARITY},
    "meld": {"reader": "meld"},
    "ravdess": {"reader": "ravdess", "options": {"path": "ravdess_speech"},
                "labels": {"emotion": {"column": "emotion", "space": "ravdess", "to": "meld"}}},
}  # fmt: skip
STREAM = "text.sentence"
SEEDS = (1, 2, 3, 4, 5)
ALL = "all of them"


@dataclass(frozen=True)
class Study:
    """One table: a task, what is read, who has labels for it, the settings that validation chooses among, and why a
    corpus that has the labels has no column (`empty`)."""

    title: str
    task: Task
    system: str
    streams: Mapping[str, str]
    corpora: tuple[str, ...]
    model: Mapping[str, Any]
    tried: tuple[Mapping[str, Any], ...]
    training: Mapping[str, Any]
    metrics: tuple[str, ...]
    empty: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.task.name}_{next(iter(self.streams))}"

    def trainings(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield from ((name, (name,)) for name in self.corpora)
        if len(self.corpora) > 1:
            yield ALL, self.corpora

    def settings(self, corpora: Sequence[str], choice: Mapping[str, Any], seed: int) -> BranchSettings:
        own = {**self.training, **choice.get("training", {}), "seeds": [seed], "threads": 1}
        return BranchSettings(
            system=self.system, task=self.task.name, streams=dict(self.streams), corpora=tuple(corpora),
            sampling="equal", model={**self.model, **choice.get("model", {})}, training=own,
        )  # fmt: skip


def classes(space: str) -> Task:
    name = {"meld": "emotion"}.get(space, space)
    return Task(name=name, kind="classification", column=name, classes=SPACES[space].classes)


WORDS: dict[str, Any] = {
    "system": "text_only", "streams": {"text": STREAM}, "model": {},
    "training": {"epochs": 15, "patience": 3, "batch_size": 256, "learning_rate": 2.0e-3},
    "tried": ({"model": {"dropout": 0.2}}, {"model": {"dropout": 0.5}}),
}  # fmt: skip
NO_SIDE = "no map leads from its eight emotions to a side: nobody annotated one"
STUDIES = (
    Study("Sentiment as a number, by words",
          Task(name="sentiment", kind="regression", column="sentiment"), corpora=("mosei", "mosi"),
          metrics=("MAE", "Corr", "Non0_acc_2"),
          empty={"meld": "it has three sides and no number", "ravdess": "it has no number"}, **WORDS),
    Study("Three sides (space `polarity`), by words", classes("polarity"), corpora=("mosei", "mosi", "meld"),
          metrics=("UAR", "weighted_F1"), empty={"ravdess": NO_SIDE}, **WORDS),
    Study("Emotion (MELD's seven), by words", classes("meld"), corpora=("meld", "ravdess"),
          metrics=("UAR", "weighted_F1"), empty=dict.fromkeys(("mosei", "mosi"), "nobody annotated one"), **WORDS),
)  # fmt: skip


def prepare(data: Path, out: Path) -> Examples:
    """All corpora as one union with their frozen vectors; what is cached is not made again. Each corpus is extracted by
    itself, as encoders batch what is of like length: the environments' own caches serve, too."""
    from demeanor.corpora.base import CorpusSettings
    from demeanor.data.ragged import Ragged
    from demeanor.features.clips import clips_of
    from demeanor.features.engine import StreamRequest, extract_streams

    corpus = CorpusSettings(reader="union", options={"path": data, "name": "cross", "corpora": CORPORA}).read(
        out / "raw"
    )
    table = corpus.utterances
    request = {STREAM: StreamRequest(extractor="hf_sentence", parameters={"model": "minilm"})}
    made = {
        name: extract_streams(clips_of(rows, corpus.root), request, out / "cache", out / "streams" / name, 1)[0][STREAM]
        for name, rows in table.groupby("corpus", sort=False)
    }
    sequences = {key: one.ragged[key] for one in made.values() for key in one.ragged.ids}
    first = next(iter(made.values()))
    return Examples.of(table, {STREAM: Stream(STREAM, Ragged.from_sequences(sequences), first.provenance)})


def train(study: Study, corpora: tuple[str, ...], examples: Examples) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What the seeds of one training say of every target's sealed test, and how they came about."""
    from demeanor.evaluation.predictions import predictions_table
    from demeanor.evaluation.validation import validation_score
    from demeanor.inference.model import TrainedModel
    from demeanor.training.fit import fit

    began, development = time.process_time(), examples.split("train", "valid")
    name, better = study.task.selection_metric

    def fitted(choice: Mapping[str, Any], seed: int) -> Any:
        settings = study.settings(corpora, choice, seed)
        return fit(study.name, settings, study.task, development, seed, validation_score, progress=False).bundle

    # One seed chooses the setting, on validation rows of the training corpora; it is then one of the five.
    first = [fitted(choice, SEEDS[0]) for choice in study.tried]
    values = [bundle.card.metrics[name] for bundle in first]
    chosen = values.index((min if better == "min" else max)(values))
    bundles = [first[chosen], *(fitted(study.tried[chosen], seed) for seed in SEEDS[1:])]
    table = examples.split("test").utterances
    mine = table["corpus"].isin(study.corpora).to_numpy() & study.task.labelled(table)
    test = Examples.of(table[mine], examples.streams)
    parts = [
        predictions_table(study.task, "+".join(corpora), seed, test.utterances, TrainedModel.load(bundle).predict(test))
        .assign(corpus=test.utterances["corpus"].to_numpy())
        for seed, bundle in zip(SEEDS, bundles, strict=True)
    ]  # fmt: skip
    targets = study.task.targets(development.select(_train_ids(development, corpora)).utterances)
    known = targets[labelled(study.task, targets)]
    facts = {
        "chosen": dict(study.tried[chosen]), "tried": [round(float(value), 4) for value in values], "by": name,
        "constant": float(known.mean()) if study.task.kind == "regression" else int(np.bincount(known).argmax()),
        "revision": code_revision(PROJECT), "data_hash": test.data_hash,
        "protocol": bundles[0].card.protocol["corpora"],
        "valid": round(float(np.mean([bundle.card.metrics[name] for bundle in bundles])), 4),
        "seconds": round(time.process_time() - began, 1),
    }  # fmt: skip
    return pd.concat(parts, ignore_index=True), facts


def _train_ids(development: Examples, corpora: Sequence[str]) -> list[str]:
    table = development.utterances
    return list(table.loc[(table["split"] == "train") & table["corpus"].isin(corpora), "utterance_id"])


def run(data: Path, out: Path) -> None:
    """Whatever is not there yet: each training's answers are written as soon as they are there."""
    wanted = [(study, title, corpora) for study in STUDIES for title, corpora in study.trainings()]
    missing = [one for one in wanted if not facts_of(out, one[0], one[2]).is_file()]
    missing.sort(key=lambda one: len(one[2]))  # every pair is there before what is trained on all of them
    if not missing:
        return
    examples = prepare(data, out)
    for study, title, corpora in missing:
        answers, facts = train(study, corpora, examples)
        place = facts_of(out, study, corpora)
        answers.to_parquet(place.with_suffix(".parquet"), index=False)
        write_json(place, facts)
        print(f"{study.name}, {title}: {facts['seconds']:.0f} s, {facts['by']} {facts['valid']:.3f} on validation")


def facts_of(out: Path, study: Study, corpora: Sequence[str]) -> Path:
    return out / f"{study.name}-{'+'.join(corpora)}.json"


def draws(study: Study, answers: pd.DataFrame, corpus: str) -> dict[str, Draws]:
    """Metrics on one target's test, its dialogues (videos, scenes; RAVDESS: clips) resampled."""
    from demeanor.evaluation.predictions import stacks

    stack = next(iter(stacks(study.task, answers[answers["corpus"] == corpus]).values()))
    known = metrics_of(study.task)
    chosen = {name: known[name] for name in study.metrics}
    target = stack.target.astype(np.int64) if study.task.kind == "classification" else stack.target.astype(np.float32)
    return bootstrap(chosen, [stack.prediction], target, Resampler.over(len(target), stack.dialogues))[0]


def chance_of(study: Study, facts: Mapping[str, Any], answers: pd.DataFrame, corpus: str) -> float:
    """What a constant answer gets: a share of classes, or the error of the training corpus' mean."""
    if study.task.kind == "classification":
        target = answers.loc[answers["corpus"] == corpus, "target"]
        return 1 / target.nunique()
    target = answers[(answers["corpus"] == corpus) & (answers["seed"] == SEEDS[0])]["target"]
    return float((target - facts["constant"]).abs().mean())


def cell(study: Study, metric: str, found: Draws, chance: float, own: bool) -> str:
    low, high = interval(found.resampled)
    text = f"{found.mean:.3f} [{low:.3f}, {high:.3f}]" if np.isfinite(found.mean) else "undefined"
    text = f"**{text}**" if own else text
    if metric == "UAR" and (not np.isfinite(low) or low <= chance):
        return f"{text}, chance"
    return f"{text}, constant {chance:.3f}" if metric == "MAE" else text


def section(study: Study, out: Path) -> list[str]:
    """One table per metric: rows trained, columns tested; then what was chosen, and why cells are empty."""
    lines, body, notes = [f"## {study.title}", ""], {metric: [] for metric in study.metrics}, []
    for title, corpora in study.trainings():
        place = facts_of(out, study, corpora)
        if not place.is_file():
            notes.append(f"{title}: not trained yet")
            continue
        facts, answers = read_json(place), pd.read_parquet(place.with_suffix(".parquet"))
        rows: dict[str, list[str]] = {metric: [title] for metric in study.metrics}
        for corpus in study.corpora:
            found, chance = draws(study, answers, corpus), chance_of(study, facts, answers, corpus)
            for metric in study.metrics:
                rows[metric].append(cell(study, metric, found[metric], chance, corpus in corpora))
        for metric in study.metrics:
            body[metric].append(rows[metric])
        weights = ", ".join(f"{name} {one['draws']:g}" for name, one in facts["protocol"].items())
        shared = f"; rows met per epoch: {weights}" if len(corpora) > 1 else ""
        notes.append(f"{title}: {said(facts['chosen'])} ({facts['by']} {facts['valid']:.3f} on its validation){shared}")
    counts = pd.read_parquet(facts_of(out, study, study.corpora[:1]).with_suffix(".parquet"))
    tested = counts[counts["seed"] == SEEDS[0]]["corpus"].value_counts()
    for metric in study.metrics:
        heads = [f"on {name} ({tested[name]})" for name in study.corpora]
        lines += [*aligned([f"{metric}, trained on", *heads], body[metric], left=len(heads) + 1), ""]
    lines += [f"Chosen among {len(study.tried)}: {'; '.join(notes)}.", ""]
    lines += ["Empty: " + "; ".join(f"{name}, because {why}" for name, why in study.empty.items()) + ".", ""]
    return lines


def said(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for part in choice.values() for name, value in part.items())


def page(out: Path) -> str:
    places = [facts_of(out, study, corpora) for study in STUDIES for _, corpora in study.trainings()]
    facts = [read_json(place) for place in places if place.is_file()]
    revisions = sorted({one["revision"] for one in facts})
    if UNKNOWN in revisions:
        raise SystemExit("the answers name no revision of the code: train in a git checkout")
    minutes = sum(one["seconds"] for one in facts) / 60
    lines = [
        "# Results: across corpora",
        "",
        f"Made by `python -m tests.benchmarks.cross_corpus` from the saved answers of {len(facts) * len(SEEDS)} models "
        f"on sealed tests, code {', '.join(revisions)}. `text_only`, as in `conf/everyday`, on frozen sentence "
        f"vectors of MiniLM, seeds {', '.join(map(str, SEEDS))}; training took {minutes:.0f} minutes of a core.",
        "",
        "Rows say where a system learnt, columns whose test it answered; its own corpora are bold. Means over seeds "
        "with 95 % bootstrap intervals (dialogues resampled). Settings and epochs were chosen on validation rows of "
        f"the training corpora, each target's test was scored once. `{ALL}`: every corpus of the table, each "
        "giving as many rows to an epoch. `chance`: the interval reaches what a constant answer gets (UAR of one class "
        "over all); `constant`: the error of the training corpus' mean.",
        "",
    ]
    notes = NOTES.read_text(encoding="utf-8").strip() if NOTES.is_file() else ""
    for study in STUDIES:
        lines += section(study, out)
    return "\n".join([*lines, *([notes, ""] if notes else [])])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=PROJECT / "data" / "01_raw")
    parser.add_argument("--out", type=Path, default=PROJECT / "data" / "08_reporting" / "cross_corpus")
    parser.add_argument("--page", action="store_true", help="the page alone, from what is there")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.page:
        run(options.data, options.out)
    PAGE.write_text(page(options.out), encoding="utf-8")
    print(f"written: {PAGE.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
