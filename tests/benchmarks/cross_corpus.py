"""Trained here, tested there: every pair of corpora that share a task or a map, as a page of docs/results.

    python -m tests.benchmarks.cross_corpus [--data FOLDER] [--out data/08_reporting/cross_corpus]

reads the four corpora below FOLDER as one union, extracts frozen sentence vectors (kept in OUT/cache), and fits a
linear model (ridge for a number, logistic regression for classes) on each corpus and on all together. Its strength is
chosen on validation rows of the training corpora alone; then every target's sealed test is scored, once:
what was answered stays in OUT, and what lies there is never fitted or scored again. The page is made from these files:
`--page` does no more.
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
from sklearn.pipeline import make_pipeline

from demeanor.data.examples import Examples
from demeanor.data.files import read_json, write_json
from demeanor.data.label_spaces import SPACES
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.evaluation.environment import UNKNOWN, code_revision
from demeanor.evaluation.metrics import metrics_of
from demeanor.evaluation.predictions import predictions_table, stacks
from demeanor.evaluation.probe_models import logistic, ridge, scaling
from demeanor.evaluation.resampling import Draws, Resampler, bootstrap, interval
from demeanor.evaluation.tables import aligned
from demeanor.evaluation.validation import validation_score

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
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Of the penalty, as C: smaller is stronger."""
ALL = "all of them"


