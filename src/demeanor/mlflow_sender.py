"""What the outbox holds, handed to MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demeanor import logged_models
from demeanor.outbox import Event, Refused, hand_over, kept_header
from demeanor.reachability import problem_of, readable


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


def send_kept(folder: Path) -> int:
    """Hand a folder of reports that a run had to keep to the connected store; how many there were."""
    header = kept_header(folder)
    return hand_over(folder, MlflowSender(header["experiment_id"], header["ids"]))
