"""What training and evaluation report as MLflow's own kinds of thing: data sets, logged models, tables.

Each function hands one event of the outbox over, and may be called again with an event that arrived only in part.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, LoggedModel, Metric

logger = logging.getLogger(__name__)

TRAINED = "trained"
"""Type of the logged models that training makes; a version in the registry has one of its own, which holds files."""
WEIGHTS = "trained_sha256"
"""Tag by which the model of some weights is found again."""


KINDS = ("inputs", "model", "scores", "table")
"""Kinds of event that are handed over here."""


def send(client: MlflowClient, experiment: str, run: str, ids: dict[str, str], event: Mapping[str, Any]) -> None:
    """Hand over one event of KINDS that belongs to `run`."""
    kind = event["kind"]
    if kind == "inputs":
        log_inputs(client, run, event["data"])
    elif kind == "model":
        log_model(client, experiment, run, ids, f"model of {event['run']}", event)
    elif kind == "scores":
        log_scores(client, experiment, event)
    elif kind == "table":
        log_table(client, run, event["rows"], event["place"])


def data_set(data: Mapping[str, Any]) -> Dataset:
    """The event's data as MLflow names it: a digest and a size, never content.

    data  name, digest, corpus, and `utterances` (None where not even their number is told)
    """
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset

    made = MetaDataset(CodeDatasetSource({"corpus": data["corpus"]}), data["name"], data["digest"]).to_dict()
    profile = None if data["utterances"] is None else json.dumps({"num_rows": data["utterances"]})
    return Dataset(made["name"], made["digest"], made["source_type"], made["source"], profile=profile)


def log_inputs(client: MlflowClient, run: str, data: list[Mapping[str, Any]]) -> None:
    """Data sets as inputs of a run, each in the context of its split."""
    from mlflow.entities import DatasetInput, InputTag

    given = [DatasetInput(data_set(one), [InputTag("mlflow.data.context", one["split"])]) for one in data]
    client.log_inputs(run, given)


def log_model(
    client: MlflowClient, experiment: str, run: str, ids: dict[str, str], name: str, event: Mapping[str, Any]
) -> None:
    """The model that a run trained, with its metrics on the data of the event.

    Its files are those of the run: the tag `bundle` says where. `ids` remembers it under `name`, so that a second try
    does not make a second model.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

    if name not in ids:
        tags = {**event["tags"], MLFLOW_MODEL_IS_EXTERNAL: "true", "bundle": f"runs:/{run}/bundle"}
        made = client.create_logged_model(experiment, event["name"], run, tags, event["parameters"], TRAINED)
        ids[name] = made.model_id
    client.finalize_logged_model(ids[name], "READY")
    client.log_outputs(run, [LoggedModelOutput(ids[name], 0)])
    client.log_batch(run, metrics=bound(event, ids[name]))


def log_scores(client: MlflowClient, experiment: str, event: Mapping[str, Any]) -> None:
    """Metrics of a model that was trained before, with the run that trained it: there MLflow's tables sort by them."""
    model = trained_model(client, experiment, event["model"])
    if model is None or model.source_run_id is None:
        logger.debug("no logged model has the weights of %s; its scores stand with this run alone", event["name"])
        return
    client.log_batch(model.source_run_id, metrics=bound(event, model.model_id))


def bound(event: Mapping[str, Any], model: str) -> list[Metric]:
    """The event's metrics, bound to a model and to the data they were measured on."""
    from mlflow.entities import Metric

    data = event["data"]
    return [
        Metric(key, value, event["time"], 0, model_id=model, dataset_name=data["name"], dataset_digest=data["digest"])
        for key, value in event["values"].items()
    ]


def log_table(client: MlflowClient, run: str, rows: list[dict[str, Any]], place: str) -> None:
    """Rows as a table that MLflow's pages show; one that has arrived already stays as it is."""
    import pandas as pd

    if place not in {file.path for file in client.list_artifacts(run, place.rpartition("/")[0] or None)}:
        # Words as objects: of pandas' own strings MLflow asks in a way that pandas warns of.
        client.log_table(run, pd.DataFrame(rows, dtype=object), place)


def trained_model(client: MlflowClient, experiment: str, weights: str) -> LoggedModel | None:
    """The newest logged model of an experiment that holds these weights (`Bundle.trained_sha256`), if any does."""
    models = client.search_logged_models(
        [experiment],
        filter_string=f"tags.{WEIGHTS} = '{weights}'",
        max_results=1,
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
    )
    return models[0] if models else None
