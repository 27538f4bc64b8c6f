"""RAVDESS by voice: a linear probe and the trained branch, speakers apart, as docs/results/ravdess.md.

    python -m tests.benchmarks.ravdess_voice [--ravdess FOLDER] [--cache FOLDER] [--seeds 1 2 3 4 5]

extracts the layers of Whisper base (kept in the cache), trains, scores, and writes docs/results/ravdess.json: receipts,
what was answered to each clip, settings. The page is made from that file alone: `--page` makes it again.

Four folds of speakers, the same as those of bench_ravdess.py (seed 0). In each, three of the training speakers are
validation: they choose the probe's strength and the branch's epoch; both are then fitted again on all twelve, and the
fold's test speakers are scored once. Settings were chosen before, by ravdess_trials.py, on training speakers alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demeanor.data.examples import Examples
from demeanor.data.files import read_json, write_json
from demeanor.data.stream import Stream
from demeanor.evaluation.environment import code_revision
from demeanor.evaluation.metrics import score
from demeanor.evaluation.probe_models import fit_logistic
from demeanor.evaluation.receipts import Receipt
from demeanor.training.settings import BranchSettings
from tests.benchmarks.ravdess_features import (
    FOLDS,
    PROJECT,
    STATISTICS,
    STREAM,
    TASK,
    environment,
    examples_of,
    extract,
    fields,
    parts_of,
    softmax,
)  # fmt: skip
from tests.benchmarks.ravdess_page import (
    AVERAGE,
    BRANCH,
    CHOSEN_PROBE,
    FACTS,
    PAGE,
    PROBE,
    PROBES,
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
        ragged = part.stream(STREAM).ragged.gather(np.arange(len(part)))[0]
        return np.asarray(features(ragged), np.float32), np.asarray(TASK.targets(part.utterances))

    def reached(strength: float) -> float:
        model = fit_logistic(*values("train"), strength)
        x, y = values("valid")
        return score(TASK, model.predict_log_proba(x), y, warn=False)["UAR"]

    scores = {strength: reached(strength) for strength in STRENGTHS}
    chosen = max(scores, key=lambda strength: scores[strength])
    return fit_logistic(*values("train", "valid"), chosen).predict_log_proba(values("test")[0]), scores[chosen]


def run(
    names: list[str], stream: Stream, settings: BranchSettings, seeds: list[int], fold: int, best: str
) -> dict[str, Any]:
    """One fold, scored once: receipts, answers (a digit for each clip), and UAR on validation; `best` are the
    statistics that were chosen for it."""
    from demeanor.inference.model import TrainedModel
    from demeanor.training.fit import fit

    examples = examples_of(names, stream, parts_of([fields(name)[6] for name in names], fold))
    test, valid = examples.split("test"), examples.split("valid").utterances
    target = np.asarray(TASK.targets(test.utterances))
    reads = {**FEATURES, CHOSEN_PROBE: best}
    probes = {name: probed(examples, STATISTICS[statistics]) for name, statistics in reads.items()}
    outputs = {name: [answer] for name, (answer, _) in probes.items()}
    reached = {name: [uar] for name, (_, uar) in probes.items()}
    bundles = []
    for seed in seeds:
        trained = fit(BRANCH, settings, TASK, examples.split("train", "valid"), seed, score, progress=False)
        outputs.setdefault(BRANCH, []).append(TrainedModel.load(trained.bundle).predict(test))
        uar = score(TASK, trained.validation, TASK.targets(valid), warn=False)["UAR"]
        reached.setdefault(BRANCH, []).append(uar)
        bundles.append(trained.bundle.weights_sha256)
    outputs[AVERAGE] = [np.mean([softmax(one) for one in outputs[BRANCH]], axis=0)]
    revision = code_revision(PROJECT)
    receipts = [
        Receipt(
            branch=branch, system="logistic regression" if branch in reads else settings.system, task=TASK.name,
            corpus="ravdess", split=f"test, fold_{fold + 1}", seed=seeds[n] if branch == BRANCH else 0,
            metrics=score(TASK, answer, target, warn=False), n=len(target), data_hash=test.data_hash,
            code_revision=revision, weights_sha256=bundles[n] if branch == BRANCH else "",
        )
        for branch, given in outputs.items() for n, answer in enumerate(given)
    ]  # fmt: skip
    print(f"fold {fold + 1}", *(f"{one.branch} {one.metrics['UAR']:.3f}" for one in receipts), flush=True)
    return {
        "receipts": [one.as_dict() for one in receipts], "valid": reached, "target": "".join(map(str, target)),
        "answers": {branch: [answers_of(answer) for answer in given] for branch, given in outputs.items()},
        "speakers": test.utterances["speaker"].to_list(), "branch": settings.as_dict(), "chosen": best,
    }  # fmt: skip


def joined(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """The same of all folds, one after the other."""
    first = folds[0]
    return {
        "branch": first["branch"], "receipts": [one for fold in folds for one in fold["receipts"]],
        "valid": {name: [uar for fold in folds for uar in fold["valid"][name]] for name in first["valid"]},
        "target": "".join(fold["target"] for fold in folds), "chosen": [fold["chosen"] for fold in folds],
        "speakers": [speaker for fold in folds for speaker in fold["speakers"]],
        "answers": {
            name: ["".join(parts) for parts in zip(*(fold["answers"][name] for fold in folds), strict=True)]
            for name in first["answers"]
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ravdess", type=Path, default=PROJECT.parent / "shared" / "data" / "ravdess_speech")
    parser.add_argument("--cache", type=Path, default=PROJECT / "data" / "08_reporting" / "ravdess_voice")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--folds", type=int, nargs="*", default=[1, 2, 3, 4], help="the others as they were scored")
    parser.add_argument("--page", action="store_true", help="nothing is trained: the page from what was scored before")
    options = parser.parse_args()
    facts = read_json(FACTS)
    if not options.page:
        given = environment()
        stream = extract(options.ravdess, given["features"]["audio"][STREAM], options.cache)
        names = [name for name in sorted(stream.ragged.ids) if len(stream.ragged[name])]
        settings = BranchSettings(**given["branches"][BRANCH])
        for fold in options.folds:
            best = chosen(facts["tried"], fold - 1)
            write_json(options.cache / f"fold_{fold}.json", run(names, stream, settings, options.seeds, fold - 1, best))
        places = [options.cache / f"fold_{fold + 1}.json" for fold in range(FOLDS)]
        if missing := [place.name for place in places if not place.is_file()]:
            raise SystemExit(f"not scored yet: {', '.join(missing)}")
        facts |= joined([read_json(place) for place in places])
        write_json(FACTS, facts)
    PAGE.write_text(page(facts, read_json(PROBES), NOTES.read_text(encoding="utf-8"), TASK), encoding="utf-8")


if __name__ == "__main__":
    main()