@dataclass(frozen=True)
class Study:
    """One table: a task, who has labels for it, and why another corpus has no column (`empty`)."""

    title: str
    task: Task
    corpora: tuple[str, ...]
    metrics: tuple[str, ...]
    empty: Mapping[str, str]

    def trainings(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield from ((name, (name,)) for name in self.corpora)
        if len(self.corpora) > 1:
            yield ALL, self.corpora


def classes(space: str) -> Task:
    name = {"meld": "emotion"}.get(space, space)
    return Task(name=name, kind="classification", column=name, classes=SPACES[space].classes)


NO_SIDE = "no map leads from its eight emotions to a side: nobody annotated one"
STUDIES = (
    Study("Sentiment as a number", Task(name="sentiment", kind="regression", column="sentiment"), ("mosei", "mosi"),
          ("MAE", "Corr", "Non0_acc_2"), {"meld": "it has three sides and no number", "ravdess": "it has no number"}),
    Study("Three sides (space `polarity`)", classes("polarity"), ("mosei", "mosi", "meld"), ("UAR", "weighted_F1"),
          {"ravdess": NO_SIDE}),
    Study("Emotion (MELD's seven)", classes("meld"), ("meld", "ravdess"), ("UAR", "weighted_F1"),
          dict.fromkeys(("mosei", "mosi"), "nobody annotated one")),
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


def fitted_model(task: Task, x: np.ndarray, y: np.ndarray, weights: np.ndarray, strength: float) -> Any:
    """A pipeline of scikit-learn on x [rows, 384]; weights [rows] of the rows."""
    model = logistic(strength) if task.kind == "classification" else ridge(strength)
    pipeline = make_pipeline(*scaling(), model)
    return pipeline.fit(x, y, **{f"{pipeline.steps[-1][0]}__sample_weight": weights})


def answers_of(task: Task, model: Any, x: np.ndarray) -> np.ndarray:
    """[rows, outputs] as a head would say it: the number, or a logarithm of each class' probability."""
    if task.kind == "regression":
        return model.predict(x)[:, None]
    said = np.full((len(x), task.outputs), -50.0)
    said[:, model.classes_.astype(int)] = model.predict_log_proba(x)
    return said


def train(study: Study, corpora: tuple[str, ...], examples: Examples) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What a model of these corpora says of every target's sealed test, and how it came about."""
    began, task, table = time.process_time(), study.task, examples.utterances
    ragged = examples.stream(STREAM).ragged
    target, known = task.targets(table), task.labelled(table)

    def rows(split: str, names: Sequence[str]) -> np.ndarray:
        return np.flatnonzero(known & (table["split"] == split).to_numpy() & table["corpus"].isin(names).to_numpy())

    def vectors(chosen: np.ndarray) -> np.ndarray:
        return np.stack([ragged[int(row)].mean(axis=0) for row in chosen]).astype(np.float64)

    learn, valid, test = rows("train", corpora), rows("valid", corpora), rows("test", study.corpora)
    counts = table["corpus"].to_numpy()[learn]
    # Each corpus weighs alike: of a small one every row counts for more.
    weights = {name: len(learn) / len(corpora) / int((counts == name).sum()) for name in corpora}
    each = np.array([weights[name] for name in counts])
    name, better = task.selection_metric
    x, held = vectors(learn), vectors(valid)
    models = {strength: fitted_model(task, x, target[learn], each, strength) for strength in STRENGTHS}
    found = {
        strength: validation_score(task, answers_of(task, model, held), target[valid])[name]
        for strength, model in models.items()
    }
    chosen = (min if better == "min" else max)(found, key=lambda strength: found[strength])
    asked = table.iloc[test].reset_index(drop=True)
    answers = predictions_table(task, "+".join(corpora), 0, asked, answers_of(task, models[chosen], vectors(test)))
    facts = {
        "chosen": chosen, "tried": {str(one): round(float(value), 4) for one, value in found.items()}, "by": name,
        "valid": round(float(found[chosen]), 4), "weights": {one: round(value, 3) for one, value in weights.items()},
        "constant": float(target[learn].mean()),
        "revision": code_revision(PROJECT), "seconds": round(time.process_time() - began, 1),
    }  # fmt: skip
    return answers.assign(corpus=asked["corpus"].to_numpy()), facts


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
        print(f"{study.task.name}, {title}: {facts['seconds']:.0f} s, {facts['by']} {facts['valid']:.3f} on validation")


def facts_of(out: Path, study: Study, corpora: Sequence[str]) -> Path:
    return out / f"{study.task.name}-{'+'.join(corpora)}.json"


def draws(study: Study, answers: pd.DataFrame, corpus: str) -> dict[str, Draws]:
    """Metrics on one target's test, its dialogues (videos, scenes; RAVDESS: clips) resampled."""
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
    target = answers[answers["corpus"] == corpus]["target"]
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
        weights = ", ".join(f"{name} {weight:g}" for name, weight in facts["weights"].items())
        shared = f"; weight of a row: {weights}" if len(corpora) > 1 else ""
        notes.append(f"{title}: C {facts['chosen']:g} ({facts['by']} {facts['valid']:.3f} on its validation){shared}")
    counts = pd.read_parquet(facts_of(out, study, study.corpora[:1]).with_suffix(".parquet"))
    tested = counts["corpus"].value_counts()
    for metric in study.metrics:
        heads = [f"on {name} ({tested[name]})" for name in study.corpora]
        lines += [*aligned([f"{metric}, trained on", *heads], body[metric], left=len(heads) + 1), ""]
    lines += [f"Chosen among {len(STRENGTHS)}: {'; '.join(notes)}.", ""]
    lines += ["Empty: " + "; ".join(f"{name}, because {why}" for name, why in study.empty.items()) + ".", ""]
    return lines


def page(out: Path) -> str:
    places = [facts_of(out, study, corpora) for study in STUDIES for _, corpora in study.trainings()]
    facts = [read_json(place) for place in places if place.is_file()]
    revisions = sorted({one["revision"] for one in facts})
    if UNKNOWN in revisions:
        raise SystemExit("the answers name no revision of the code: train in a git checkout")
    seconds = sum(one["seconds"] for one in facts)
    lines = [
        "# Results: across corpora",
        "",
        f"Made by `python -m tests.benchmarks.cross_corpus` from the saved answers of {len(facts)} models on sealed "
        f"tests, code {', '.join(revisions)}. Words alone: ridge or logistic regression, which have no seeds, on "
        f"frozen sentence vectors of MiniLM; {seconds:.0f} seconds of a core for all fits.",
        "",
        "Rows say where a model learnt, columns whose test it answered; its own corpora are bold. Intervals of 95 % by "
        "bootstrap, dialogues resampled. The strength of the penalty was chosen on validation rows of the training "
        f"corpora, each target's test was scored once. `{ALL}`: every corpus of the table, weighing alike. `chance`: "
        "the interval reaches what a constant answer gets (UAR of one class over all); `constant`: the error of the "
        "training corpus' mean.",
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
