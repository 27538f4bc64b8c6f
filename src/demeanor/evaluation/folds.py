"""One table for several folds of a corpus: each session or speaker by itself, then mean and standard deviation.

    python -m demeanor.evaluation.folds session_1.json session_2.json ... [--metrics accuracy UAR]

A file is the receipts.json that one run left; its name is the fold's. Within a fold the mean is over seeds; the last
row is the mean over folds with their standard deviation (n - 1), every fold counting alike, however large it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from demeanor.data.errors import InputError
from demeanor.data.files import read_json
from demeanor.evaluation.receipts import Receipt
from demeanor.evaluation.tables import aligned


def read_folds(paths: Sequence[Path | str]) -> dict[str, list[Receipt]]:
    """Name of each file, without its suffix -> its receipts of whole systems (ablations are left out). InputError names
    the files that hold no receipts."""
    folds: dict[str, list[Receipt]] = {}
    problems = []
    for path in map(Path, paths):
        try:
            found = [Receipt(**entry) for entry in read_json(path)]
        except (OSError, ValidationError, ValueError, TypeError) as error:
            problems.append(f"{path}: {' '.join(str(error).split())[:160]}")
            continue
        if path.stem in folds:
            problems.append(f"{path}: there is another fold '{path.stem}'")
        folds[path.stem] = [receipt for receipt in found if not receipt.modalities]
    if problems:
        raise InputError("folds", problems, "Give the receipts.json of each run, copied under a name of its own.")
    return folds


def fold_table(folds: Mapping[str, Sequence[Receipt]], task: str, branch: str, metrics: Sequence[str]) -> list[str]:
    """Lines of a markdown table of one branch: a row per fold, then mean ± deviation.

    InputError where a fold lacks the branch or a metric, or where two folds were scored on the same utterances' data.
    """
    rows: dict[str, tuple[int, int, list[float]]] = {}
    problems = []
    for name, receipts in folds.items():
        own = [receipt for receipt in receipts if (receipt.task, receipt.branch) == (task, branch)]
        lacking = {metric for metric in metrics for receipt in own if metric not in receipt.metrics}
        if not own or lacking:
            problems.append(f"fold '{name}' has no {', '.join(sorted(lacking)) or f'receipt of {branch} on {task}'}")
            continue
        means = [float(np.mean([receipt.metrics[metric] for receipt in own])) for metric in metrics]
        rows[name] = (len(own), own[0].n, means)
    hashes = [{receipt.data_hash for receipt in receipts if receipt.task == task} for receipts in folds.values()]
    if len(folds) > 1 and any(hashes[0] == other for other in hashes[1:]):
        problems.append("two folds were scored on the same data: was a receipt copied twice?")
    if problems:
        raise InputError(f"folds of {branch}", problems)
    body = [
        [name, str(seeds), str(n), *(f"{value:.3f}" for value in means)] for name, (seeds, n, means) in rows.items()
    ]
    values = np.array([means for _, _, means in rows.values()])
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(len(metrics), np.nan)
    total = [f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in zip(values.mean(axis=0), spread, strict=True)]
    return aligned(["fold", "seeds", "utterances", *metrics], [*body, ["mean", "", "", *total]])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each task and branch of the receipts on the command line."""
    parser = argparse.ArgumentParser(description="One table for several folds of a corpus.")
    parser.add_argument("receipts", nargs="+", type=Path)
    parser.add_argument("--metrics", nargs="+", default=["accuracy", "UAR", "weighted_F1", "macro_F1"])
    chosen = parser.parse_args(arguments)
    folds = read_folds(chosen.receipts)
    first = next(iter(folds.values()))
    shown = dict.fromkeys((receipt.task, receipt.branch) for receipt in first if chosen.metrics[0] in receipt.metrics)
    for task, branch in shown:
        sys.stdout.write("\n".join([f"{branch}, {task}", "", *fold_table(folds, task, branch, chosen.metrics), "", ""]))


if __name__ == "__main__":
    main()
