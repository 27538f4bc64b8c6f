"""Errors that say what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class DemeanorError(Exception):
    """Base of every error that Demeanor raises on purpose."""


class InputError(DemeanorError):
    """Something that the user gave cannot be used; all problems found are listed at once."""

    def __init__(self, where: str, problems: Sequence[str], advice: str = "", shown: int = 10):
        self.where = where
        self.problems = tuple(problems)
        self.advice = advice
        lines = [f"{where}: {len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"]
        lines += [f"  - {problem}" for problem in self.problems[:shown]]
        if len(self.problems) > shown:
            lines.append(f"  ... and {len(self.problems) - shown} more")
        if advice:
            lines.append(advice)
        super().__init__("\n".join(lines))

    def __reduce__(self):
        # Worker processes hand errors over by pickling, which would otherwise call __init__ with one string.
        return type(self), (self.where, self.problems, self.advice)


class Stopped(KeyboardInterrupt):
    """The system asks the process to stop, by `kill` or because its terminal is closed; `number` is the signal's.

    What is written against Ctrl-C is right for it as well, so it is a kind of that.
    """

    def __init__(self, number: int):
        self.number = number
        super().__init__(f"signal {number}")

    def __reduce__(self):
        return type(self), (self.number,)


class ProvenanceError(DemeanorError):
    """Features were made in another way than those a model was trained on."""


class MissingExtraError(DemeanorError):
    """An optional package is needed for what was asked; `then` is a command beside the extra's own."""

    def __init__(self, what: str, extra: str, then: str = ""):
        self.what, self.extra, self.then = what, extra, then
        after = f" && {then}" if then else ""
        super().__init__(f"{what} needs an optional package: pip install 'demeanor[{extra}]'{after}")

    def __reduce__(self):
        return type(self), (self.what, self.extra, self.then)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: ' Did you mean X?' or the list of what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" There is: {', '.join(known)}." if known else ""
