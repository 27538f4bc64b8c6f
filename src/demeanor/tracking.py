"""MLflow behind the training's tracker: a parent run per `kedro run`, a child per branch and seed."""

from __future__ import annotations

import logging
import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demeanor.data.files import disk_error
from demeanor.data.settings import flatten
from demeanor.mlflow_sender import MlflowSender
from demeanor.outbox import PATIENCE, Outbox
from demeanor.reachability import MODEST, readable
from demeanor.stopping import asked_to_stop
from demeanor.tracking_store import choose_experiment

if TYPE_CHECKING:
    from demeanor.training.tracking import TrackedData, TrackedModel

logger = logging.getLogger(__name__)

LONGEST_PARAMETER = 6000
#: Folder of the project for what could not be handed over.
UNSENT = "mlflow_unsent"
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
#: Seconds that a run which was told to stop gives the server.
PATIENCE_WHEN_STOPPED = 10.0


class MlflowRun:
    """One MLflow run, from whichever thread: reports are put into the outbox and nothing waits for the server."""

    def __init__(self, outbox: Outbox, name: str):
        self.outbox, self.name = outbox, name

    def _put(self, kind: str, **more: Any) -> None:
        self.outbox.put({"kind": kind, "run": self.name, **more})

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Record settings, nested ones under dotted names."""
        flat = flatten(dict(parameters))
        self._put("parameters", values={key: str(value)[:LONGEST_PARAMETER] for key, value in flat.items()})

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record the finite ones of the metrics."""
        self._put("metrics", values=_finite(metrics), step=step or 0, time=_now())

    def log_inputs(self, data: Sequence[TrackedData]) -> None:
        """What the run reads."""
        self._put("inputs", data=[one.as_dict() for one in data])

    def log_model(self, model: TrackedModel, metrics: Mapping[str, float], data: TrackedData) -> None:
        """What the run has trained; its bundle is the run's artifact `bundle`."""
        self._put("model", name=model.name, tags=model.tags, parameters=model.parameters, values=_finite(metrics),
                  data=data.as_dict(), time=_now())  # fmt: skip

    def log_scores(self, model: TrackedModel, metrics: Mapping[str, float], data: TrackedData) -> None:
        """Metrics of a model that this run, or one before it, has trained."""
        self._put("scores", name=model.name, model=model.weights, values=_finite(metrics), data=data.as_dict(),
                  time=_now())  # fmt: skip

    def log_table(self, rows: Sequence[Mapping[str, Any]], place: str) -> None:
        """Rows of plain values as a table at `place`, a name that ends with .json."""
        self._put("table", rows=[dict(row) for row in rows], place=place)

    def log_artifacts(self, folder: Path, place: str) -> None:
        """Keep a file, or what is in a folder, with the run; `folder` may go as soon as this returns."""
        try:
            held = self.outbox.hold(folder)
        except OSError as error:
            logger.warning("not kept with the MLflow run: %s", disk_error(error, folder) or error)
            return
        self._put("files", path=held, place=place)

    def log_text(self, text: str, place: str) -> None:
        """Record a text as an artifact at `place`."""
        self._put("text", text=text, place=place)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, as text."""
        self._put("tags", values={key: str(value) for key, value in tags.items()})

    def end(self, status: str) -> None:
        """End the run with one of MLflow's states."""
        self._put("end", status=status, time=_now())


class MlflowTracker(MlflowRun):
    """The parent run; `child` opens one run below it."""

    def __init__(self, run_id: str, outbox: Outbox):
        super().__init__(outbox, run_id)

    def flush(self) -> None:
        """Wait until what was reported has arrived, or the server has failed."""
        self.outbox.flush()

    @contextmanager
    def child(self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[MlflowRun]:
        """A run below this one; FINISHED after the block, FAILED or KILLED where the block raises."""
        run = MlflowRun(self.outbox, uuid.uuid4().hex)
        tags = {**{key: str(value) for key, value in tags.items()}, "mlflow.parentRunId": self.name}
        run._put("child", name=name, tags={**tags, "mlflow.runName": name}, time=_now())
        run.log_parameters(parameters)
        try:
            yield run
        except BaseException as error:
            run.end(FAILED if isinstance(error, Exception) and asked_to_stop() is None else KILLED)
            raise
        run.end(FINISHED)


class Session:
    """The MLflow run around a `kedro run`."""

    def __init__(
        self, project: Path, experiment: str, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any],
        system_metrics: bool,
    ):  # fmt: skip
        import mlflow
        from mlflow import MlflowClient

        from demeanor.owners import close_orphans, owner
        from demeanor.training import tracking as training_tracking

        place = choose_experiment(experiment, project)
        close_orphans(MlflowClient(), place)
        run = mlflow.start_run(
            experiment_id=place, run_name=name, log_system_metrics=system_metrics, tags={**owner(), **tags}
        )
        self.run_id = run.info.run_id
        sender = MlflowSender(place, {self.run_id: self.run_id})
        outbox = Outbox(sender, project / UNSENT / self.run_id, readable(sender.uri))
        self.tracker = MlflowTracker(self.run_id, outbox)
        self.tracker.log_parameters(parameters)
        training_tracking.use(self.tracker)

    def end(self, status: str) -> None:
        """Hand over what is left, for a bounded time, and close the run with `status`."""
        import mlflow

        from demeanor.training import tracking as training_tracking

        training_tracking.use(None)
        self.tracker.end(status)
        complete = self.tracker.outbox.close(PATIENCE_WHEN_STOPPED if status == KILLED else PATIENCE)
        former = os.environ.get(RETRIES)
        if not complete:
            os.environ[RETRIES] = "0"
        try:
            # The status has been sent, or is among what was kept: this is for MLflow's own book of runs and for its
            # thread that measures the machine.
            with suppress(mlflow.exceptions.MlflowException):
                mlflow.end_run(status)
        finally:
            os.environ[RETRIES] = former or MODEST[RETRIES]


_session: Session | None = None


def begin(*arguments: Any, **more: Any) -> Session:
    """Open the one run of this process; one that was left open, by Ctrl-C in a notebook, was killed."""
    import atexit

    global _session  # noqa: PLW0603 - a process has one run, and whoever stops it must find it
    end(KILLED)
    _session = Session(*arguments, **more)
    atexit.unregister(end)
    atexit.register(end, KILLED)
    return _session


def end(status: str) -> None:
    """Close the run of this process, if one is open."""
    global _session
    session, _session = _session, None
    if session is not None:
        session.end(status)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """NaN is left out: MLflow stores it as 0 in some back ends, which would be a lie."""
    return {key.replace("%", "percent"): float(value) for key, value in metrics.items() if math.isfinite(value)}


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)
