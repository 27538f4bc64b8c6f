"""`from demeanor import Demeanor`: models loaded once, recordings scored as often as one likes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demeanor import remembered
from demeanor.data.bundle import Bundle, BundleCard

if TYPE_CHECKING:
    import pandas as pd

    from demeanor.timeline.planning import Options
    from demeanor.timeline.table import ModelHeader, Timeline

logger = logging.getLogger(__name__)


class BundleScorer:
    """Scores rows with several bundles; the one place that knows how a bundle is asked. What several of them read is
    extracted once.

    explained   with contributions and conflict, of the models whose training allows it
    transcribe  False: rows have the words that they have, for whoever made them has heard the recording already
    """

    def __init__(self, bundles: Mapping[str, Bundle], explained: bool = False, transcribe: bool = True):
        from demeanor.inference.explanation import can_explain
        from demeanor.inference.model import TrainedModel

        self.bundles = dict(bundles)
        asked = self.bundles.values() if transcribe else [_without_recogniser(one) for one in self.bundles.values()]
        self.models = [TrainedModel.load(bundle) for bundle in asked]
        self.explained = [explained and can_explain(model.card) for model in self.models]

    @cached_property
    def headers(self) -> tuple[ModelHeader, ...]:
        """What each model says of itself in a timeline's header."""
        return tuple(header_of(uri, bundle) for uri, bundle in self.bundles.items())

    @property
    def in_dialogue(self) -> bool:
        """Whether any of the models reads whole dialogues."""
        from demeanor.models import card_of

        cards = [bundle.card for bundle in self.bundles.values()]
        return any(card_of(card.system, card.settings).batching == "dialogue" for card in cards)

    def score(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[pd.DataFrame]:
        """One table of answers per model, rows in the given order."""
        from demeanor.inference.model import score_together

        return score_together(self.models, rows, self.explained)


def _without_recogniser(bundle: Bundle) -> Bundle:
    import dataclasses

    from demeanor.inference.transcripts import NONE

    return dataclasses.replace(bundle, card=bundle.card.model_copy(update={"recogniser": NONE}))


def header_of(uri: str, bundle: Bundle) -> ModelHeader:
    """What a timeline says of a model that answered in it."""
    from demeanor.timeline.table import ModelHeader

    card = bundle.card
    made = {stream: value.provenance for stream, value in card.raw_inputs.items()}
    return ModelHeader(
        uri=uri, branch=card.branch, system=card.system, version=card.version, weights_sha256=bundle.weights_sha256,
        task=card.task, licence=card.licence,
        extractors={stream: f"{one.extractor} {one.version} {one.fingerprint}" for stream, one in made.items()},
        extractor_licences={stream: one.licence for stream, one in made.items()}, calibration=_calibration_of(card),
    )  # fmt: skip


def _calibration_of(card: BundleCard) -> str:
    if card.calibration is None:
        return "none"
    return f"on validation, intervals and sets that hold {card.calibration.coverage:.0%} of labels"


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
        from demeanor.serving.locating import load_bundle

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

    @cached_property
    def scorer(self) -> BundleScorer:
        """What answers for rows."""
        return BundleScorer(self.bundles)

    @cached_property
    def listener(self) -> BundleScorer:
        """What answers for the spans of a timeline: with reasons, and no words but those that the timeline has."""
        return BundleScorer(self.bundles, explained=True, transcribe=False)

    @property
    def recogniser(self) -> str:
        """What recognises words: the one that the models were trained with where they agree, else the packaged one."""
        named = {bundle.card.recogniser for bundle in self.bundles.values()} - {"auto", "none"}
        return named.pop() if len(named) == 1 else "auto"

    def timeline(self, recording: Path | str, options: Options | None = None, **keywords: Any) -> Timeline:
        """The timeline of a recording; see `demeanor.timeline.planning.Options` and `make_timeline`.

        `options` may be given by its fields: `timeline("x.mp4", speakers="channels")`.
        """
        import dataclasses

        from demeanor.timeline.planning import Options
        from demeanor.timeline.run import make_timeline
        from demeanor.timeline.words import AUTO

        fields = {field.name for field in dataclasses.fields(Options)}
        chosen = {name: keywords.pop(name) for name in list(keywords) if name in fields}
        made = dataclasses.replace(options or Options(), **chosen)
        if made.recogniser == AUTO:
            made = dataclasses.replace(made, recogniser=self.recogniser)
        make = partial(BundleScorer, self.bundles, explained=True, transcribe=False)
        return make_timeline(recording, self.listener, made, make=make, **keywords)

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
        """Address of each model -> a row per row; see `demeanor.data.raw_rows.COLUMNS`."""
        return dict(zip(self.bundles, self.scorer.score(rows), strict=True))


def champion_addresses() -> list[str]:
    """Addresses of all champions in the registry that MLflow is connected to; InputError where there is none."""
    return list(remembered.asked("champions", _champion_addresses))


def remember_champions(project: Path) -> None:
    """Ask a registry in a file, at the end of a run, what the first `demeanor predict` after it will ask: MLflow is in
    memory here, and there it would take longer to import than a clip takes to be scored."""
    from mlflow.exceptions import MlflowException

    from demeanor.data.errors import DemeanorError
    from demeanor.serving.locating import folder_of
    from demeanor.tracking_store import SQLITE, connect_when_asked, tracking_uri

    if not tracking_uri(project).startswith(SQLITE):
        return
    try:
        connect_when_asked(project)
        for uri in champion_addresses():
            folder_of(uri)
    except (DemeanorError, MlflowException, OSError) as error:  # no champion yet: whoever asks for one is told
        logger.debug("no champions are remembered: %s", error)
    finally:
        remembered.use(None)


def _champion_addresses() -> list[str]:
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
