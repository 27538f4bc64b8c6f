"""Development examples in; self-supervised representations, their embeddings and what a probe makes of them out."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
from pydantic import ConfigDict, RootModel

from demeanor.data.bundle import Bundle
from demeanor.data.examples import Examples
from demeanor.data.stream import Stream
from demeanor.data.task import Tasks
from demeanor.training.representation_settings import RepresentationSettings

logger = logging.getLogger(__name__)


class Representations(RootModel[dict[str, RepresentationSettings]]):
    """Representations to learn, by name."""

    model_config = ConfigDict(frozen=True)


def pretrain_representations(
    development: Examples, settings: Representations, checkpoints: str
) -> tuple[dict[str, Bundle], pd.DataFrame]:
    """Learn every representation of the settings without labels, on the train split."""
    import tempfile

    from demeanor.training import tracking
    from demeanor.training.representation import pretrain

    bundles: dict[str, Bundle] = {}
    rows = []
    for name, chosen in settings.root.items():
        parameters = {"representation": name, "settings": chosen.as_dict()}
        tags = {"representation": name, "data_hash": development.data_hash}
        with tracking.current().child(f"representation {name}", parameters, tags) as run:
            bundle, history = pretrain(
                chosen,
                development,
                on_epoch=lambda epoch, metrics, run=run: run.log_metrics(metrics, epoch),  # type: ignore[misc]
                checkpoints=Path(checkpoints) / "representation" / name,
            )
            with tempfile.TemporaryDirectory() as place:
                bundle.save(Path(place) / "bundle")
                run.log_artifacts(Path(place) / "bundle", "bundle")
        bundles[name] = bundle
        rows += [{"representation": name, **row} for row in history]
    return bundles, pd.DataFrame(rows)


def embed_development(development: Examples, bundles: dict[str, Bundle]) -> dict[str, Stream]:
    """One stream `representation.<name>` per representation."""
    from demeanor.training.representation import embed

    streams = [embed(bundle, development) for bundle in bundles.values()]
    return {stream.name: stream for stream in streams}


def probe_representations(
    development: Examples,
    streams: dict[str, Stream],
    bundles: dict[str, Bundle],
    tasks: Tasks,
) -> pd.DataFrame:
    """What a linear model reads out of each representation, against majority and pooled raw features."""
    from demeanor.evaluation.probe import compare
    from demeanor.training import tracking
    from demeanor.training.representation import pooled_features

    if not bundles:
        return pd.DataFrame({"task": [], "representation": []})
    found = {name.partition(".")[2]: stream for name, stream in streams.items()}
    found["pooled_features"] = pooled_features(next(iter(bundles.values())), development)
    tables = []
    for name, task in tasks.root.items():
        table = compare(found, development, task).rename_axis("representation").reset_index()
        tables.append(table.assign(task=name))
        metric = task.selection_metric[0]
        tracking.current().log_metrics(
            {f"probe.{name}.{row['representation']}.{metric}": row[metric] for _, row in table.iterrows()}
        )
    return pd.concat(tables, ignore_index=True)
