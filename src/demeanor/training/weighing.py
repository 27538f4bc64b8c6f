"""How much each member of a joined model counts, by validation, where enough of it is familiar to several of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float

from demeanor.data.batch import EVALUATION_BATCH
from demeanor.data.batches import Batches
from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.calibration import subset_name
from demeanor.data.examples import Examples
from demeanor.data.task import Task
from demeanor.evaluation.pool_weights import learn_weights
from demeanor.inference.model import Embedded, TrainedModel
from demeanor.inference.predict import Prediction
from demeanor.models.log_pool import SMALLEST, LogPoolSettings
from demeanor.training.experts import any_of
from demeanor.training.settings import JoinedSettings


@dataclass(frozen=True)
class Weighed:
    """What validation said of the members together.

    weights  set of members -> weight of each, learnt; none where it has too few utterances
    divided  their priors are taken out, and their mean is put in once
    rows     every set of several members -> utterances that all of them were trained for
    """

    weights: Mapping[str, Mapping[str, float]]
    divided: bool
    rows: Mapping[str, int]


def weigh(
    settings: JoinedSettings, valid: Examples, corpora: Mapping[str, tuple[str, ...]], bundles: Mapping[str, Bundle]
) -> Weighed:
    """Weights of every set of members for which `valid` has enough utterances.

    corpora  member -> those that it was trained on
    bundles  by seed, all members together with equal weights; the seeds are joined
    """
    if settings.seeds == "together":
        # Seeds that learnt the same know the same: there is nothing to weigh, and their prior is one.
        return Weighed({}, divided=False, rows={})
    card, names = any_of(bundles).card, list(corpora)
    embedded = Embedded(valid)
    models = [TrainedModel.load(bundle, "auto") for bundle in bundles.values()]
    speaks = speaking(card, embedded.for_model(models[0]))
    for column, name in enumerate(names):
        speaks[:, column] &= valid.utterances["corpus"].isin(corpora[name]).to_numpy(dtype=bool)
    sets = [list(chosen) for size in range(2, len(names) + 1) for chosen in combinations(range(len(names)), size)]
    rows = {subset_name(names[n] for n in chosen): speaks[:, chosen].all(axis=1) for chosen in sets}
    counted = {name: int(there.sum()) for name, there in rows.items()}
    number = card.task.kind == "regression"
    if number or max(counted.values()) < settings.least:
        return Weighed({}, settings.prior != "kept" and not number, counted)
    heard = np.stack([evidence_of(model, embedded.for_model(model)) for model in models])
    pool, target = LogPoolSettings(**card.settings), card.task.targets(valid.utterances)
    own = np.stack([log_prior(card.task, pool.members[name].prior) for name in names])
    found: dict[bool, tuple[float, dict[str, dict[str, float]]]] = {}
    for divided in (False, True) if settings.prior is None else (settings.prior == "divided",):
        loss, weights = 0.0, {}
        for chosen in sets:
            name = subset_name(names[n] for n in chosen)
            there = rows[name]
            if counted[name] < settings.least:
                continue
            said = heard[:, there][:, :, chosen] - (own[chosen] if divided else 0.0)
            base = own[chosen].mean(axis=0) if divided else np.zeros(card.task.outputs)
            alike = 1.0 if divided else 1.0 / len(chosen)
            learnt, mean = learn_weights(card.task, said, base, target[there], alike, "valid")
            loss += mean * counted[name]
            weights[name] = {names[n]: float(f"{value:.6g}") for n, value in zip(chosen, learnt, strict=True)}
        found[divided] = loss, weights
    divided = min(found, key=lambda one: found[one][0])
    return Weighed(found[divided][1], divided, counted)


def speaking(card: BundleCard, examples: Examples) -> Bool[np.ndarray, "utterances members"]:
    """Which members an utterance is something for, as demeanor.models.log_pool has it."""
    columns = []
    for name, member in LogPoolSettings(**card.settings).members.items():
        asked = [role for role in member.roles if member.card.roles[role].required] or list(member.roles)
        lengths = [examples.stream(card.inputs[f"{name}.{role}"].stream).ragged.lengths for role in asked]
        columns.append(np.any([np.asarray(one) > 0 for one in lengths], axis=0))
    return np.stack(columns, axis=1)


@torch.inference_mode()
def evidence_of(model: TrainedModel, examples: Examples) -> Float[np.ndarray, "utterances members outputs"]:
    """What each member of a joined model says by itself: log probabilities of classes, or log odds of labels."""
    network = model.network
    assert isinstance(network, Prediction)
    batches = Batches(examples, model.card.inputs, None, network.normaliser, network.system.card.batching)
    members = len(LogPoolSettings(**model.card.settings).members)
    made = np.zeros((len(examples), members, model.task.outputs), dtype=np.float32)
    for batch in batches.iterate(batches.plan(EVALUATION_BATCH)):
        output = network.system(batch.to(network.device))
        made[batch.rows.numpy()] = output.auxiliary["evidence"].float().cpu().numpy()
    return made


def log_prior(task: Task, shares: tuple[float, ...]) -> Float[np.ndarray, " outputs"]:
    """Log of the shares of classes, or log odds of labels, as demeanor.models.log_pool has them."""
    if task.kind == "multilabel":
        known = np.clip(np.array(shares or [0.5] * task.outputs), SMALLEST, 1 - SMALLEST)
        return np.log(known / (1 - known))
    return np.log(np.maximum(np.array(shares or [1.0 / task.outputs] * task.outputs), SMALLEST))
