"""Runs cases one after the other in a process of its own: `python -m tests.fuzz.worker FIRST COUNT KIND ...`.

A line of JSON before and after every case tells the test that watches which one is at work, so that a case that never
ends, or that takes the process down, is known by its name.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
import traceback
from pathlib import Path

#: Bytes of address space beyond what is in use once everything is imported: an allocation beyond it fails at once.
MOST_SPACE = 6 << 30
#: Bytes that the process may have held at its worst beyond what it held before the first case.
MOST_MEMORY = 1_500 << 20


def main(arguments: list[str]) -> None:
    from demeanor.data.errors import DemeanorError
    from tests.fuzz.cases import KINDS

    first, count, kinds = int(arguments[0]), int(arguments[1]), arguments[2:]
    logging.disable(logging.CRITICAL)
    for kind in kinds:
        with tempfile.TemporaryDirectory() as place:
            # The first of a kind imports what it needs; it counts as a case all the same.
            _run(kind, 0, KINDS, Path(place), DemeanorError)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_SPACE, used + MOST_SPACE))
    before = _peak()
    _say(ready=True)
    for number in range(first, first + count):
        kind = kinds[number % len(kinds)]
        _say(kind=kind, number=number)
        with tempfile.TemporaryDirectory() as place:
            ended = _run(kind, number // len(kinds), KINDS, Path(place), DemeanorError)
        _say(kind=kind, number=number, ended=ended, memory=_peak() - before)


def _run(kind: str, number: int, kinds: dict, place: Path, expected: type[Exception]) -> str:
    """ "well", "refused", or the traceback of what should not have been raised."""
    try:
        kinds[kind](number)(place)
    except expected:
        return "refused"
    except BaseException:
        return traceback.format_exc()
    return "well"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
