"""Where training reports to. The loop knows this interface alone; MLflow stands behind it during `kedro run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from demeanor.data.bundle import Bundle


@dataclass(frozen=True)
class TrackedData:
    """Data behind a number. `utterances` is their number, None where nothing but the hash leaves: the sealed test."""

    corpus: str
    split: str
    data_hash: str
    utterances: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """As a dataset is described to MLflow."""
        return {"name": f"{self.corpus} {self.split}", "digest": self.data_hash, "corpus": self.corpus,
                "split": self.split, "utterances": self.utterances}  # fmt: skip


@dataclass(frozen=True)
class TrackedModel:
    """One trained model: `weights` is its bundle's `trained_sha256`, by which it is found again."""

    branch: str
    seed: int
    system: str
    task: str
    data_hash: str
    weights: str
    size: int

    @classmethod
    def of(cls, bundle: Bundle) -> TrackedModel:
        """What is recorded of a trained bundle."""
        card = bundle.card
        return cls(card.branch, int(card.protocol["seed"]), card.system, card.task.name, card.data_hash,
                   bundle.trained_sha256, bundle.parameters)  # fmt: skip

    @property
    def name(self) -> str:
        """Branch and seed."""
        return f"{self.branch} seed {self.seed}"

    @property
    def tags(self) -> dict[str, str]:
        """By what it is found again."""
        return {"branch": self.branch, "seed": str(self.seed), "system": self.system, "task": self.task,
                "data_hash": self.data_hash, "trained_sha256": self.weights}  # fmt: skip

    @property
    def parameters(self) -> dict[str, str]:
        """What it is, as text."""
        return {"branch": self.branch, "seed": str(self.seed), "system": self.system, "task": self.task,
                "parameters": str(self.size)}  # fmt: skip


@runtime_checkable
class Run(Protocol):
    """One tracked piece of work: a system trained with one seed, for example."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics, of one step of training or of the run."""

    def log_artifacts(self, folder: Path, place: str) -> None:
        """Record the files of a folder under `place`."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""

    def log_inputs(self, data: Sequence[TrackedData]) -> None:
        """Record what was trained on."""

    def log_model(self, model: TrackedModel, metrics: Mapping[str, float], data: TrackedData) -> None:
        """Record the trained model with its metrics on `data`."""


@runtime_checkable
class Tracker(Protocol):
    """Opens runs; `child` is a context manager, its run ends with the block and is marked failed by an exception."""

    def child(self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> Any:
        """A run for one training, as a context."""

    def log_artifacts(self, folder: Path, place: str) -> None:
        """Record the files of a folder under `place`."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics of the whole run."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""

    def log_inputs(self, data: Sequence[TrackedData]) -> None:
        """Record the data of the whole run."""

    def log_scores(self, model: TrackedModel, metrics: Mapping[str, float], data: TrackedData) -> None:
        """Record a trained model's metrics on other data."""

    def log_table(self, rows: Sequence[Mapping[str, Any]], place: str) -> None:
        """Record rows as a table under `place`."""

    def flush(self) -> None:
        """Wait until what was recorded has arrived, or is known to have to wait."""


class _Untracked:
    """Takes everything and keeps nothing: for tests, notebooks and single calls."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def log_artifacts(self, folder: Path, place: str) -> None:
        pass

    def set_tags(self, tags: Mapping[str, str]) -> None:
        pass

    def log_inputs(self, data: Sequence[TrackedData]) -> None:
        pass

    def log_model(self, model: TrackedModel, metrics: Mapping[str, float], data: TrackedData) -> None:
        pass

    def log_scores(self, model: TrackedModel, metrics: Mapping[str, float], data: TrackedData) -> None:
        pass

    def log_table(self, rows: Sequence[Mapping[str, Any]], place: str) -> None:
        pass

    def flush(self) -> None:
        pass

    @contextmanager
    def child(self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[Run]:
        yield self


_current: Tracker = _Untracked()


def current() -> Tracker:
    """The tracker of this process; one that keeps nothing unless a hook has set another."""
    return _current


def use(tracker: Tracker | None) -> None:
    """Report to `tracker` from now on; None: to nothing."""
    global _current  # noqa: PLW0603 - one process has one tracker, and nodes must not carry it through Kedro
    _current = tracker or _Untracked()
