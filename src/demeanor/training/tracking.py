"""Where training reports to. The loop knows this interface alone; MLflow stands behind it during `kedro run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Run(Protocol):
    """One tracked piece of work: a system trained with one seed, for example."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def log_artifacts(self, folder: Path, place: str) -> None: ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...


@runtime_checkable
class Tracker(Protocol):
    """Opens runs; `child` is a context manager, its run ends with the block and is marked failed by an exception."""

    def child(self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> Any: ...

    def log_artifacts(self, folder: Path, place: str) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...


class _Untracked:
    """Takes everything and keeps nothing: for tests, notebooks and single calls."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def log_artifacts(self, folder: Path, place: str) -> None:
        pass

    def set_tags(self, tags: Mapping[str, str]) -> None:
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
