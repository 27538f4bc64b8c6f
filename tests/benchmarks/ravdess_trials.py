"""Which statistics of Whisper base's layers serve RAVDESS, and how the branch is best trained: training speakers alone.

    python -m tests.benchmarks.ravdess_trials [--ravdess FOLDER] [--cache FOLDER] [--only NAME ...]

In each fold of ravdess_voice.py the four test speakers are left out. The twelve others are parted into four threes,
each of which is predicted from the nine others (closed form); or the fold's three validation speakers are (trained
branch, seed 1 unless a setting says otherwise, best epoch). What is reached goes to docs/results/ravdess.json, `tried`,
from which the page counts the settings; a setting that stands there already is replaced. "Closed form" is least squares
on class indicators with a penalty chosen by the same threes, a stand-in for a trained linear head that costs a fraction
of a second. For the states nothing of one fold looks at another: ravdess_voice.py may choose by it in each fold. What
the heads gather is tried as `ridge_classes` has it: every class weighs alike, and one penalty serves all folds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demeanor.data.files import read_json, write_json
from demeanor.data.stream import Stream
from demeanor.evaluation.metrics import score
from demeanor.training.settings import BranchSettings
from tests.benchmarks.ravdess_features import (
    ATTENTION,
    FOLDS,
    GATHERED,
    PROJECT,
    STATES,
    STATISTICS,
    STREAM,
    TASK,
    Values,
    examples_of,
    extract,
    fields,
    known,
    parts_of,
    softmax,
)  # fmt: skip
from tests.benchmarks.ravdess_page import FACTS

PENALTIES = (0.1, 0.3, 0.6, 1.0, 3.0)
_STACK = {"layers": 3, "stacked": [0, 1, 2], "dropout": 0.5}
#: name -> (settings of audio_only, training) where they differ from `TRAINING`; of the environment's stream
TRAINED: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "attention of layers 2-4, dropout .5": (_STACK, {}),
    "attention of layers 2-4, dropout .8": ({**_STACK, "dropout": 0.8}, {}),
    "attention of layers 2-4, dropout .5, seeds 1 to 5 averaged": (_STACK, {"seeds": [1, 2, 3, 4, 5]}),
}
TRAINING = {"seeds": [1], "epochs": 30, "patience": 30, "batch_size": 32, "weight_decay": 0.1, "threads": 1}


def closed_form(values: Values, labels: np.ndarray, speakers: np.ndarray, balanced: bool = False) -> list[float]:
    """UAR on training speakers, of each fold, with the penalty that is best on them; values [N, D]. `balanced`: every
    class weighs alike, with the penalty that is best on the mean over the folds."""
    recall = np.zeros((len(PENALTIES), FOLDS))
    for fold in range(FOLDS):
        parts = parts_of(speakers.tolist(), fold)
        rest = [speaker for speaker in sorted(parts) if parts[speaker] != "test"]
        for number in range(4):
            held = np.isin(speakers, rest[number::4])
            train = np.isin(speakers, rest) & ~held
            for n, answers in enumerate(least_squares(values[train], labels[train], values[held], balanced)):
                recall[n, fold] += float(np.mean([(answers[labels[held] == c] == c).mean() for c in range(8)])) / 4
    best = recall[recall.mean(axis=1).argmax()] if balanced else recall.max(axis=0)
    return [float(value) for value in best]


def least_squares(x: Values, y: np.ndarray, other: Values, balanced: bool = False) -> list[np.ndarray]:
    """For each penalty the classes [M] of `other` [M, D], after x [N, D] and y [N]; columns standardised by x."""
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6 * x.std(axis=0).max()
    x, other = (x - mean) / scale, (other - mean) / scale
    if balanced:
        from demeanor.models.ridge_classes import solve

        given = torch.from_numpy(x).double()
        found = (solve(given, torch.from_numpy(y), 8, penalty, True) for penalty in PENALTIES)
        return [(other @ one.weight.numpy().T + one.bias.numpy()).argmax(axis=1) for one in found]
    indicators = np.eye(8)[y] - np.eye(8)[y].mean(axis=0)
    roots, vectors = np.linalg.eigh((x @ x.T / x.shape[1]).astype(np.float64))
    turned, seen = vectors.T @ indicators, other @ x.T / x.shape[1] @ vectors
    return [(seen @ (turned / (roots + penalty)[:, None])).argmax(axis=1) for penalty in PENALTIES]


def trained(stream: Stream, names: list[str], model: dict[str, Any], training: dict[str, Any]) -> list[float]:
    """UAR on the validation speakers of each fold, of the average of its seeds where there are several; its test
    speakers are not even among the examples."""
    from demeanor.training.fit import fit

    settings = BranchSettings(
        system="audio_only", task=TASK.name, streams={"audio": STREAM}, model=model,
        training={**TRAINING, "learning_rate": 1e-3, **training},
    )  # fmt: skip
    reached = []
    for fold in range(FOLDS):
        parts = parts_of([fields(name)[6] for name in names], fold)
        examples = examples_of(names, stream, {speaker: part for speaker, part in parts.items() if part != "test"})
        results = [fit("trial", settings, TASK, examples, n, score, progress=False) for n in settings.training.seeds]
        outputs = np.mean([softmax(result.validation) for result in results], axis=0)
        target = TASK.targets(examples.split("valid").utterances)
        reached.append(score(TASK, outputs, target, warn=False)["UAR"])
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ravdess", type=Path, default=PROJECT.parent / "shared" / "data" / "ravdess_speech")
    parser.add_argument("--cache", type=Path, default=PROJECT / "data" / "08_reporting" / "ravdess_voice")
    parser.add_argument("--only", nargs="+", default=[*STATISTICS, *ATTENTION, *TRAINED])
    options = parser.parse_args()
    for name in options.only:
        kind = STATES if name in STATISTICS else GATHERED if name in ATTENTION else STREAM
        stream = extract(options.ravdess, kind, options.cache)
        names = known(stream)
        labels, speakers = (np.array([fields(name)[place] for name in names]) for place in (2, 6))
        if kind == STREAM:
            one = {"setting": name, "how": "trained branch", "uar": trained(stream, names, *TRAINED[name])}
        else:
            values = np.stack([np.array(stream.ragged[clip]) for clip in names])
            features = {**STATISTICS, **ATTENTION}[name](values)
            how = "closed form" if kind == STATES else "closed form, classes balanced, one penalty for all folds"
            one = {"setting": name, "how": how, "uar": closed_form(features, labels - 1, speakers, kind == GATHERED)}
        print(one, flush=True)
        facts = read_json(FACTS) if FACTS.is_file() else {"tried": []}
        facts["tried"] = [other for other in facts["tried"] if other["setting"] != name] + [one]
        write_json(FACTS, facts)


if __name__ == "__main__":
    main()
