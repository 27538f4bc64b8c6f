"""`from demeanor import Demeanor`: models loaded once, recordings scored as often as one likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demeanor.data.bundle import Bundle

if TYPE_CHECKING:
    import pandas as pd

    from demeanor.timeline.planning import Options
    from demeanor.timeline.table import ModelHeader, Timeline


class BundleScorer:
    """Scores rows with several bundles; the one place that knows how a bundle is asked."""

    def __init__(self, bundles: Mapping[str, Bundle]):
        from demeanor.inference.model import TrainedModel

        self.bundles = dict(bundles)
        self.models = [TrainedModel.load(bundle) for bundle in self.bundles.values()]

    @cached_property
    def headers(self) -> tuple[ModelHeader, ...]:
        return tuple(header_of(uri, bundle) for uri, bundle in self.bundles.items())

    @property
    def in_dialogue(self) -> bool:
        from demeanor.models import find_system

        return any(find_system(bundle.card.system).card.batching == "dialogue" for bundle in self.bundles.values())

    def score(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[pd.DataFrame]:
        return [model.score(rows) for model in self.models]


def header_of(uri: str, bundle: Bundle) -> ModelHeader:
    """What a timeline says of a model that answered in it."""
    from demeanor.timeline.table import ModelHeader

    card = bundle.card
    made = {stream: value.provenance for stream, value in card.raw_inputs.items()}
    return ModelHeader(
        uri=uri, branch=card.branch, system=card.system, version=card.version, weights_sha256=bundle.weights_sha256,
        task=card.task, licence=card.licence,
        extractors={stream: f"{one.extractor} {one.version} {one.fingerprint}" for stream, one in made.items()},
        extractor_licences={stream: one.licence for stream, one in made.items()},
    )  # fmt: skip


class Demeanor:
    """Models at work: load once, call many times.

    >>> from demeanor import Demeanor
    >>> demeanor = Demeanor("models:/demeanor-demo-synthetic-sentiment@champion")
    >>> timeline = demeanor.timeline("interview.mp4")
    >>> timeline.to_frame()
    """

    def __init__(self, *models: str | Path | Bundle):
        """Addresses in the registry, folders of bundles, or bundles; InputError where one cannot be loaded, where two
        answer for the same task, or where one is a representation."""
        from demeanor.data.errors import InputError
        from demeanor.serving.registry import load_bundle

        if not models:
            raise InputError("models", ["none was given"], "Give the folder of a bundle or models:/NAME@champion.")
        self.bundles = {
            (model.card.branch if isinstance(model, Bundle) else str(model)): (
                model if isinstance(model, Bundle) else load_bundle(str(model))
            )
            for model in models
        }
        problems = [
            f"{uri} makes a representation and gives no answers"
            for uri, b in self.bundles.items()
            if b.card.kind == "embeds"
        ]
        tasks = [bundle.card.task.name for bundle in self.bundles.values()]
        problems += [f"several models answer for {name}" for name in sorted(set(tasks)) if tasks.count(name) > 1]
        if problems:
            raise InputError("models", problems, "Give one model per task.")
        self.scorer = BundleScorer(self.bundles)

    def timeline(self, recording: Path | str, options: Options | None = None, **keywords: Any) -> Timeline:
        """The timeline of a recording; see `demeanor.timeline.planning.Options` and `make_timeline`.

        `options` may be given by its fields: `timeline("x.mp4", speakers="channels")`.
        """
        import dataclasses

        from demeanor.timeline.planning import Options
        from demeanor.timeline.run import make_timeline

        fields = {field.name for field in dataclasses.fields(Options)}
        chosen = {name: keywords.pop(name) for name in list(keywords) if name in fields}
        made = dataclasses.replace(options or Options(), **chosen)
        return make_timeline(recording, self.scorer, made, make=partial(BundleScorer, self.bundles), **keywords)

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
        """Address of each model -> a row per row; see `demeanor.inference.recordings.COLUMNS`."""
        return dict(zip(self.bundles, self.scorer.score(rows), strict=True))


def champion_addresses() -> list[str]:
    """Addresses of all champions in the registry that MLflow is connected to; InputError where there is none."""
    import mlflow
    from mlflow import MlflowClient

    from demeanor.data.errors import InputError
    from demeanor.serving.standing import CHAMPION

    named = [
        f"models:/{model.name}@{CHAMPION}"
        for model in MlflowClient().search_registered_models(filter_string="name LIKE 'demeanor-%'")
        if CHAMPION in model.aliases
    ]
    if not named:
        where = f"model registry {mlflow.get_registry_uri()}"
        raise InputError(where, ["no champion is registered"], "Run `kedro run`, or give --model.")
    return sorted(named, reverse=True)
