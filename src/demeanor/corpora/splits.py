"""Frozen splits: a file of ids with a hash, made once and used ever after; always by dialogue or speaker.

A random split by utterance would put the neighbours of a test utterance, said by the same person seconds earlier, into
the training set. There is no such option.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from demeanor.corpora.base import require_path
from demeanor.data.errors import InputError, nearest
from demeanor.data.files import sha256_of, write_json
from demeanor.data.places import ProjectPath
from demeanor.data.settings import Settings
from demeanor.data.texts import read_text
from demeanor.data.utterances import SPLITS, validate

FORMAT = "demeanor.split"


@dataclass(frozen=True)
class Split:
    """train, valid and test: utterance ids, disjoint; how it was made stands in `made_by`."""

    name: str
    parts: Mapping[str, tuple[str, ...]]
    made_by: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """Of the ids alone, whatever their order in the table."""
        return sha256_of({part: sorted(self.parts.get(part, ())) for part in SPLITS})

    def counts(self) -> dict[str, int]:
        """Name in each part."""
        return {part: len(self.parts.get(part, ())) for part in SPLITS}

    def apply(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with its split column set by this split; utterances that it does not name are left out.

        Raises InputError if it names utterances that the table lacks: it was made for other data.
        """
        place = {name: part for part in SPLITS for name in self.parts.get(part, ())}
        known = set(table["utterance_id"])
        absent = [name for name in place if name not in known]
        if absent:
            raise InputError(
                f"split '{self.name}'",
                [f"{len(absent)} of its {len(place)} utterances are not in the table, for example {absent[0]}"],
                "It was made for other data; make a new one under another file name.",
            )
        chosen = table[table["utterance_id"].isin(place)].copy()
        chosen["split"] = chosen["utterance_id"].map(place)
        return validate(chosen.reset_index(drop=True), f"split '{self.name}'")

    def save(self, path: Path | str) -> None:
        """Write the file; one that is already there and holds another split is an InputError, never overwritten."""
        path = Path(path)
        if path.exists() and Split.load(path).sha256 != self.sha256:
            raise InputError(
                str(path), ["holds another split, and a frozen split is not overwritten"], "Use another file name."
            )
        parts = {part: list(self.parts.get(part, ())) for part in SPLITS}
        write_json(path, {"format": FORMAT, "name": self.name, "sha256": self.sha256,
                          "made_by": dict(self.made_by), "parts": parts})  # fmt: skip

    @classmethod
    def load(cls, path: Path | str) -> Split:
        """Read a split; InputError for one whose ids no longer fit its hash, or that names an id twice."""
        path = require_path(Path(path), "file")
        try:
            content = json.loads(read_text(path).content)
            if content.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            parts = {part: tuple(map(str, content["parts"].get(part, ()))) for part in SPLITS}
            split = cls(str(content["name"]), parts, content.get("made_by", {}))
            recorded = content["sha256"]
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(str(path), [f"not a file with a split ({error})"]) from None
        ids = [name for part in parts.values() for name in part]
        problems = []
        if len(set(ids)) < len(ids):
            problems.append(f"{len(ids) - len(set(ids))} utterances stand in it twice")
        if recorded != split.sha256:
            problems.append("its ids do not fit its hash: it was changed after it was made")
        if problems:
            raise InputError(str(path), problems, "Restore the file, or make a new split under another name.")
        return split


class SplitSettings(Settings):
    """How the utterances are split, in place of the split that the corpus comes with.

    file    the frozen split; it is used if it is there, and made if it is not
    scheme  "random": all utterances by `shares`; "hold_out": a share of train becomes valid, test stays;
            "k_fold", "leave_one_out": fold number `fold` of several
    by      the column whose values are never divided
    shares  train, valid, test of "random"; for the other schemes the second is the share of train that becomes valid
    """

    file: ProjectPath | None = None
    scheme: Literal["random", "hold_out", "k_fold", "leave_one_out"] = "hold_out"
    by: str = "dialogue"
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    seed: int = 1
    folds: int = Field(default=5, ge=2)
    fold: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sane(self) -> SplitSettings:
        if min(self.shares) < 0 or self.shares[0] <= 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"shares {self.shares} must not be negative and must add up to 1")
        if self.by in ("utterance", "utterance_id"):
            raise ValueError("a split by utterance would leak: use `by: dialogue` or `by: speaker`")
        return self

    def make(self, table: pd.DataFrame) -> Split:
        """The split of `file` if it is there, else a new one, written to `file` where that is given."""
        if self.file is not None and self.file.exists():
            return Split.load(self.file)
        split = self._new(table)
        if self.file is not None:
            split.save(self.file)
        return split

    def _new(self, table: pd.DataFrame) -> Split:
        if self.scheme == "random":
            return random_split(table, self.by, self.shares, self.seed)
        if self.scheme == "hold_out":
            return hold_out(table, self.by, self.shares[1], self.seed)
        if self.scheme == "k_fold":
            assignment = k_fold(table, self.by, self.folds, self.seed, self.shares[1])
        else:
            assignment = leave_one_out(table, self.by, self.seed, self.shares[1])
        if self.fold >= len(assignment):
            raise InputError("split", [f"there are {len(assignment)} folds, numbered from 0; fold {self.fold} is none"])
        return assignment[self.fold]


