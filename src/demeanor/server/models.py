"""The models behind the door: by name and alias, with their cards; a new champion takes its place between requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.errors import InputError
from demeanor.server.refusals import Refusal

if TYPE_CHECKING:
    from demeanor.inference.model import TrainedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """`uri` as it was given. Of the registry: name, and alias or version; of a folder: neither."""

    uri: str
    name: str | None = None
    alias: str | None = None
    version: str | None = None

    @classmethod
    def of(cls, uri: str) -> Address:
        """InputError for a registry's address without alias and version."""
        if not uri.startswith("models:/"):
            return cls(uri)
        told = uri.removeprefix("models:/").strip("/")
        name, at, alias = told.rpartition("@")
        if at and name and alias:
            return cls(uri, name, alias=alias)
        name, slash, version = told.rpartition("/")
        if slash and name and version.isdigit():
            return cls(uri, name, version=version)
        raise InputError(f"model {uri}", ["names neither an alias nor a version"], "As models:/NAME@champion.")

    def current(self) -> str | None:
        """The version that the registry has for it now; None for a folder. InputError where there is none."""
        if self.name is None or self.version is not None:
            return self.version
        from demeanor.serving.locating import version_of

        found = version_of(self.name, self.alias or "")
        if found is None:
            raise InputError(
                f"model {self.uri}", [f"no version has the alias '{self.alias}'"], "Register one: kedro run."
            )
        return found

    def load(self, version: str | None) -> Bundle:
        """The bundle. InputError where it cannot be had."""
        from demeanor.serving.locating import load_bundle

        return load_bundle(self.uri if version is None else f"models:/{self.name}/{version}")


@dataclass(frozen=True)
class Found:
    """One version of one model as it was read: all that worker processes need to know. `digest` of its weights."""

    address: Address
    version: str | None
    bundle: Bundle
    digest: str

    @property
    def card(self) -> BundleCard:
        """The card of its bundle."""
        return self.bundle.card


class Served:
    """One version of one model: what workers need of it and what the model thread asks."""

    def __init__(self, found: Found):
        from demeanor.inference.model import TrainedModel

        self.address, self.version, self.bundle = found.address, found.version, found.bundle
        self.digest = found.digest
        self.model = TrainedModel.load(found.bundle)

    @property
    def card(self) -> BundleCard:
        """The card of its bundle."""
        return self.bundle.card

    @property
    def name(self) -> str:
        """By which callers ask for it."""
        return self.address.name or self.card.branch

    def called(self) -> dict[str, str | None]:
        """Name, alias and version."""
        return {"name": self.name, "alias": self.address.alias, "version": self.version}

    def view(self, without: Sequence[str]) -> TrainedModel:
        """The model as if these modalities were never recorded. Refusal where it lacks one, or reads nothing else."""
        try:
            return self.model.without(*without) if without else self.model
        except InputError as error:
            raise Refusal("bad_request", "; ".join(error.problems)) from None

    def require_explainable(self) -> None:
        """Refusal not_explainable for a model that embeds, or never learnt to do without a modality."""
        from demeanor.inference.explanation import refuse_unseen_subsets

        try:
            refuse_unseen_subsets(self.card)
        except InputError as error:
            raise Refusal("not_explainable", "; ".join(error.problems)) from None

    @property
    def explainable(self) -> bool:
        """Whether its answers can say why."""
        try:
            self.require_explainable()
        except Refusal:
            return False
        return True

    def described(self) -> dict[str, Any]:
        """The card for callers: no path of this machine is in it."""
        card = self.card
        return {
            **self.called(),
            "weights_sha256": self.digest,
            "branch": card.branch,
            "system": card.system,
            "task": None if card.kind == "embeds" else card.task.model_dump(mode="json"),
            "modalities": sorted({value.modality for value in card.raw_inputs.values()}),
            "inputs": {
                stream: {"extractor": value.provenance.extractor, "version": value.provenance.version}
                for stream, value in card.raw_inputs.items()
            },
            "explains": self.explainable,
            "timelines": card.kind == "predicts",
            "trained_on": card.protocol.get("corpus"),
            "metrics_on_validation": card.metrics,
            "parameters": self.bundle.parameters,
            "licence": card.licence,
            "notes": card.notes,
        }


def find(uri: str) -> Found:
    """A model by its address. InputError where it cannot be had or cannot answer for recordings."""
    address = Address.of(uri)
    return found(address, address.current())


def found(address: Address, version: str | None) -> Found:
    """One version, its network not yet built. InputError where its features cannot be made from a recording."""
    bundle = address.load(version)
    if not bundle.card.recomputable:
        raise InputError(
            f"model {address.uri}",
            ["its features cannot be made from a recording"],
            "Serve one that was trained on features of Demeanor's own extractors.",
        )
    return Found(address, version, bundle, bundle.weights_sha256)


class Shelf:
    """All models; the first is the one that a request without a name is for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: tuple[Served, ...] = ()

    @property
    def all(self) -> tuple[Served, ...]:
        """The models as they are now."""
        return self._models

    def put(self, models: Sequence[Served]) -> None:
        """InputError where two have the same name and alias: nobody could ask for the second."""
        names = [f"{each.name}@{each.address.alias or each.version or ''}" for each in models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError("models", [f"'{name.rstrip('@')}' would be served twice" for name in twice])
        with self._lock:
            self._models = tuple(models)

    def exchange(self, former: Served, new: Served) -> None:
        """Requests that have `former` keep it; those that come get `new`."""
        with self._lock:
            self._models = tuple(new if each is former else each for each in self._models)

    def get(self, wanted: str | None) -> Served:
        """By NAME, NAME@ALIAS, or models:/NAME@ALIAS; None is the first. Refusal unknown_model."""
        models = self._models
        if not models:
            raise Refusal("not_ready", "the models are still being loaded", 2)
        if not wanted:
            return models[0]
        told = wanted.removeprefix("models:/")
        name, _, alias = told.partition("@")
        for each in models:
            if told == each.name or (name == each.name and alias == each.address.alias):
                return each
        known = ", ".join(f"{each.name}@{each.address.alias}" if each.address.alias else each.name for each in models)
        raise Refusal("unknown_model", f"no such model here; there is: {known}")


def readable_source(uri: str) -> str:
    """An address for the log: a folder by its last two parts."""
    return uri if uri.startswith("models:") else "/".join(Path(uri).parts[-2:])
