"""Trained branches of one task joined to a bundle of their own: the experts of demeanor.models.log_pool.

Nothing of the members changes. What is learnt of all together comes from validation: weights, where enough of it has
what several members were trained for, and the calibration. A row teaches of a member only if it is of a corpus that the
member was trained on: what an expert says of a foreign corpus (of a reader's two sentences, an expert in words) says
nothing of what it is worth at home.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool

from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.calibration import Calibration, subset_name
from demeanor.data.examples import Examples
from demeanor.data.task import Task
from demeanor.evaluation.attribution import every_subset
from demeanor.evaluation.conformal import fit_calibration, presence_names
from demeanor.inference.model import Embedded, TrainedModel
from demeanor.inference.presence import presence
from demeanor.training.experts import (
    Members,
    any_of,
    assemble,
    common_seeds,
    corpora_of,
    of_corpora,
    refuse_unfit,
)
from demeanor.training.fit import corpus_of, sealed
from demeanor.training.loop import Score
from demeanor.training.settings import JoinedSettings
from demeanor.training.weighing import Weighed, weigh

MODALITIES = ("text", "audio", "vision")


def join(
    name: str, settings: JoinedSettings, task: Task, development: Examples, members: Members, score: Score,
    code_revision: str = "",
) -> dict[str, Bundle]:  # fmt: skip
    """One bundle for each seed that all members were trained with; weights and calibration by all seeds together.

    development : train and valid utterances, as the members were trained on; a test utterance among them is an error
    score       : metrics of predictions, see demeanor.evaluation.metrics.score
    InputError for members that cannot answer for `task` together.
    """
    refuse_unfit(name, task, development, members, settings.seeds)
    pools = pools_of(settings, members)
    corpora = {member: corpora_of(bundle.card) for member, bundle in next(iter(pools.values())).items()}
    every = tuple(one for own in corpora.values() for one in own)
    train, valid = (of_corpora(part, every) for part in sealed(development, task))
    protocol = {"corpus": corpus_of(valid), "train": len(train), "valid": len(valid)}
    bundles = {
        seed: assemble(name, task, train, pool, protocol, settings.notes, code_revision) for seed, pool in pools.items()
    }
    weighed = weigh(settings, valid, corpora, bundles)
    seen = known_presence(any_of(bundles).card, train, corpora)
    bundles = {seed: informed(bundle, settings, weighed, seen) for seed, bundle in bundles.items()}
    target, embedded = task.targets(valid.utterances), Embedded(valid)
    answers = []
    for seed, bundle in bundles.items():
        model = TrainedModel.load(bundle, "auto")
        subsets = every_subset(model.modalities)[1:]
        outputs = model.outputs(embedded.for_model(model), subsets)
        answers.append({subset_name(chosen): part for chosen, part in zip(subsets, outputs, strict=True)})
        update = {"metrics": score(task, outputs[-1], target), "data_hash": development.data_hash}
        bundles[seed] = Bundle(bundle.card.model_copy(update=update), bundle.tensors)
    card = any_of(bundles).card
    by_subset = {key: np.stack([one[key] for one in answers]) for key in answers[0]}
    seeds = [int(bundle.card.protocol["seed"]) for bundle in bundles.values()]
    calibration = calibrate_joined(settings, task, by_subset, known_presence(card, valid, corpora), target, seeds)
    return {seed: bundle.calibrated(calibration) for seed, bundle in bundles.items()}


def pools_of(settings: JoinedSettings, members: Members) -> dict[str, dict[str, Bundle]]:
    """Seed -> who is joined, by the name of the member: one of each branch, or all seeds of all, `<branch>_<seed>`."""
    if settings.seeds == "each":
        return {seed: {one: seeds[seed] for one, seeds in members.items()} for seed in common_seeds(members)}
    every = {
        f"{member}_{bundle.card.protocol['seed']}": bundle
        for member, seeds in members.items()
        for bundle in seeds.values()
    }
    return {next(seed for seeds in members.values() for seed in seeds): every}


def known_presence(
    card: BundleCard, examples: Examples, corpora: Mapping[str, tuple[str, ...]]
) -> dict[str, Bool[np.ndarray, " utterances"]]:
    """Modality -> the utterances that have it and are of a corpus on which a member that reads it was trained."""
    made: dict[str, Bool[np.ndarray, " utterances"]] = {}
    for member, names in corpora.items():
        own = {role: value for role, value in card.inputs.items() if role.startswith(f"{member}.")}
        at_home = examples.utterances["corpus"].isin(names).to_numpy(dtype=bool)
        for modality, there in presence(own, examples, card.representations).items():
            made[modality] = made.get(modality, np.zeros(len(there), dtype=bool)) | (there & at_home)
    return made


def calibrate_joined(
    settings: JoinedSettings, task: Task, outputs: Mapping[str, np.ndarray],
    present: Mapping[str, Bool[np.ndarray, " utterances"]], target: np.ndarray, seeds: list[int],
) -> Calibration:  # fmt: skip
    """The calibration of a joined model, each expert judged by utterances of the corpora that it knows.

    outputs  subset_name of each set of modalities -> [seeds, utterances, outputs] with all others left out
    present  as of `known_presence`; target as Task.targets, [utterances] or [utterances, classes]
    """
    whole = subset_name(present)
    names = presence_names(present)
    at_home = outputs[whole].copy()
    for name in set(names.tolist()) - {"", whole}:
        at_home[:, names == name] = outputs[name][:, names == name]
    return fit_calibration(task, {**outputs, whole: at_home}, present, target, seeds, settings.calibration, "valid")


def informed(
    bundle: Bundle, settings: JoinedSettings, weighed: Weighed, seen: Mapping[str, Bool[np.ndarray, " utterances"]]
) -> Bundle:
    """The bundle with what was learnt of its members together, and a card that says it.

    seen  modality -> the training utterances that have it, as of `known_presence`
    """
    card = bundle.card
    pool = {**card.settings, "weights": {key: dict(value) for key, value in weighed.weights.items()},
            "divided": weighed.divided}  # fmt: skip
    rule = {
        "rule": settings.rule,
        "weights": "intervals" if card.task.kind == "regression" else "learnt" if weighed.weights else "equal",
        "learnt": pool["weights"],
        "seeds": settings.seeds,
        "priors": "divided" if weighed.divided else "kept",
        "utterances": dict(weighed.rows),
        "least": settings.least,
    }
    notes = "; ".join(filter(None, (card.notes, *sentences(card, rule, seen))))
    update = {"settings": pool, "notes": notes, "protocol": {**card.protocol, "joined": rule}}
    return Bundle(card.model_copy(update=update), bundle.tensors)


def sentences(
    card: BundleCard, rule: Mapping[str, Any], seen: Mapping[str, Bool[np.ndarray, " utterances"]]
) -> list[str]:
    """Who was joined, how each counts, and what none of them ever saw; `rule` as in the card's protocol."""
    members = card.protocol["members"]
    if rule["seeds"] == "together":
        seeds: dict[str, list[str]] = {}
        for name, one in members.items():
            seeds.setdefault(name.removesuffix(f"_{one['seed']}"), []).append(str(one["seed"]))
        called = {f"seeds {', '.join(own)} of {branch}": f"{branch}_{own[0]}" for branch, own in seeds.items()}
    else:
        called = {name: name for name in members}
    said = [
        f"{name} ({' and '.join(members[one]['modalities'])} of {members[one]['corpus']}, {members[one]['train']} "
        "utterances)"
        for name, one in called.items()
    ]
    told = [f"joined by {rule['rule']}: {', '.join(said)}"]
    if rule["weights"] == "intervals":
        told.append("each member counts by the inverse square of its interval")
    for name, count in rule["utterances"].items() if rule["weights"] != "intervals" else ():
        both = name.replace("+", " and ")
        if name in rule["learnt"]:
            listed = ", ".join(f"{member} {weight:.2f}" for member, weight in rule["learnt"][name].items())
            told.append(f"weights of {both} learnt on {count} utterances of validation: {listed}")
        else:
            told.append(
                f"equal weights of {both}: validation has {count} utterances for which all were trained, "
                f"{rule['least']} are wanted"
            )
    if rule["weights"] != "intervals":
        told.append(
            "priors divided out, their mean counted once" if rule["priors"] == "divided" else "priors of all kept"
        )
    never = [f"{one} and {other} of one utterance" for one, other in combinations(sorted(seen), 2)
             if not (seen[one] & seen[other]).any()]  # fmt: skip
    read = {value.modality for value in card.raw_inputs.values()}
    never += [f"any {name}" for name in MODALITIES if name not in read]
    return [*told, *([f"never seen in training: {', '.join(never)}"] if never else [])]
