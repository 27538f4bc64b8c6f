"""What is tuned, over which values, and for how long; free of torch and Optuna, because Kedro reads it at its start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from demeanor.data.settings import Settings
from demeanor.training.settings import BranchSettings


class Choices(Settings):
    """One of several values."""

    choices: tuple[Any, ...] = Field(min_length=1)

    @property
    def first(self) -> Any:
        """A value to check the settings with before a search."""
        return self.choices[0]


class Between(Settings):
    """A number from `low` to `high`, both included; whole if both are; on a logarithmic scale if `log`."""

    low: float | int
    high: float | int
    log: bool = False
    step: float | int | None = None

    @model_validator(mode="after")
    def _possible(self) -> Between:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale cannot begin at {self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self

    @property
    def whole(self) -> bool:
        """Whether whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def first(self) -> float | int:
        """A value to check the settings with before a search: the lower end."""
        return self.low


class TuningSettings(Settings):
    """Search of a branch's settings on the validation split.

    `space` has one entry per branch, shaped like the branch's own block, with a range or choices at its leaves:

        late_fusion:
          model: {hidden: {choices: [32, 64]}, dropout: {low: 0.0, high: 0.6}}
          training: {learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}}
    """

    branches: tuple[str, ...] = Field(min_length=1, description="which of the parameters' branches are tuned")
    space: dict[str, dict[str, Any]] = Field(description="branch -> values to try")
    trials: int = Field(default=20, ge=1, description="of each branch in all; those of former runs count")
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1, description="a trial's score is the mean over them")
    sampler_seed: int = 0
    startup_trials: int = Field(default=5, ge=0, description="random ones, before the sampler learns and prunes")
    warmup_epochs: int = Field(default=5, ge=0, description="of a trial that is never pruned")
    corpus: str = Field(description="name of the corpus' folders; the environment that is written is <corpus>_tuned")
    folder: str = Field(description="where the studies lie, one SQLite file per branch")

    @model_validator(mode="after")
    def _known(self) -> TuningSettings:
        missing = [branch for branch in self.branches if not self.space.get(branch)]
        if missing:
            raise ValueError(f"`space` says nothing about {', '.join(missing)}")
        for branch in self.branches:
            self.ranges(branch)
        return self

    def ranges(self, branch: str) -> dict[str, Choices | Between]:
        """Dotted name of a setting of the branch -> what it may be."""
        return leaves(self.space[branch])


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Choices | Between]:
    """The leaves of a nested space by their dotted names. ValueError for a leaf that is no range."""
    choices: dict[str, Choices | Between] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping):
            raise ValueError(f"{name}: give choices, or low and high, not {value!r}")
        if "choices" in value:
            choices[name] = Choices(**value)
        elif "low" in value or "high" in value:
            choices[name] = Between(**value)
        else:
            choices.update(leaves(value, f"{name}."))
    return choices


def placed(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with the values at their dotted names; nothing that was given is changed."""
    made = dict(settings)
    for name, value in values.items():
        first, _, rest = name.partition(".")
        made[first] = placed(made.get(first) or {}, {rest: value}) if rest else value
    return made


def branch_with(block: Mapping[str, Any], values: Mapping[str, Any], seeds: tuple[int, ...]) -> BranchSettings:
    """The branch as a trial trains it."""
    return BranchSettings(**placed(block, {**values, "training.seeds": list(seeds)}))
