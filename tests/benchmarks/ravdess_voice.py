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
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from demeanor.data.examples import Examples
from demeanor.data.files import read_json, write_json
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.data.utterances import make_table
from demeanor.evaluation.environment import code_revision
from demeanor.evaluation.metrics import score
from demeanor.evaluation.probe import fit_logistic
from demeanor.evaluation.receipts import Receipt
from demeanor.training.settings import BranchSettings
from tests.benchmarks.ravdess_page import AVERAGE, BRANCH, FACTS, PAGE, PROBE, PROBES, answers_of, page

PROJECT = Path(__file__).resolve().parents[2]
NOTES = Path(__file__).with_name("ravdess_notes.md")
CLASSES = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
TASK = Task(name="emotion", kind="classification", column="emotion", classes=CLASSES)
STREAM = "audio.layers"
MIDDLE = slice(3, 7)
STRENGTHS = (1e-3, 1e-2, 1e-1)
FOLDS = 4


def extract(ravdess: Path, request: dict[str, Any], cache: Path) -> Stream:
    """[7, 1024] per clip: mean and deviation of each of Whisper base's layers over what is spoken, by the product's own
    extraction; what is in the cache is not made again."""
    from demeanor.features.base import Clip
    from demeanor.features.engine import StreamRequest, extract_streams

    clips = [Clip(path.stem, media=path) for path in sorted(ravdess.glob("Actor_*/*.*"))]
    if not clips:
        raise SystemExit(f"no Actor_*/* under {ravdess}: give RAVDESS' speech files with --ravdess")
    streams, _ = extract_streams(clips, {STREAM: StreamRequest(**request)}, cache, cache / "streams", workers=1)
    return streams[STREAM]


def fields(name: str) -> list[int]:
    """RAVDESS names: modality-channel-emotion-intensity-statement-repetition-actor."""
    return [int(value) for value in name.split("-")]


def parts_of(speakers: list[int], fold: int) -> dict[int, str]:
    """Speaker -> split, in one of the four folds."""
    folds = np.array_split(np.random.default_rng(0).permutation(np.unique(speakers)), FOLDS)
    rest = [speaker for speaker in sorted(set(speakers)) if speaker not in folds[fold]]
    valid = rest[fold::4][:3]
    return {s: "valid" if s in valid else "train" if s in rest else "test" for s in sorted(set(speakers))}


def examples_of(names: list[str], stream: Stream, splits: dict[int, str]) -> Examples:
    """Clips by name, with the splits of their speakers; speakers without one are left out."""
    rows = [
        {
            "utterance_id": name, "corpus": "ravdess", "split": splits[fields(name)[6]], "dialogue": name, "turn": 0,
            "speaker": str(fields(name)[6]), "emotion": CLASSES[fields(name)[2] - 1],
        }
        for name in names if fields(name)[6] in splits
    ]  # fmt: skip
    return Examples.of(make_table(rows), {stream.name: stream})


def probed(examples: Examples, stream: str) -> tuple[np.ndarray, float]:
    """[N_test, 8] log-probabilities of logistic regression on the mean of the middle layers, fitted on train and valid;
    and the UAR on valid of the strength that was chosen there."""

    def values(*splits: str) -> tuple[np.ndarray, np.ndarray]:
        part = examples.split(*splits)
        ragged = part.stream(stream).ragged.gather(np.arange(len(part)))[0]
        return np.asarray(ragged[:, MIDDLE].mean(axis=1), np.float32), np.asarray(TASK.targets(part.utterances))

    def reached(strength: float) -> float:
        model = fit_logistic(*values("train"), strength)
        x, y = values("valid")
        return score(TASK, model.predict_log_proba(x), y, warn=False)["UAR"]

    scores = {strength: reached(strength) for strength in STRENGTHS}
    chosen = max(scores, key=lambda strength: scores[strength])
    return fit_logistic(*values("train", "valid"), chosen).predict_log_proba(values("test")[0]), scores[chosen]


