"""docs/results/ravdess.md out of docs/results/ravdess.json: figures, paired test and verdict; nothing is typed by hand
but the notes in ravdess_notes.md, which hold what cannot be computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demeanor.data.task import Task
from demeanor.evaluation.folds import fold_table
from demeanor.evaluation.metrics import metrics_of
from demeanor.evaluation.receipts import Receipt
from demeanor.evaluation.resampling import Draws, Resampler, bootstrap, interval, two_sided_p
from demeanor.evaluation.tables import aligned
from demeanor.training.settings import TrainingSettings
from tests.benchmarks.ravdess_features import STATISTICS

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
PAGE, FACTS = RESULTS / "ravdess.md", RESULTS / "ravdess.json"
PROBES = RESULTS.parent / "benchmarks" / "ravdess.json"
PROBE, STACKED_PROBE, CHOSEN_PROBE = "linear_probe", "linear_probe_side_by_side", "linear_probe_chosen"
BEFORE, AVERAGE, RIDGE = "speech_stack", "speech_stack_average", "speech_ridge"
OWN_MEAN = "speech_ridge_own_mean"
BRANCHES = (RIDGE,)
LABELS = {
    PROBE: "Whisper base, states: mean of layers 3 to 6, linear probe",
    STACKED_PROBE: "Whisper base, states: layers 2 to 5 side by side, linear probe",
    CHOSEN_PROBE: "Whisper base, states: statistics chosen in each fold on its training speakers, linear probe",
    BEFORE: "Whisper base, states: layers 2 to 5 side by side, trained (the branch `speech_stack` of before)",
    AVERAGE: "the same, its seeds averaged (one system of five networks)",
    RIDGE: "Whisper base, attention: layers 2 to 4 side by side, the environment's branch `speech_ridge`",
}
#: Who asks about one recording has no others of its speaker: a row that is not to be compared with those above.
APART = {OWN_MEAN: "`speech_ridge`, the mean of each speaker's own 60 clips taken away"}
AIMED = {BEFORE: "the trained branch of before", AVERAGE: "the average of its seeds", RIDGE: "`speech_ridge`"}
COMPARED = {
    (RIDGE, STACKED_PROBE): ("`speech_ridge`", "the probe on the states of four layers"),
    (RIDGE, BEFORE): ("`speech_ridge`", "the trained branch of before"),
    (RIDGE, AVERAGE): ("`speech_ridge`", "the average of its seeds"),
    (BEFORE, STACKED_PROBE): ("The trained branch of before", "the probe on the same layers"),
}
METRICS = ("UAR", "accuracy", "macro_F1")
AIM = 0.80
#: Published under the six folds of EmoBox (all 24 actors): other folds, so beside the table and not in it.
PUBLISHED = {"HuBERT base": 0.654, "WavLM large": 0.720, "Whisper large v3": 0.753}


def classes_of(answers: str) -> np.ndarray:
    """[N] classes, from a digit for each clip."""
    return np.frombuffer(answers.encode(), np.uint8).astype(np.int64) - ord("0")


def answers_of(outputs: np.ndarray) -> str:
    """A digit for each clip, from outputs [N, 8]: which class was answered."""
    return "".join(map(str, outputs.argmax(axis=1).tolist()))


def draws_of(facts: Mapping[str, Any], task: Task) -> dict[str, Draws]:
    """UAR over all clips of each system, with speakers resampled, the same ones for all."""
    target, speakers = classes_of(facts["target"]), np.array(facts["speakers"])
    once = np.eye(len(task.classes))
    names = [name for name in (*LABELS, *APART) if name in facts["answers"]]
    said = [np.stack([once[classes_of(one)] for one in facts["answers"][name]]) for name in names]
    metric = {"UAR": metrics_of(task)["UAR"]}
    found = bootstrap(metric, said, target, Resampler.over(len(target), speakers))
    return {name: one["UAR"] for name, one in zip(names, found, strict=True)}


def compared(first: Draws, second: Draws, names: tuple[str, str]) -> str:
    """What the paired test says of the first against the second."""
    apart = first.resampled - second.resampled
    low, high = interval(apart)
    p = two_sided_p(apart)
    difference = f"{first.mean - second.mean:+.3f}, interval [{low:+.3f}, {high:+.3f}], p {p:.3f}, speakers resampled"
    if low > 0:
        said = f"{names[0]} is better than {names[1]}"
    elif high < 0:
        said = f"{names[0]} is worse than {names[1]}"
    else:
        said = f"{names[0]} and {names[1]} cannot be told apart"
    return f"{said} ({difference})."


def aimed(draws: Draws, name: str) -> str:
    low, high = interval(draws.resampled)
    reached = "is reached" if draws.mean >= AIM else "is not reached"
    where = "lies above" if low > AIM else "lies below" if high < AIM else "includes"
    return (
        f"The aim of {AIM:.2f} {reached} by {name}: {draws.mean:.3f}; its interval [{low:.3f}, {high:.3f}] {where} it."
    )


def page(facts: Mapping[str, Any], probes: Mapping[str, Any], notes: str, task: Task) -> str:
    """The whole page. facts: docs/results/ravdess.json; probes: docs/benchmarks/ravdess.json."""
    receipts = [Receipt(**entry) for entry in facts["receipts"]]
    folds: dict[str, list[Receipt]] = {}
    for receipt in receipts:
        folds.setdefault(receipt.split.removeprefix("test, "), []).append(receipt)
    draws = draws_of(facts, task)
    seeds = ", ".join(map(str, sorted({receipt.seed for receipt in receipts if receipt.seed})))
    tried = facts["tried"]
    body = [[f"{name}, linear probe", f"{np.mean(values):.3f}", ""] for name, values in probes["uar"].items()]
    intervals = {name: "[{:.3f}, {:.3f}]".format(*interval(one.resampled)) for name, one in draws.items()}
    labels = {name: label for name, label in LABELS.items() if name in draws}
    body += [[label, f"{draws[name].mean:.3f}", intervals[name]] for name, label in labels.items()]
    lines = [
        "# Results: ravdess, by voice",
        "",
        f"Made by `python -m tests.benchmarks.ravdess_voice` from {len(receipts)} receipts (ravdess.json beside this "
        f"page): {len(facts['target'])} clips of {len(set(facts['speakers']))} speakers in {len(folds)} folds apart, "
        f"seeds {seeds}, code {', '.join(sorted({receipt.code_revision for receipt in receipts}))}. Eight classes, "
        "chance .125; unweighted average recall (UAR).",
        "",
        *aligned(["system", "UAR over all clips", "95 % interval, by speaker"], body),
        "",
        "Rows without an interval are means over the same folds ([how](../benchmarks/ravdess.md)).",
        "",
        *(
            compared(draws[one], draws[other], said)
            for (one, other), said in COMPARED.items()
            if {one, other} <= set(draws)
        ),
        *(aimed(draws[name], said) for name, said in AIMED.items() if name in draws),
        "",
        *(
            f"**Apart**, for it can be asked only where a speaker has many clips: {label}: {draws[name].mean:.3f} "
            f"{intervals[name]} (validation {np.mean(facts['valid'][name]):.3f})."
            for name, label in APART.items()
        ),
        "",
        "On the validation speakers of the folds: "
        + ", ".join(f"{name} {np.mean(facts['valid'][name]):.3f}" for name in LABELS if name in facts["valid"])
        + ".",
        *(f"- `{name}`: {said_of(settings)}." for name, settings in facts["branches"].items()),
        "",
        f"Chosen for the folds, among {len(STATISTICS)} of the states that the closed form tries: "
        f"{'; '.join(facts['chosen'])}.",
        "",
        f"## {len(tried)} settings tried, on validation alone",
        "",
        *tried_table(tried),
        "",
    ]
    for branch in draws:
        lines += [f"## {branch}", "", *fold_table(folds, task.name, branch, METRICS), ""]
    published = ", ".join(f"{name} {value:.3f}" for name, value in PUBLISHED.items())
    lines += [
        "Published under **other folds** (EmoBox: six of four actors, all 24 actors; frozen last layer), so not to be "
        f"compared to the last point: {published}. Whoever has all 24 actors tests in those folds: `kedro run --env "
        "ravdess --params corpus.options.emobox=1` to 6.",
        "",
    ]
    return "\n".join([*lines, notes.strip(), ""])


def said_of(branch: Mapping[str, Any]) -> str:
    """The settings of a branch that differ from a system's and the loop's own, in one line."""
    usual = TrainingSettings().as_dict()
    told = ((name, value) for name, value in branch["training"].items() if name not in ("seeds", "threads"))
    training = {name: value for name, value in told if value != usual[name]}
    return ", ".join([branch["system"], *(f"{k} {v}" for k, v in [*branch["model"].items(), *training.items()])])


def tried_table(tried: Sequence[Mapping[str, Any]]) -> list[str]:
    """Best first; deviation over the folds' training speakers."""
    ordered = sorted(tried, key=lambda one: -float(np.mean(one["uar"])))
    body = [
        [one["setting"], one["how"], f"{np.mean(one['uar']):.3f}", " ".join(f"{value:.3f}" for value in one["uar"])]
        for one in ordered
    ]
    return aligned(["setting", "how", "UAR", "by fold"], body)
