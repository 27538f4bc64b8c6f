"""RAVDESS by voice: linear probes and the environment's branches, speakers apart, as docs/results/ravdess.md.

    python -m tests.benchmarks.ravdess_voice [--ravdess FOLDER] [--cache FOLDER] [--probes]

extracts what Whisper base hears (kept in the cache), trains branches, scores, and writes docs/results/ravdess.json:
receipts, what was answered to each clip, settings. `--probes` fits the logistic regressions on the states again, too;
else their receipts stay. The page is made from that file alone: `--page` makes it again.

Four folds of speakers, the same as those of bench_ravdess.py (seed 0). In each, three of the training speakers are
validation: they choose the probe's strength and the branch's epoch; all are then fitted again on all twelve, and the
fold's test speakers are scored once. Settings were chosen before, by ravdess_trials.py, on training speakers alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demeanor.data.examples import Examples
from demeanor.data.files import read_json, write_json
from demeanor.evaluation.environment import code_revision
from demeanor.evaluation.metrics import score
from demeanor.evaluation.probe_models import fit_logistic
from demeanor.evaluation.receipts import Receipt
from demeanor.training.settings import BranchSettings
from tests.benchmarks.ravdess_features import (
    FOLDS,
    PROJECT,
    STATES,
    STATISTICS,
    STREAM,
    TASK,
    environment,
    examples_of,
    extract,
    fields,
    known,
    parts_of,
    softmax,
)  # fmt: skip
from tests.benchmarks.ravdess_page import (
    BRANCHES,
    CHOSEN_PROBE,
    FACTS,
    OWN_MEAN,
    PAGE,
    PROBE,
    PROBES,
    RIDGE,
    STACKED_PROBE,
    answers_of,
    page,
)  # fmt: skip

NOTES = Path(__file__).with_name("ravdess_notes.md")
#: Statistics of the layers that the probes read; CHOSEN_PROBE reads those that `chosen` finds.
FEATURES: Mapping[str, str] = {PROBE: "mean of layers 3-6 (the probe's)", STACKED_PROBE: "layers 2-5 side by side"}
STRENGTHS = (1e-3, 1e-2, 1e-1)


def chosen(tried: Sequence[Mapping[str, Any]], fold: int) -> str:
    """The statistics that did best on the training speakers of this fold alone; of equal ones the first."""
    reached = {one["setting"]: one["uar"][fold] for one in tried if one["setting"] in STATISTICS}
    if missing := [name for name in STATISTICS if name not in reached]:
        raise SystemExit(f"not tried yet: {'; '.join(missing)}: run python -m tests.benchmarks.ravdess_trials first")
    return max(reached, key=lambda name: reached[name])


def probed(examples: Examples, features: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, float]:
    """[N_test, 8] log-probabilities of logistic regression on features of the layers [N, 7, 1024], fitted on train and
    valid; and the UAR on valid of the strength that was chosen there."""

    def values(*splits: str) -> tuple[np.ndarray, np.ndarray]:
        part = examples.split(*splits)
        ragged = part.stream(STATES).ragged.gather(np.arange(len(part)))[0]
        return np.asarray(features(ragged), np.float32), np.asarray(TASK.targets(part.utterances))

    def reached(strength: float) -> float:
        model = fit_logistic(*values("train"), strength)
        x, y = values("valid")
        return score(TASK, model.predict_log_proba(x), y, warn=False)["UAR"]

    scores = {strength: reached(strength) for strength in STRENGTHS}
    chosen = max(scores, key=lambda strength: scores[strength])
    return fit_logistic(*values("train", "valid"), chosen).predict_log_proba(values("test")[0]), scores[chosen]


def of_probes(examples: Examples, best: str) -> dict[str, Any]:
    """Name -> ([its one answer], [UAR on valid]) of the probes on the states; `best` are the statistics chosen."""
    reads = {**FEATURES, CHOSEN_PROBE: best}
    made = {name: probed(examples, STATISTICS[statistics]) for name, statistics in reads.items()}
    return {name: ([answer], [uar], [""]) for name, (answer, uar) in made.items()}


def of_branches(examples: Examples, branches: Mapping[str, BranchSettings]) -> dict[str, Any]:
    """Name -> (an answer for each seed, UAR on valid, hashes of the bundles); of several seeds their average, too."""
    from demeanor.inference.model import TrainedModel
    from demeanor.training.fit import fit

    test, valid = examples.split("test"), examples.split("valid").utterances
    made: dict[str, Any] = {}
    for name, settings in branches.items():
        answers, reached, hashes = made.setdefault(name, ([], [], []))
        for seed in settings.training.seeds:
            trained = fit(name, settings, TASK, examples.split("train", "valid"), seed, score, progress=False)
            answers.append(TrainedModel.load(trained.bundle).predict(test))
            reached.append(score(TASK, trained.validation, TASK.targets(valid), warn=False)["UAR"])
            hashes.append(trained.bundle.weights_sha256)
        if len(answers) > 1:
            made[f"{name}_average"] = ([np.mean([softmax(one) for one in answers], axis=0)], [], [""])
    return made


def of_own_mean(examples: Examples, strength: float) -> dict[str, Any]:
    """As `speech_ridge`, with the mean of each speaker's own clips taken away, of the test speakers' as well: no label
    is seen, but it can be asked only where a speaker has many clips."""
    from demeanor.models.ridge_classes import solve

    table = examples.utterances
    values = examples.stream(STREAM).ragged.gather(np.arange(len(table)))[0]
    values = np.asarray(values, np.float64).reshape(len(table), -1)
    for speaker in table["speaker"].unique():
        own = (table["speaker"] == speaker).to_numpy()
        values[own] -= values[own].mean(axis=0)
    split, target = table["split"].to_numpy(), torch.from_numpy(np.asarray(TASK.targets(table)))

    def answers(known: Sequence[str], asked: str) -> np.ndarray:
        rows, wanted = np.isin(split, known), split == asked
        mean, scale = values[rows].mean(axis=0), values[rows].std(axis=0)
        given = torch.from_numpy((values - mean) / scale)
        found = solve(given[rows], target[rows], len(TASK.classes), strength, balanced=True)
        return (given[wanted] @ found.weight.T + found.bias).numpy()

    valid = score(TASK, answers(["train"], "valid"), target[split == "valid"].numpy(), warn=False)["UAR"]
    return {OWN_MEAN: ([answers(["train", "valid"], "test")], [valid], [""])}


def receipts_of(made: Mapping[str, Any], branches: Mapping[str, BranchSettings], test: Examples, fold: int) -> Any:
    """Of one fold, scored once: receipts, answers (a digit for each clip), and UAR on validation."""
    target = np.asarray(TASK.targets(test.utterances))
    revision = code_revision(PROJECT)
    systems = dict.fromkeys(made, "logistic regression") | {OWN_MEAN: "ridge_classes"}
    systems |= {other: one.system for name, one in branches.items() for other in (name, f"{name}_average")}
    seeds = {name: one.training.seeds for name, one in branches.items() if len(one.training.seeds) > 1}
    receipts = [
        Receipt(
            branch=name, system=systems[name], task=TASK.name, corpus="ravdess", split=f"test, fold_{fold + 1}",
            seed=seeds[name][n] if name in seeds else 0, metrics=score(TASK, answer, target, warn=False),
            n=len(target), data_hash=test.data_hash, code_revision=revision, weights_sha256=hashes[n],
        )
        for name, (answers, _, hashes) in made.items() for n, answer in enumerate(answers)
    ]  # fmt: skip
    print(f"fold {fold + 1}", *(f"{one.branch} {one.metrics['UAR']:.3f}" for one in receipts), flush=True)
    return {
        "receipts": [one.as_dict() for one in receipts], "target": "".join(map(str, target)),
        "valid": {name: reached for name, (_, reached, _) in made.items() if reached},
        "answers": {name: [answers_of(answer) for answer in answers] for name, (answers, _, _) in made.items()},
        "speakers": test.utterances["speaker"].to_list(),
    }  # fmt: skip


def joined(facts: Mapping[str, Any], folds: list[dict[str, Any]]) -> dict[str, Any]:
    """The facts with what was scored now in the place of what they said of the same; of the same clips alone."""
    first = folds[0]
    order = {name: "".join(map(str, (one for fold in folds for one in fold[name]))) for name in ("target", "speakers")}
    if facts["target"] != order["target"] or "".join(facts["speakers"]) != order["speakers"]:
        raise SystemExit("other clips than those of docs/results/ravdess.json: score everything again, with --probes")
    kept = [one for one in facts["receipts"] if one["branch"] not in first["answers"]]
    valid = {name: [uar for fold in folds for uar in fold["valid"][name]] for name in first["valid"]}
    answers = {
        name: ["".join(parts) for parts in zip(*(fold["answers"][name] for fold in folds), strict=True)]
        for name in first["answers"]
    }
    return {
        **facts, "receipts": [*kept, *(one for fold in folds for one in fold["receipts"])],
        "valid": {**facts["valid"], **valid}, "answers": {**facts["answers"], **answers},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ravdess", type=Path, default=PROJECT.parent / "shared" / "data" / "ravdess_speech")
    parser.add_argument("--cache", type=Path, default=PROJECT / "data" / "08_reporting" / "ravdess_voice")
    parser.add_argument("--branches", nargs="+", default=list(BRANCHES), help="the others as they were scored")
    parser.add_argument("--probes", action="store_true", help="the probes on the states as well")
    parser.add_argument("--page", action="store_true", help="nothing is trained: the page from what was scored before")
    options = parser.parse_args()
    facts = read_json(FACTS)
    if not options.page:
        given = environment()["branches"]
        branches = {name: BranchSettings(**given[name]) for name in options.branches}
        kinds = (STREAM, STATES) if options.probes else (STREAM,)
        streams = {kind: extract(options.ravdess, kind, options.cache) for kind in kinds}
        names = known(streams[STREAM])
        folds = []
        for fold in range(FOLDS):
            parts = parts_of([fields(name)[6] for name in names], fold)
            examples = {kind: examples_of(names, stream, parts) for kind, stream in streams.items()}
            heard = examples[STREAM]
            made = of_branches(heard, branches)
            if RIDGE in branches:
                made |= of_own_mean(heard, branches[RIDGE].model["strength"])
            if options.probes:
                made |= of_probes(examples[STATES], chosen(facts["tried"], fold))
            folds.append(receipts_of(made, branches, heard.split("test"), fold))
        settings = facts["branches"] | {name: one.as_dict() for name, one in branches.items()}
        facts = joined(facts, folds) | {"branches": settings}
        if options.probes:
            facts["chosen"] = [chosen(facts["tried"], fold) for fold in range(FOLDS)]
        write_json(FACTS, facts)
    PAGE.write_text(page(facts, read_json(PROBES), NOTES.read_text(encoding="utf-8"), TASK), encoding="utf-8")


if __name__ == "__main__":
    main()
