"""Which statistics of Whisper base's layers serve RAVDESS, and how the branch is best trained: training speakers alone.

    python -m tests.benchmarks.ravdess_trials [--ravdess FOLDER] [--cache FOLDER] [--only NAME ...]

In each fold of ravdess_voice.py the four test speakers are left out. The twelve others are parted into four threes,
each of which is predicted from the nine others (closed form); or the fold's three validation speakers are (trained
branch, seed 1 unless a setting says otherwise, best epoch). What is reached goes to docs/results/ravdess.json, `tried`,
from which the page counts the settings; a setting that stands there already is replaced. "Closed form" is least squares
on class indicators with a penalty chosen by the same threes, a stand-in for a trained linear head that costs a fraction
of a second. Nothing of one fold looks at another: ravdess_voice.py may choose by it in each fold.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from demeanor.data.files import read_json, write_json
from demeanor.data.stream import Stream
from demeanor.evaluation.metrics import score
from demeanor.training.settings import BranchSettings
from tests.benchmarks.ravdess_features import (
    FOLDS,
    PROJECT,
    STATISTICS,
    STREAM,
    TASK,
    Values,
    environment,
    examples_of,
    extract,
    fields,
    parts_of,
    softmax,
)  # fmt: skip
from tests.benchmarks.ravdess_page import FACTS

PENALTIES = (0.1, 0.3, 1.0, 3.0)
_STACK = {"layers": 7, "stacked": [2, 3, 4, 5], "dropout": 0.5}
#: name -> (settings of audio_only, training) where they differ from `TRAINING`
TRAINED: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "learnt mix of 7 layers, dropout .2, 16 epochs (as before)": ({"layers": 7, "dropout": 0.2}, {"epochs": 16}),
    "learnt mix of 7 layers, dropout .5": ({"layers": 7, "dropout": 0.5}, {}),
    "attention over 7 layers, 128 wide, dropout .5": ({"hidden": 128, "dropout": 0.5}, {}),
    "layers 2-5 side by side, dropout .5": (_STACK, {}),
    "layers 2-5 side by side, dropout .2": ({**_STACK, "dropout": 0.2}, {}),
    "layers 2-5 side by side, dropout .8": ({**_STACK, "dropout": 0.8}, {}),
    "layers 2-5 side by side, dropout .5, decay 1": (_STACK, {"weight_decay": 1.0}),
    "layers 2-5 side by side, dropout .5, rate 3e-4": (_STACK, {"learning_rate": 3e-4}),
    "layers 2-5 side by side, dropout .5, rate 3e-4, batches of 128": (
        _STACK, {"learning_rate": 3e-4, "batch_size": 128},
    ),
    "layers 2-5 side by side, dropout .5, rate 3e-4, decay 3, cosine": (
        _STACK, {"learning_rate": 3e-4, "weight_decay": 3.0, "schedule": "cosine"},
    ),
    "layers 2-4 side by side, dropout .5": ({**_STACK, "stacked": [2, 3, 4]}, {}),
    "layers 1-6 side by side, dropout .5": ({**_STACK, "stacked": [1, 2, 3, 4, 5, 6]}, {}),
    "layers 2-5 side by side, dropout .5, seeds 1 to 5 averaged": (_STACK, {"seeds": [1, 2, 3, 4, 5]}),
}  # fmt: skip
TRAINING = {"seeds": [1], "epochs": 30, "patience": 30, "batch_size": 32, "weight_decay": 0.1, "threads": 1}


def closed_form(values: Values, labels: np.ndarray, speakers: np.ndarray) -> list[float]:
    """UAR on training speakers, of each fold, with the penalty that is best on them; values [N, D]."""
    recall = np.zeros((len(PENALTIES), FOLDS))
    for fold in range(FOLDS):
        parts = parts_of(speakers.tolist(), fold)
        rest = [speaker for speaker in sorted(parts) if parts[speaker] != "test"]
        for number in range(4):
            held = np.isin(speakers, rest[number::4])
            train = np.isin(speakers, rest) & ~held
            for n, answers in enumerate(least_squares(values[train], labels[train], values[held])):
                recall[n, fold] += float(np.mean([(answers[labels[held] == c] == c).mean() for c in range(8)])) / 4
    return [float(value) for value in recall.max(axis=0)]


def least_squares(x: Values, y: np.ndarray, other: Values) -> list[np.ndarray]:
    """For each penalty the classes [M] of `other` [M, D], after x [N, D] and y [N]; columns standardised by x."""
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6 * x.std(axis=0).max()
    x, other = (x - mean) / scale, (other - mean) / scale
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
    parser.add_argument("--only", nargs="+", default=[*STATISTICS, *TRAINED])
    options = parser.parse_args()
    stream = extract(options.ravdess, environment()["features"]["audio"][STREAM], options.cache)
    names = [name for name in sorted(stream.ragged.ids) if len(stream.ragged[name])]
    values = np.stack([np.array(stream.ragged[name]) for name in names])
    labels, speakers = (np.array([fields(name)[place] for name in names]) for place in (2, 6))
    for name in options.only:
        if name in STATISTICS:
            one = {"setting": name, "how": "closed form"}
            one["uar"] = closed_form(STATISTICS[name](values), labels - 1, speakers)
        else:
            one = {"setting": name, "how": "trained branch", "uar": trained(stream, names, *TRAINED[name])}
        print(one, flush=True)
        facts = read_json(FACTS) if FACTS.is_file() else {"tried": []}
        facts["tried"] = [other for other in facts["tried"] if other["setting"] != name] + [one]
        write_json(FACTS, facts)


if __name__ == "__main__":
    main()