def softmax(outputs: np.ndarray) -> np.ndarray:
    shifted = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def run(names: list[str], stream: Stream, settings: BranchSettings, seeds: list[int]) -> dict[str, Any]:
    """Every fold scored once: receipts, answers, clips in the order of the folds, and UAR on validation."""
    from demeanor.inference.model import TrainedModel
    from demeanor.training.fit import fit

    facts: dict[str, Any] = {
        "branch": settings.as_dict(), "receipts": [], "valid": {PROBE: [], BRANCH: []}, "target": "", "speakers": [],
        "answers": {PROBE: [""], BRANCH: [""] * len(seeds), AVERAGE: [""]},
    }  # fmt: skip
    revision = code_revision(PROJECT)
    for fold in range(FOLDS):
        examples = examples_of(names, stream, parts_of([fields(name)[6] for name in names], fold))
        test, valid = examples.split("test"), examples.split("valid").utterances
        target = np.asarray(TASK.targets(test.utterances))
        outputs, reached = probed(examples, stream.name)
        facts["valid"][PROBE].append(reached)
        said: dict[str, list[np.ndarray]] = {PROBE: [outputs], BRANCH: []}
        weights = []
        for seed in seeds:
            trained = fit(BRANCH, settings, TASK, examples.split("train", "valid"), seed, score, progress=False)
            said[BRANCH].append(TrainedModel.load(trained.bundle).predict(test))
            weights.append(trained.bundle.weights_sha256)
            facts["valid"][BRANCH].append(score(TASK, trained.validation, TASK.targets(valid), warn=False)["UAR"])
        said[AVERAGE] = [np.mean([softmax(one) for one in said[BRANCH]], axis=0)]
        for branch, given in said.items():
            facts["receipts"] += [
                Receipt(
                    branch=branch, system="logistic regression" if branch == PROBE else settings.system, task=TASK.name,
                    corpus="ravdess", split=f"test, fold_{fold + 1}", seed=seeds[n] if branch == BRANCH else 0,
                    metrics=score(TASK, answer, target, warn=False), n=len(target), data_hash=test.data_hash,
                    code_revision=revision, weights_sha256=weights[n] if branch == BRANCH else "",
                ).as_dict()
                for n, answer in enumerate(given)
            ]  # fmt: skip
            facts["answers"][branch] = [
                before + answers_of(answer) for before, answer in zip(facts["answers"][branch], given, strict=True)
            ]
        facts["target"] += "".join(map(str, target.tolist()))
        facts["speakers"] += test.utterances["speaker"].to_list()
        last = facts["receipts"][-len(seeds) - 2 :]
        print(f"fold {fold + 1}", *(f"{r['branch']} {r['metrics']['UAR']:.3f}" for r in last), flush=True)
    return facts


def environment() -> dict[str, Any]:
    """Branch and extractor are those of the environment: one place for settings."""
    return yaml.safe_load((PROJECT / "conf" / "ravdess" / "parameters.yml").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ravdess", type=Path, default=PROJECT.parent / "shared" / "data" / "ravdess_speech")
    parser.add_argument("--cache", type=Path, default=PROJECT / "data" / "08_reporting" / "ravdess_voice")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--page", action="store_true", help="nothing is trained: the page from what was scored before")
    options = parser.parse_args()
    facts = read_json(FACTS)
    if not options.page:
        given = environment()
        stream = extract(options.ravdess, given["features"]["audio"][STREAM], options.cache)
        names = [name for name in sorted(stream.ragged.ids) if len(stream.ragged[name])]
        facts |= run(names, stream, BranchSettings(**given["branches"][BRANCH]), options.seeds)
        write_json(FACTS, facts)
    PAGE.write_text(page(facts, read_json(PROBES), NOTES.read_text(encoding="utf-8"), TASK), encoding="utf-8")


if __name__ == "__main__":
    main()
