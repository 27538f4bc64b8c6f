"""How far answers can be taken at their word on sealed tests: calibration, coverage and abstention on real corpora, and
contributions against the demo's planted truth.

    python -m tests.benchmarks.bench_trust meld /data/meld [--work FOLDER]
    python -m tests.benchmarks.bench_trust demo [--work FOLDER]
    python -m tests.benchmarks.bench_trust --page

The first runs ingestion, features, training and evaluation of the corpus' environment for the cheap branches below, in
a clean clone of this project (its committed state, so that the receipts name the code), and keeps the figures of its
trust.csv, reasons.csv and receipts.json in docs/results/trust.json; the second runs the whole job of the demo, and
keeps those of its champions. All write docs/results/trust.md from that file.
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

from tests.benchmarks.trust_page import page

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
DEMO = "demo"


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


def measure(corpus: str, path: Path | None, work: Path) -> dict[str, Any]:
    """Run the pipelines on the corpus at `path` in `work`, without one the whole job; what the page says of it."""
    clone = work / "project"
    if not clone.exists():
        subprocess.run(["git", "clone", "--quiet", "--shared", str(PROJECT), str(clone)], check=True)
    if corpus != DEMO:
        restrict(clone, corpus)
    environment = {**os.environ, "PYTHONPATH": str(clone / "src"), "KEDRO_DISABLE_TELEMETRY": "1"}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    more = [] if path is None else ["--pipelines", STEPS, "--params", f"corpus.options.path={path.resolve()}"]
    subprocess.run(
        [sys.executable, "-m", "kedro", "run", "--env", corpus, *more], cwd=clone, env=environment, check=True
    )
    seconds = time.perf_counter() - began
    return {**found(clone / "data" / "08_reporting" / corpus, corpus == DEMO), "seconds": round(seconds, 1)}


def found(folder: Path, champions: bool) -> dict[str, Any]:
    """What a finished run left in its folder of reports, of its champions alone where so asked."""
    receipts = json.loads((folder / "receipts.json").read_text(encoding="utf-8"))
    reasons = pd.read_csv(folder / "reasons.csv")
    table = pd.read_csv(folder / "trust.csv")
    if champions:
        chosen = pd.read_csv(folder / "slices.csv")["branch"].unique()
        table = table[table["branch"].isin(chosen)]
        receipts = [one for one in receipts if one["branch"] in chosen]
    return {
        "code": sorted({one["code_revision"] for one in receipts}),
        "data": sorted({one["data_hash"] for one in receipts}),
        "seeds": sorted({one["seed"] for one in receipts}),
        "machine": receipts[0]["machine"]["processor"],
        "rows": [described(row, receipts) for row in table.to_dict("records")],
        "reasons": [stated(row) for row in reasons.to_dict("records")],
    }


def stated(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of a table without what is undefined."""
    return {str(key): value for key, value in row.items() if not (isinstance(value, float) and math.isnan(value))}


def described(row: Mapping[Any, Any], receipts: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of trust.csv without what is undefined, with the mean over seeds of the first metric of its receipts."""
    mine = [one["metrics"] for one in receipts if (one["branch"], one["task"]) == (row["branch"], row["task"])]
    metric = next(iter(mine[0]))
    return {**stated(row), "metric": metric, "score": sum(one[metric] for one in mine) / len(mine)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", nargs="?", choices=sorted([*BRANCHES, DEMO]))
    parser.add_argument("path", nargs="?", type=Path, help="where the corpus lies; the demo is bundled")
    parser.add_argument("--work", type=Path, help="keep the run's project here; default: a folder that is removed")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    options = parser.parse_args()
    if not options.page and (options.corpus is None or (options.path is None) != (options.corpus == DEMO)):
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
