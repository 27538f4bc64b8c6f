"""One language of labels: the spaces in which corpora label, and maps between them that say what is lost.

A map never invents: a class without a counterpart becomes no label (missing, neither learnt from nor scored), and no
map leads from an emotion to a number, nor from polarity to an emotion. Valence and arousal (IEMOCAP's scales of five)
have no map: they are annotated or they are not there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from demeanor.data.errors import InputError, nearest

EKMAN = ("anger", "disgust", "fear", "joy", "sadness", "surprise")


@dataclass(frozen=True)
class LabelSpace:
    """What a label may be: one of `classes`, or, where there are none, a number from `low` to `high`."""

    name: str
    title: str
    classes: tuple[str, ...] = ()
    low: float = -np.inf
    high: float = np.inf

    def holds(self, labels: pd.Series) -> pd.Series:
        """True where a label is of this space; a missing one is not."""
        if self.classes:
            return labels.isin(self.classes)
        return pd.to_numeric(labels, errors="coerce").between(self.low, self.high)


@dataclass(frozen=True)
class LabelMap:
    """From one space to another. Of classes: `pairs`, class -> class of the target; one that is not in it becomes
    missing. Of numbers: cut at zero, which is the class in the middle. `why` says what no table can."""

    source: LabelSpace
    target: LabelSpace
    pairs: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    @property
    def dropped(self) -> tuple[str, ...]:
        """Classes that become no label."""
        return tuple(name for name in self.source.classes if name not in self.pairs)

    @property
    def merged(self) -> dict[str, tuple[str, ...]]:
        """Class of the target -> the several classes that become it."""
        groups = {name: tuple(one for one in self.source.classes if self.pairs.get(one) == name) for name in self._made}
        return {name: group for name, group in groups.items() if len(group) > 1}

    @property
    def unreached(self) -> tuple[str, ...]:
        """Classes of the target that nothing becomes: a corpus mapped so holds no example of them."""
        return tuple(name for name in self.target.classes if name not in self._made)

    @property
    def _made(self) -> set[str]:
        return set(self.pairs.values()) if self.source.classes else set(self.target.classes)

    @property
    def lost(self) -> tuple[str, ...]:
        """What the target no longer tells, in sentences; nothing where the map is one to one."""
        said = [] if self.source.classes else ["how strong it is: only the side of zero stays"]
        said += [f"{', '.join(self.dropped)}: no label"] if self.dropped else []
        said += [f"{', '.join(group)} are one: {name}" for name, group in sorted(self.merged.items())]
        said += [f"no example of {', '.join(self.unreached)}"] if self.unreached else []
        return (*said, *([self.why] if self.why else []))

    def __call__(self, labels: pd.Series) -> pd.Series:
        """Labels of the target, missing (None) where there is none; what is not of the source is none either."""
        known = self.source.holds(labels)
        if self.source.classes:
            mapped = labels.map(self.pairs)
        else:
            negative, neutral, positive = self.target.classes
            sign = np.sign(pd.to_numeric(labels, errors="coerce"))
            mapped = sign.map({-1.0: negative, 0.0: neutral, 1.0: positive})
        return mapped.astype(object).where(known & mapped.notna(), None)


SPACES = {
    space.name: space
    for space in (
        LabelSpace("ekman", "Ekman's six", EKMAN),
        LabelSpace("meld", "MELD's seven", ("neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust")),
        LabelSpace("iemocap_4", "IEMOCAP's four", ("anger", "happiness", "sadness", "neutral")),
        LabelSpace(
            "iemocap_6", "IEMOCAP's six",
            ("happiness", "sadness", "neutral", "anger", "excitement", "frustration"),
        ),
        LabelSpace(
            "ravdess", "RAVDESS' eight",
            ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"),
        ),
        LabelSpace("polarity", "three sides", ("negative", "neutral", "positive")),
        LabelSpace("sentiment", "MOSI's and MOSEI's number", low=-3.0, high=3.0),
    )
}  # fmt: skip

_EKMAN = {name: name for name in EKMAN}
_NEGATIVE = dict.fromkeys(("anger", "disgust", "fear", "sadness"), "negative")
_FELT = "a polarity of the emotion's name: somebody may say something friendly in anger"
_SHORT = {name: name for name in ("anger", "sadness", "neutral")}


def _maps() -> Iterator[LabelMap]:
    def one(source: str, target: str, pairs: Mapping[str, str], why: str = "") -> LabelMap:
        return LabelMap(SPACES[source], SPACES[target], dict(pairs), why)

    joyful = {"happiness": "joy"}
    yield one("meld", "ekman", _EKMAN)
    yield one("ekman", "meld", _EKMAN)
    yield one("meld", "iemocap_4", {**_SHORT, "joy": "happiness"})
    yield one("iemocap_4", "meld", {**_SHORT, **joyful})
    yield one("iemocap_4", "ekman", {"anger": "anger", "sadness": "sadness", **joyful})
    yield one("iemocap_6", "iemocap_4", {**_SHORT, "happiness": "happiness", "excitement": "happiness"},
              "the field's usual four: excitement counts as happiness")  # fmt: skip
    yield one("iemocap_6", "meld", {**_SHORT, **joyful, "excitement": "joy"},
              "frustration is not anger: whoever heard it had both to choose from")  # fmt: skip
    yield one("iemocap_6", "ekman", {"anger": "anger", "sadness": "sadness", **joyful, "excitement": "joy"})
    acted = {name: name for name in ("sadness", "anger", "fear", "disgust", "surprise")}
    yield one("ravdess", "meld", {**acted, **joyful, "neutral": "neutral", "calm": "neutral"}, "acted, two sentences")
    yield one("ravdess", "ekman", {**acted, **joyful}, "acted, two sentences")
    yield one("ravdess", "iemocap_4", {**_SHORT, "calm": "neutral", "happiness": "happiness"}, "acted, two sentences")
    yield one("ekman", "polarity", {**_NEGATIVE, "joy": "positive"}, _FELT)
    yield one("meld", "polarity", {**_NEGATIVE, "joy": "positive", "neutral": "neutral"}, _FELT)
    yield one("iemocap_6", "polarity", {
        "anger": "negative", "sadness": "negative", "frustration": "negative", "neutral": "neutral",
        "happiness": "positive", "excitement": "positive",
    }, _FELT)  # fmt: skip
    yield one("sentiment", "polarity", {}, "neutral is exactly 0")


MAPS = {(one.source.name, one.target.name): one for one in _maps()}


def space_of(classes: Collection[str]) -> LabelSpace:
    """The registered space of just these classes, in whatever order; InputError if there is none."""
    found = next((space for space in SPACES.values() if space.classes and set(space.classes) == set(classes)), None)
    if found is None:
        problem = f"there is no space of the classes {', '.join(classes)}"
        raise InputError("space of labels", [problem], "docs/corpora.md#one-language-of-labels lists all spaces.")
    return found


def find_map(source: str, target: str) -> LabelMap:
    """The registered map between two spaces; InputError names those that there are."""
    problems = [
        f"there is no space '{name}'.{nearest(name, SPACES)}" for name in (source, target) if name not in SPACES
    ]
    if not problems and (source, target) not in MAPS:
        ways = sorted(to for start, to in MAPS if start == source)
        told = f"{source} has maps to {', '.join(ways)}" if ways else f"{source} has none"
        problems.append(f"no map leads from {source} to {target}: {told}")
    if problems:
        raise InputError("map of labels", problems, "docs/corpora.md#one-language-of-labels lists spaces and maps.")
    return MAPS[source, target]
