"""How far answers can be taken at their word on real corpora: calibration, coverage and abstention on sealed tests.

    python tests/benchmarks/bench_trust.py meld /data/meld [--work FOLDER]
    python tests/benchmarks/bench_trust.py --page

The first runs ingestion, features, training and evaluation of the corpus' environment for the cheap branches below, in
a clean clone of this project (its committed state, so that the receipts name the code), and keeps the figures of its
trust.csv and receipts.json in docs/results/trust.json. Both write docs/results/trust.md from that file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from scipy.stats import betabinom

PROJECT = Path(__file__).resolve().parents[2]
RESULTS = PROJECT / "docs" / "results"
STEPS = "ingestion,feature_engineering,fusion_training,evaluation"
SEEDS = [1, 2, 3]
#: corpus -> branches of its environment that are trained here
BRANCHES = {
    "mosi_utterances": ("text_only", "late_fusion", "sentiment_fusion"),
    "meld": ("text_only",),
    "ravdess": ("audio_only",),
}
WHAT = {
    "mosi_utterances": "CMU-MOSI as one vector per utterance and modality; validation dialogues held out of train, "
    "whose text and video vectors had seen the labels and are weakened by exchange ([page](mosi_utterances.md)). "
    "Answers to exchanged vectors are far off, which makes intervals wide: the test is easier than this validation, "
    "and holds more than was promised",
    "meld": "MELD's words: sentence vectors of a frozen MiniLM",
    "ravdess": "RAVDESS by voice: eGeMAPS functionals, no speaker in two splits",
}


def restrict(project: Path, corpus: str) -> None:
    """Let the environment train the cheap branches alone, on streams that they read, and register nothing."""
    known = yaml.safe_load((project / "conf" / corpus / "parameters.yml").read_text(encoding="utf-8"))
    chosen: dict[str, Any] = {
        "workers": "1",
        "evaluation": {"register_champions": False},
        "branches": {
            name: {"enabled": True, "training": {"seeds": SEEDS, "threads": 1}}
            if name in BRANCHES[corpus]
            else {"enabled": False}
            for name in known["branches"]
        },
        "features": {
            modality: {stream: {"when_read": True} for stream in streams}
            for modality, streams in known.get("features", {}).items()
            if isinstance(streams, dict)
        },
    }
    place = project / "conf" / "local" / corpus / "parameters.yml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")


def measure(corpus: str, path: Path, work: Path) -> dict[str, Any]:
    """Run the pipelines on the corpus at `path` in `work`; what the page says of it."""
    clone = work / "project"
    if not clone.exists():
        subprocess.run(["git", "clone", "--quiet", "--shared", str(PROJECT), str(clone)], check=True)
    restrict(clone, corpus)
    environment = {**os.environ, "PYTHONPATH": str(clone / "src"), "KEDRO_DISABLE_TELEMETRY": "1"}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "HF_HUB_OFFLINE": "1"}
    given = f"corpus.options.path={path.resolve()}"
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "kedro", "run", "--env", corpus, "--pipelines", STEPS, "--params", given],
        cwd=clone, env=environment, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    folder = clone / "data" / "08_reporting" / corpus
    receipts = json.loads((folder / "receipts.json").read_text(encoding="utf-8"))
    rows = [
        {**described(row, receipts), "validation": validation_clips(clone, corpus, str(row["branch"]))}
        for row in pd.read_csv(folder / "trust.csv").to_dict("records")
    ]
    return {
        "code": sorted({one["code_revision"] for one in receipts}),
        "data": sorted({one["data_hash"] for one in receipts}),
        "seeds": sorted({one["seed"] for one in receipts}),
        "machine": receipts[0]["machine"]["processor"],
        "seconds": round(seconds, 1),
        "rows": rows,
    }


def validation_clips(project: Path, corpus: str, branch: str) -> int:
    """How many clips calibrated a branch."""
    folder = project / "data" / "06_models" / corpus / "branches" / branch
    card = json.loads(next(folder.glob("*/card.json")).read_text(encoding="utf-8"))
    return int(card["calibration"]["pooled"]["n"])


def expected(row: Mapping[str, Any]) -> tuple[float, float]:
    """Between what 95 % of shares lie that a test of so many clips shows after calibration on so many others, where all
    are of one kind: the beta-binomial distribution of split-conformal coverage (Vovk, 2012, arXiv:1209.2673)."""
    n, coverage = row["validation"], row["promised"]
    rank = math.ceil(round((n + 1) * coverage, 9))
    low, high = betabinom(row["n"], rank, n + 1 - rank).interval(0.95)
    return low / row["n"], high / row["n"]


def described(row: Mapping[Any, Any], receipts: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of trust.csv without what is undefined, with the mean over seeds of the first metric of its receipts."""
    mine = [one["metrics"] for one in receipts if (one["branch"], one["task"]) == (row["branch"], row["task"])]
    metric = next(iter(mine[0]))
    kept = {key: value for key, value in row.items() if not (isinstance(value, float) and math.isnan(value))}
    return {**kept, "metric": metric, "score": sum(one[metric] for one in mine) / len(mine)}


