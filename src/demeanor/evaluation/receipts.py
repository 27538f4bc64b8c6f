"""Receipts: what was scored, with which result, by which code on which machine. Every table is made from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_serializer, field_validator

import demeanor
from demeanor.data.errors import InputError
from demeanor.data.files import read_json, write_json
from demeanor.data.settings import Settings
from demeanor.evaluation.environment import UNKNOWN, Machine, this_machine

SUFFIX = ".receipt.json"


class Receipt(Settings):
    """One scoring of one bundle on one split."""

    branch: str
    system: str
    task: str = Field(description="name of the task")
    corpus: str = Field(description="whose test it is")
    split: str
    seed: int
    metrics: dict[str, float]
    n: int = Field(description="labelled utterances that were scored")
    data_hash: str
    code_revision: str = UNKNOWN
    weights_sha256: str = Field(default="", description="of the bundle")
    modalities: tuple[str, ...] = Field(default=(), description="that were given; nothing means all of the system's")
    machine: Machine = Field(default_factory=this_machine)
    seconds: float = 0.0
    peak_memory_mib: float = 0.0
    time: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    version: str = Field(default=demeanor.__version__, description="of Demeanor")
    synthetic: bool = Field(default=False, description="the corpus was made, not recorded")
    notes: str = Field(default="", description="what the bundle's card says of it: of experts, how they were joined")
    learnt_from: str = Field(
        default="", description="corpora that the system learnt from, where the test of each of several is scored apart"
    )
    sampling: dict[str, float] = Field(
        default_factory=dict, description="of these corpora -> how often an epoch met each of its rows"
    )

    @field_validator("metrics", mode="before")
    @classmethod
    def _null_is_undefined(cls, value: Any) -> Any:
        return {k: math.nan if v is None else v for k, v in value.items()} if isinstance(value, Mapping) else value

    @field_serializer("metrics", when_used="json")
    def _undefined_is_null(self, value: dict[str, float]) -> dict[str, float | None]:
        # JSON has no NaN, and other readers than Python's refuse it.
        return {name: number if math.isfinite(number) else None for name, number in value.items()}

    @field_validator("time")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @property
    def name(self) -> str:
        """Unique among the receipts of one folder: task, branch, seed, split, one of several corpora, modalities."""
        tested = [self.corpus] if self.learnt_from else []
        parts = [self.task, self.branch, f"seed{self.seed}", self.split, *tested, *self.modalities]
        return "-".join("".join(c if c.isalnum() or c in "_." else "_" for c in part) for part in parts)

    def save(self, folder: Path | str) -> Path:
        """Write it into `folder`; a former receipt of the same name is replaced."""
        path = Path(folder) / f"{self.name}{SUFFIX}"
        write_json(path, self.as_dict())
        return path


def save_receipts(receipts: Iterable[Receipt], folder: Path | str) -> list[Path]:
    """Write one JSON file per receipt into the folder and returns their paths."""
    return [receipt.save(folder) for receipt in receipts]


def load_receipts(folder: Path | str) -> list[Receipt]:
    """All receipts of a folder in order of their names; an empty list where there are none. InputError names the files
    that are none."""
    receipts, problems = [], []
    for path in sorted(Path(folder).glob(f"*{SUFFIX}")):
        try:
            receipts.append(Receipt(**read_json(path)))
        except (ValidationError, ValueError, TypeError) as error:
            problems.append(f"{path.name}: {' '.join(str(error).split())[:200]}")
    if problems:
        raise InputError(f"receipts in {folder}", problems, "Remove these files and score the systems again.")
    return receipts