def random_split(table: pd.DataFrame, by: str, shares: Sequence[float], seed: int) -> Split:
    """Train, valid and test by shares of utterances, whole groups at a time; the labels stay balanced by chance.
    InputError if there are too few groups."""
    groups = _groups(table, by)
    needed = sum(share > 0 for share in shares)
    if len(groups) < needed:
        raise InputError("split", [f"{len(groups)} values of '{by}' cannot be split into {needed} parts"])
    order = _shuffled(groups, seed)
    parts = _deal(groups, order, {part: share for part, share in zip(SPLITS, shares, strict=True) if share > 0})
    return _split("random", table, by, parts, {"scheme": "random", "by": by, "shares": list(shares), "seed": seed})


def hold_out(table: pd.DataFrame, by: str, share: float, seed: int) -> Split:
    """A share of the train part becomes valid; test stays as it is. For corpora that come without valid. InputError if
    there is but one group, or one stands in train and in test."""
    train = table[table["split"].isin(["train", "valid"])]
    groups = _groups(train, by)
    if len(groups) < 2:
        raise InputError("split", [f"train has {len(groups)} values of '{by}': nothing can be held out"])
    parts = _deal(groups, _shuffled(groups, seed), {"train": 1 - share, "valid": share})
    parts["test"] = sorted(set(table.loc[table["split"] == "test", by].astype(str)))
    shared = set(parts["test"]) & (set(parts["train"]) | set(parts["valid"]))
    if shared:
        raise InputError("split", [f"{by} {min(shared)} stands in train and in test ({len(shared)} of them)"])
    return _split("hold_out", table, by, parts, {"scheme": "hold_out", "by": by, "share": share, "seed": seed})


def k_fold(table: pd.DataFrame, by: str, folds: int, seed: int, valid: float = 0.1) -> list[Split]:
    """Every group is in the test part of exactly one fold; `valid` of the rest is held out by group. InputError if
    there are fewer groups than folds."""
    groups = _groups(table, by)
    if len(groups) < folds:
        raise InputError("split", [f"{len(groups)} values of '{by}' cannot make {folds} folds"])
    names = [f"fold {n}" for n in range(folds)]
    tests = _deal(groups, _shuffled(groups, seed), dict.fromkeys(names, 1 / folds))
    return [
        _with_valid(f"fold_{n}", table, by, tests[name], valid, seed,
                    {"scheme": "k_fold", "by": by, "folds": folds, "fold": n, "seed": seed, "valid": valid})
        for n, name in enumerate(names)
    ]  # fmt: skip


def leave_one_out(table: pd.DataFrame, by: str, seed: int, valid: float = 0.1) -> list[Split]:
    """One split per value of `by` (a session, a speaker), which is its test part.

    InputError if there is but one value.
    """
    groups = _groups(table, by)
    if len(groups) < 2:
        raise InputError("split", [f"'{by}' has {len(groups)} values: none can be left out"])
    return [
        _with_valid(f"without_{name}", table, by, [name], valid, seed,
                    {"scheme": "leave_one_out", "by": by, "left_out": name, "seed": seed, "valid": valid})
        for name in sorted(groups)
    ]  # fmt: skip


def _with_valid(
    name: str, table: pd.DataFrame, by: str, test: Iterable[str], valid: float, seed: int, made_by: dict[str, Any]
) -> Split:
    """Test as given; of the rest, whole dialogues are held out for validation."""
    left_out = table[by].astype(str).isin(set(test))
    inner = "dialogue"
    rest = _groups(table[~left_out], inner)
    dealt = _deal(rest, _shuffled(rest, seed), {"train": 1 - valid, "valid": valid}) if valid > 0 else {}
    held = table["dialogue"].astype(str).isin(set(dealt.get("valid", ())))
    ids = table["utterance_id"]
    parts = {
        "train": tuple(ids[~left_out & ~held]), "valid": tuple(ids[~left_out & held]), "test": tuple(ids[left_out]),
    }  # fmt: skip
    return Split(name, parts, made_by)


def _groups(table: pd.DataFrame, by: str) -> dict[str, int]:
    """Utterances by value of `by`."""
    if by not in table:
        raise InputError("split", [f"the utterances have no column '{by}'.{nearest(by, table.columns)}"])
    if table[by].isna().any():
        raise InputError("split", [f"column '{by}' is empty for {int(table[by].isna().sum())} utterances"])
    return {str(name): int(count) for name, count in table[by].value_counts(sort=False).items()}


def _shuffled(groups: Mapping[str, int], seed: int) -> list[str]:
    """By name first, so that the order of the table does not matter."""
    names = sorted(groups)
    return [names[n] for n in np.random.default_rng(seed).permutation(len(names))]


def _deal(groups: Mapping[str, int], order: Sequence[str], shares: Mapping[str, float]) -> dict[str, list[str]]:
    """Give each group in turn to the part that lacks most of its share; every part gets at least one group."""
    total = sum(groups.values())
    wanted = {part: share * total for part, share in shares.items()}
    parts: dict[str, list[str]] = {part: [] for part in shares}
    held = dict.fromkeys(shares, 0)
    for n, name in enumerate(order):
        empty = [part for part in shares if not parts[part] and shares[part] > 0]
        candidates = empty if len(order) - n <= len(empty) else [part for part in shares if shares[part] > 0]
        part = max(candidates, key=lambda key: (wanted[key] - held[key]) / max(wanted[key], 1e-9))
        parts[part].append(name)
        held[part] += groups[name]
    return parts


def _split(
    name: str, table: pd.DataFrame, by: str, groups: Mapping[str, Iterable[str]], made_by: dict[str, Any]
) -> Split:
    column = table[by].astype(str)
    parts = {part: tuple(table.loc[column.isin(set(members)), "utterance_id"]) for part, members in groups.items()}
    return Split(name, parts, made_by)