def page(measured: dict[str, dict[str, Any]]) -> str:
    """docs/results/trust.md."""
    revisions = sorted({code for one in measured.values() for code in one["code"]})
    lines = [
        "# Results: how far answers can be taken at their word",
        "",
        f"Made by `python tests/benchmarks/bench_trust.py` at revision {', '.join(revisions)} from receipts of sealed "
        "tests. **Small branches**, the cheapest of each environment, trained as its `conf` says: they show whether "
        "calibration, intervals and abstention hold on data that nobody made for them, not how well a corpus can be "
        "read. Everything was fitted on validation; the test was scored once.",
        "",
        *(
            f"* **{corpus}**: {WHAT[corpus]}. Seeds {', '.join(map(str, one['seeds']))}; data {', '.join(one['data'])}."
            for corpus, one in sorted(measured.items())
        ),
        "",
        "## Calibration of classes, before and after",
        "",
        "| corpus | branch | test clips | wrong | ECE before | ECE after | adaptive ECE | NLL before | NLL after "
        "| Brier before | Brier after |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows = [(corpus, row) for corpus, one in sorted(measured.items()) for row in one["rows"]]
    for corpus, row in rows:
        if "ECE" in row:
            lines.append(
                f"| {corpus} | {row['branch']} | {row['n']} | {row['wrong']:.3f} | {row['raw_ECE']:.3f} | "
                f"{row['ECE']:.3f} | {row['raw_adaptive_ECE']:.3f}, {row['adaptive_ECE']:.3f} | {row['raw_NLL']:.3f} | "
                f"{row['NLL']:.3f} | {row['raw_Brier']:.3f} | {row['Brier']:.3f} |"
            )
    lines += [
        "",
        "## Intervals and sets that are to hold nine of ten labels",
        "",
        "Share of labels of the sealed test that the interval (of a number) or set (of classes) holds, with the 95 % "
        "interval of a binomial share of so many clips; size: length of the interval, or number of classes.",
        "",
        "| corpus | task | branch | validation clips | test clips | promised | held | 95 % interval "
        "| promise within it | expected | as expected | size |",
        "|---|---|---|--:|--:|--:|--:|---|---|---|---|--:|",
    ]
    for corpus, row in rows:
        low, high = row["coverage_low"], row["coverage_high"]
        first, last = expected(row)
        lines.append(
            f"| {corpus} | {row['task']} | {row['branch']} | {row['validation']} | {row['n']} | {row['promised']:.2f} "
            f"| {row['coverage']:.3f} | [{low:.3f}, {high:.3f}] | {'yes' if low <= row['promised'] <= high else 'no'} "
            f"| [{first:.3f}, {last:.3f}] | {as_expected(row['coverage'], first, last)} | {row['size']:.2f} |"
        )
    lines += [
        "",
        "The promise is kept on average over validation sets, for new clips of the same kind. A single validation set "
        "of some hundred clips moves it beside the test's own error: `expected` holds 95 % of the shares that both "
        "together allow. Outside of it the test is of another kind than validation: its speakers or dialogues are "
        "others, and validation chose the epoch.",
        "",
        "## Answering only where it is sure",
        "",
        "AURC: mean share of wrong answers over all shares given, the surest first; lower is better, and `wrong` is "
        "what answers in any order have. Before: by the same system's confidence as it was (largest probability; of a "
        "number, its distance from the middle of the scale).",
        "",
        "| corpus | branch | wrong | AURC before | AURC after | wrong among the surest 80 % | answered at 10 % wrong |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for corpus, row in rows:
        lines.append(
            f"| {corpus} | {row['branch']} | {row['wrong']:.3f} | {row['raw_AURC']:.4f} | {row['AURC']:.4f} | "
            f"{row['risk_at_coverage_0.8']:.3f} | {row['coverage_at_risk_0.1']:.1%} |"
        )
    lines += [
        "",
        "One temperature for all clips cannot change the order of two classes' confidences, so AURC moves only where "
        "there are more classes, where clips have different modalities, or, of a number, where errors are lopsided.",
        "",
    ]
    return "\n".join(lines)


def as_expected(held: float, low: float, high: float) -> str:
    if low <= held <= high:
        return "yes"
    return "no, more" if held > high else "no, fewer"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", nargs="?", choices=sorted(BRANCHES))
    parser.add_argument("path", nargs="?", type=Path, help="where the corpus lies")
    parser.add_argument("--work", type=Path, help="keep the run's project here; default: a folder that is removed")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    options = parser.parse_args()
    if not options.page and options.path is None:
        parser.error("name a corpus and its folder, or --page")
    kept = RESULTS / "trust.json"
    measured = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if not options.page:
        with tempfile.TemporaryDirectory() as scratch:
            measured[options.corpus] = measure(options.corpus, options.path, options.work or Path(scratch))
        kept.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (RESULTS / "trust.md").write_text(page(measured), encoding="utf-8")
    print(f"written: {RESULTS / 'trust.md'}")


if __name__ == "__main__":
    main()
