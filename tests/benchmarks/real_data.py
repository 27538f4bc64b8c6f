"""Pages of results on real data, from the receipts and the comparison that a finished run left.

    kedro run --env mosi_utterances
    python tests/benchmarks/real_data.py mosi_utterances [--data data] [--notes FILE]

writes docs/results/<corpus>.md. Nothing is computed here beyond counting: the numbers are those of
data/08_reporting/<corpus>/comparison.md, made from receipts, with intervals and paired tests, and representations.md.
What cannot be computed (how settings were chosen, how many, what is published) is in <corpus>_notes.md beside this.
Receipts that do not name the revision of the code make no page: score in a git checkout.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from demeanor.evaluation.environment import UNKNOWN

PROJECT = Path(__file__).resolve().parents[2]
RESULTS = PROJECT / "docs" / "results"


def page(corpus: str, receipts: list[dict], comparison: str, representations: str, notes: str) -> str:
    scored = {receipt["task"]: receipt["n"] for receipt in receipts}
    seeds = sorted({receipt["seed"] for receipt in receipts})
    hashes = sorted({receipt["data_hash"] for receipt in receipts})
    revisions = sorted({str(receipt["code_revision"]) for receipt in receipts})
    if UNKNOWN in revisions:
        raise SystemExit(f"receipts of {corpus} name no revision of the code: score it again in a git checkout")
    listed = ", ".join(f"{count} utterances for {task}" for task, count in scored.items())
    lines = [
        f"# Results: {corpus}",
        "",
        f"Made by `kedro run --env {corpus}` and `python tests/benchmarks/real_data.py {corpus}` from {len(receipts)} "
        f"receipts: the sealed test ({listed}; data {', '.join(hashes)}), seeds {', '.join(map(str, seeds))}, code "
        f"{', '.join(revisions)}. Systems and epochs were chosen on validation.",
        "",
        *([notes.strip(), ""] if notes.strip() else []),
        comparison.strip(),
        "",
        *(["# representations without labels", "", representations.strip(), ""] if representations.strip() else []),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("--data", type=Path, default=PROJECT / "data")
    parser.add_argument("--notes", type=Path, help="another markdown file of what the reader should know")
    options = parser.parse_args()
    folder = options.data / "08_reporting" / options.corpus
    receipts = json.loads((folder / "receipts.json").read_text(encoding="utf-8"))
    comparison = (folder / "comparison.md").read_text(encoding="utf-8")
    probed = folder / "representations.md"
    representations = probed.read_text(encoding="utf-8") if probed.is_file() else ""
    told = options.notes or Path(__file__).with_name(f"{options.corpus}_notes.md")
    notes = told.read_text(encoding="utf-8") if options.notes or told.is_file() else ""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{options.corpus}.md"
    path.write_text(page(options.corpus, receipts, comparison, representations, notes), encoding="utf-8")
    print(f"written: {path.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
