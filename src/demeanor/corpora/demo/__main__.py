"""`python -m demeanor.corpora.demo`: make the synthetic demo corpus, or compute what it allows."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

COMMITTED_SEED = 2
"""The seed of the corpus that comes with Demeanor."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["ceiling"]:
        return _ceiling(arguments[1:])
    if arguments[:1] == ["unseen"]:
        return _unseen(arguments[1:])
    if arguments[:1] == ["conversation"]:
        return _conversation(arguments[1:])
    return _generate(arguments[1:] if arguments[:1] == ["generate"] else arguments)


def _generate(arguments: list[str]) -> int:
    from demeanor.corpora.demo.generate import generate
    from demeanor.data.errors import DemeanorError

    parser = argparse.ArgumentParser("python -m demeanor.corpora.demo", description="Make the synthetic demo corpus.")
    parser.add_argument("--output", type=Path, required=True, help="folder to make or to replace")
    parser.add_argument("--seed", type=int, default=COMMITTED_SEED, help="the same seed makes the same corpus")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--only", type=int, default=None, help="make the first so many clips only")
    options = parser.parse_args(arguments)
    try:
        made = generate(options.output, options.seed, options.jobs, options.only)
    except DemeanorError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(made)} synthetic clips in {options.output}")
    return 0


def _ceiling(arguments: list[str]) -> int:
    from demeanor.corpora.demo.ceiling import markdown_table, write_ceiling

    parser = argparse.ArgumentParser(
        "python -m demeanor.corpora.demo ceiling",
        description="Best achievable scores on the test clips, from the planted truth; writes ceiling.json.",
    )
    parser.add_argument("folder", type=Path, help="the corpus' folder")
    print(markdown_table(write_ceiling(parser.parse_args(arguments).folder)))
    return 0


def _conversation(arguments: list[str]) -> int:
    from demeanor.corpora.demo.conversation import Conversation, make_conversation
    from demeanor.corpora.demo.long import LongConversation, make_long
    from demeanor.data.errors import DemeanorError

    parser = argparse.ArgumentParser(
        "python -m demeanor.corpora.demo conversation",
        description="A longer recording of invented people, its planted truth (.json) and who speaks when (.rttm).",
    )
    parser.add_argument("--output", type=Path, required=True, help="X.mp4")
    parser.add_argument("--turns", type=int, default=20, help="about three and a half seconds each")
    parser.add_argument("--seed", type=int, default=7, help="the same seed makes the same conversation")
    parser.add_argument("--seconds", type=float, help="at least so long: several conversations one after the other")
    parser.add_argument(
        "--parts", type=Path, help="with --seconds: folder that keeps them (default: beside the output)"
    )
    options = parser.parse_args(arguments)
    try:
        made: Conversation | LongConversation
        if options.seconds is None:
            made = make_conversation(options.output, options.turns, seed=options.seed)
        else:
            parts = options.parts or options.output.with_name(f"{options.output.stem}_parts")
            made = make_long(options.output, options.seconds, parts, turns=options.turns)
    except DemeanorError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(made.turns)} turns in {made.duration:.1f} s in {options.output}")
    return 0


def _unseen(arguments: list[str]) -> int:
    import csv

    parser = argparse.ArgumentParser(
        "python -m demeanor.corpora.demo unseen", description="A clip of the test split, which no model has seen."
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data/01_raw/demo"), help="the corpus' folder")
    parser.add_argument("--text", action="store_true", help="its words instead of its path")
    options = parser.parse_args(arguments)
    with open(options.folder / "label.csv", encoding="utf-8", newline="") as handle:
        row = [row for row in csv.DictReader(handle) if row["mode"] == "test"][-1]
    print(row["text"] if options.text else options.folder / "Raw" / row["video_id"] / f"{row['clip_id']}.mp4")
    return 0


if __name__ == "__main__":
    sys.exit(main())
