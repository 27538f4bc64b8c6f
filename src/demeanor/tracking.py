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

from demeanor import logged_models, remembered
from demeanor.data.files import disk_error
from demeanor.data.settings import flatten
from demeanor.outbox import PATIENCE, Event, Outbox, Refused, hand_over, kept_header
from demeanor.reachability import MODEST, SQLITE, problem_of, readable, require_answer
from demeanor.stopping import asked_to_stop

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


def tracking_uri(project: Path, configured: str | None = None) -> str:
    """MLFLOW_TRACKING_URI, else what conf says, else a SQLite file in the project's root."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured or f"{SQLITE}mlflow.db"
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        # A relative file is meant from the project's root, wherever the command is typed.
        return f"{SQLITE}{(project / uri.removeprefix(SQLITE)).resolve()}"
    return uri


def connect(project: Path, configured: str | None = None, writing: bool = False) -> str:
    """Point MLflow at the tracking server or file of this project; its address. InputError if nothing answers there."""
    uri = tracking_uri(project, configured)
    require_answer(uri, writing)
    remembered.use(None)
    _point_mlflow(uri)
    return uri


def connect_when_asked(project: Path) -> str:
    """The same for a command that only reads: MLflow is imported where the registry has to be asked, which a file has
    not while nobody writes to it (demeanor.remembered). InputError if nothing answers there."""
    uri = tracking_uri(project)
    if not uri.startswith(SQLITE):
        return connect(project)
    require_answer(uri)
    remembered.use(remembered.Registry(Path(uri.removeprefix(SQLITE)), lambda: _point_mlflow(uri)))
    return uri


def _point_mlflow(uri: str) -> None:
    for name, value in {**MODEST, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}.items():
        os.environ.setdefault(name, value)
    import mlflow

    # Alembic tells of every migration of a new database and MLflow of every step: that drowns what a user reads.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of a server that has gone we tell ourselves, once.
    for name in ("mlflow.system_metrics", "mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


def choose_experiment(name: str, project: Path) -> str:
    """Id of the experiment; a new one keeps its artifacts in the project's mlruns where the store is a local file."""
    import mlflow

    experiment = mlflow.get_experiment_by_name(name)
    if experiment is not None:
        return experiment.experiment_id
    local = mlflow.get_tracking_uri().startswith("sqlite:")
    location = (project / "mlruns").resolve().as_uri() if local else None
    return mlflow.create_experiment(name, artifact_location=location)


class MlflowSender:
    """Hands events to MLflow. Children are called by names of our own until the server has given them an id."""

    def __init__(self, experiment_id: str, ids: Mapping[str, str]):
        import mlflow
        from mlflow import MlflowClient

        self.experiment_id, self.ids = experiment_id, dict(ids)
        self.uri = mlflow.get_tracking_uri()
        self.client = MlflowClient()

    def answers(self) -> bool:
        """Whether the store can be reached and written."""
        return not problem_of(self.uri, writing=True)

    def header(self) -> dict[str, Any]:
        """Where the run is recorded, and under which ids."""
        return {"uri": readable(self.uri), "experiment_id": self.experiment_id, "ids": self.ids}

    def send(self, event: Event) -> None:
        """Record one event. Refused where the server declined it; MLflow's own error where it may be tried again."""
        from mlflow.exceptions import MlflowException

        try:
            self._send(event)
        except MlflowException as error:
            # 400 to 499: understood and declined; 408 and 429 are an invitation to try later.
            if error.get_http_status_code() < 500 and error.get_http_status_code() not in (408, 429):
                raise Refused(str(error)) from error
            raise

    def _send(self, event: Event) -> None:
        from mlflow.entities import Metric, Param

        kind = event["kind"]
        if kind == "child":
            made = self.client.create_run(
                self.experiment_id, start_time=event["time"], tags=event["tags"], run_name=event["name"]
            )
            self.ids[event["run"]] = made.info.run_id
            return
        if event["run"] not in self.ids:
            raise Refused("the run that it belongs to could not be opened")
        run = self.ids[event["run"]]
        if kind == "parameters":
            entries = [Param(key, value) for key, value in event["values"].items()]
            for start in range(0, len(entries), 100):
                self.client.log_batch(run, params=entries[start : start + 100])
        elif kind == "metrics":
            values = event["values"].items()
            self.client.log_batch(
                run, metrics=[Metric(key, value, event["time"], event["step"]) for key, value in values]
            )
        elif kind == "tags":
            for key, value in event["values"].items():
                self.client.set_tag(run, key, value)
        elif kind == "text":
            self.client.log_text(run, event["text"], event["place"])
        elif kind in logged_models.KINDS:
            logged_models.send(self.client, self.experiment_id, run, self.ids, event)
        elif kind == "files":
            log = self.client.log_artifacts if Path(event["path"]).is_dir() else self.client.log_artifact
            log(run, event["path"], event["place"])
        elif kind == "end":
            self.client.set_terminated(run, event["status"], event["time"])
        else:
            raise Refused(f"there is no kind of report '{kind}'")


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


def send_kept(folder: Path) -> int:
    """Hand a folder of reports that a run had to keep to the connected store; how many there were."""
    header = kept_header(folder)
    return hand_over(folder, MlflowSender(header["experiment_id"], header["ids"]))


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """NaN is left out: MLflow stores it as 0 in some back ends, which would be a lie."""
    return {key.replace("%", "percent"): float(value) for key, value in metrics.items() if math.isfinite(value)}


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)
