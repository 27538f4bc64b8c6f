"""Members of a joined model: whether they can answer together, how each enters the pool, and the bundle of them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from demeanor import __version__
from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.label_spaces import find_map, space_of
from demeanor.data.task import IGNORED, Task
from demeanor.models.log_pool import LogPoolSettings, MemberSettings

Members = Mapping[str, Mapping[str, Bundle]]
"""branch -> seed -> bundle"""
NARROWEST = 1e-3
"""Half an interval of a number, in its own unit: below it an expert's weight would have no end."""


def refuse_unfit(
    name: str, task: Task, development: Examples, members: Members, joined: Literal["each", "together"] = "each"
) -> None:
    """InputError with all reasons why the members cannot answer for `task` together.

    joined  what becomes of the seeds: a model for each that all members have, or one model of all
    """
    problems = [f"{member} has not been trained" for member, seeds in members.items() if not seeds]
    trained = {member: seeds for member, seeds in members.items() if seeds}
    for member, seeds in trained.items():
        card = any_of(seeds).card
        if card.data_hash != development.data_hash:
            problems.append(f"{member} was trained on data {card.data_hash}, features are now {development.data_hash}")
        problem = why_unlike(card.task, task)
        problems += [f"{member}: {problem}"] if problem else []
    if joined == "each" and not problems and not common_seeds(trained):
        listed = "; ".join(f"{member}: {', '.join(seeds)}" for member, seeds in trained.items())
        problems.append(f"there is no seed that all of them were trained with ({listed})")
    carried: dict[str, str] = {}
    for member, seeds in trained.items():
        for stream in any_of(seeds).card.representations:
            weights = any_of(seeds).representation(stream).weights_sha256
            if carried.setdefault(stream, weights) != weights:
                problems.append(f"{member} carries another {stream} than the members before it")
    if problems:
        raise InputError(f"joined model '{name}'", problems, "Run `kedro run --pipelines fusion_training` again.")


def why_unlike(own: Task, task: Task) -> str:
    """Why answers to one task are none to another; empty where they are, or where a map of labels leads there."""
    if own.kind != task.kind:
        return f"it does {own.describe()}, which is no answer to {task.describe()}"
    if task.kind == "regression":
        same = (own.low, own.high) == (task.low, task.high)
        return "" if same else f"its numbers are of another scale: {own.describe()}; {task.describe()}"
    if task.kind == "multilabel":
        return "" if own.classes == task.classes else f"it has other labels: {own.describe()}; {task.describe()}"
    try:
        becomes_of(own, task)
    except InputError as error:
        return "; ".join(error.problems)
    return ""


def becomes_of(own: Task, task: Task) -> dict[str, str]:
    """Class of `own` -> class of `task`, empty where they are the same in the same order; InputError without a map."""
    if own.classes == task.classes or own.kind != "classification":
        return {}
    if set(own.classes) == set(task.classes):
        return {name: name for name in own.classes}
    return dict(find_map(space_of(own.classes).name, space_of(task.classes).name).pairs)


def common_seeds(members: Members) -> list[str]:
    """Seeds that all members were trained with, in the order of the first."""
    first, *others = members.values()
    return [seed for seed in first if all(seed in seeds for seeds in others)]


def any_of(seeds: Mapping[str, Bundle]) -> Bundle:
    """A bundle of a branch: their cards differ in the seed alone."""
    return next(iter(seeds.values()))


def corpora_of(card: BundleCard) -> tuple[str, ...]:
    """Names of the corpora that a bundle was trained on."""
    return tuple(name.strip() for name in str(card.protocol.get("corpus", "")).split(",") if name.strip())


def of_corpora(examples: Examples, names: tuple[str, ...]) -> Examples:
    """The utterances of some corpora."""
    return Examples.of(examples.utterances[examples.utterances["corpus"].isin(names)], examples.streams)


def assemble(
    name: str, task: Task, train: Examples, members: Mapping[str, Bundle], protocol: Mapping[str, Any], notes: str,
    code_revision: str,
) -> Bundle:  # fmt: skip
    """The members' bundles as one, with equal weights and uncalibrated; their priors by the labels of `train`."""
    cards = {member: bundle.card for member, bundle in members.items()}
    settings = LogPoolSettings(
        members={member: member_of(task, card, train) for member, card in cards.items()},
        prior=() if task.kind == "regression" else shares(task, task.targets(train.utterances)),
        middle=median(task.targets(train.utterances)) if task.kind == "regression" else None,
    )
    tensors: dict[str, np.ndarray] = {}
    representations: dict[str, BundleCard] = {}
    for member, bundle in members.items():
        tensors |= {f"model.members.{member}.{key}": value for key, value in bundle.part("model").items()}
        tensors |= {f"normaliser.{member}.{key}": value for key, value in bundle.part("normaliser").items()}
        representations |= bundle.card.representations
        for stream in bundle.card.representations:
            tensors |= {f"{stream}.{key}": value for key, value in bundle.part(stream).items()}
    readers = [card for card in cards.values() if any(one.modality == "text" for one in card.raw_inputs.values())]
    licences = {part for card in cards.values() for part in card.licence.split("; ") if part}
    card = BundleCard(
        branch=name,
        system="log_pool",
        settings=settings.as_dict(),
        task=task,
        inputs={f"{member}.{role}": value for member, card in cards.items() for role, value in card.inputs.items()},
        protocol={
            **protocol,
            "seed": next(iter(cards.values())).protocol["seed"],
            # What an answer says of a language is said of its words.
            "languages": sorted({one for card in readers or cards.values() for one in spoken(card)}),
            **sources_of(cards),
            "members": {member: facts_of(bundle) for member, bundle in members.items()},
        },
        code_revision=code_revision,
        version=__version__,
        licence="; ".join(sorted(licences)),
        notes=notes,
        languages=tuple(sorted({one for card in readers or cards.values() for one in card.languages})),
        recogniser=readers[0].recogniser if readers else "auto",
        representations=representations,
    )
    return Bundle(card, tensors)


def member_of(task: Task, card: BundleCard, train: Examples) -> MemberSettings:
    """How a trained branch enters the pool: its system, its temperatures or intervals, its prior."""
    becomes, number = becomes_of(card.task, task), task.kind == "regression"
    calibration = card.calibration
    fits = {} if calibration is None else {"": calibration.pooled, **calibration.subsets}
    widths = {name: fit.width for name, fit in fits.items() if fit.width is not None}
    return MemberSettings(
        system=card.system,
        settings=card.settings,
        roles=tuple(card.inputs),
        temperatures={} if number else {name: fit.temperature for name, fit in fits.items()},
        widths={name: max(width, NARROWEST) for name, width in widths.items()} if number else {},
        prior=() if number else prior_of(task, card, becomes, train),
        classes=card.task.classes if becomes else (),
        becomes=becomes,
    )


def prior_of(task: Task, card: BundleCard, becomes: Mapping[str, str], train: Examples) -> tuple[float, ...]:
    """Shares of the classes of `task` among the labels that a member was trained on."""
    labels = card.task.targets(of_corpora(train, corpora_of(card)).utterances)
    if becomes:
        place = {name: n for n, name in enumerate(task.classes)}
        mapped = [place[becomes[name]] if name in becomes else IGNORED for name in card.task.classes]
        labels = np.array([mapped[label] if label != IGNORED else IGNORED for label in labels], dtype=np.int64)
    return shares(task, labels)


def shares(task: Task, labels: np.ndarray) -> tuple[float, ...]:
    """Share of each class among labels as of Task.targets, [N] or [N, classes]; none is quite without any."""
    if task.kind == "multilabel":
        known = ~np.isnan(labels)
        counted = (np.nan_to_num(labels).sum(axis=0) + 1.0) / (known.sum(axis=0) + 2.0)
    else:
        counted = np.bincount(labels[labels != IGNORED], minlength=task.outputs) + 1.0
        counted = counted / counted.sum()
    return tuple(float(f"{value:.6g}") for value in counted)


def median(labels: np.ndarray) -> float | None:
    """Median of the known ones of labels [N]."""
    known = labels[~np.isnan(labels)]
    return float(np.median(known)) if len(known) else None


def sources_of(cards: Mapping[str, Any]) -> dict[str, Any]:
    """What the members' protocols say of the corpora of a union: rows and sampling of each, where no two members met
    one otherwise, and which were left out."""
    met = [(name, one) for card in cards.values() for name, one in card.protocol.get("corpora", {}).items()]
    corpora = dict(met)
    absent = sorted({name for card in cards.values() for name in card.protocol.get("left_out", ())})
    alike = corpora and all(corpora[name] == one for name, one in met)
    return {**({"corpora": corpora} if alike else {}), **({"left_out": absent} if absent else {})}


def spoken(card: BundleCard) -> list[str]:
    """Languages that a bundle was trained on."""
    return list(card.protocol.get("languages") or card.languages)


def facts_of(bundle: Bundle) -> dict[str, Any]:
    """What the card of a joined model keeps of a member's own."""
    card, protocol = bundle.card, bundle.card.protocol
    return {
        "system": card.system, "modalities": list(card.modalities), "task": card.task.as_dict(),
        **{key: protocol.get(key) for key in ("corpus", "seed", "train", "valid", "languages", "epoch", "training")},
        "validation": dict(card.metrics), "data_hash": card.data_hash, "code_revision": card.code_revision,
        "weights_sha256": bundle.weights_sha256, "notes": card.notes,
    }  # fmt: skip
