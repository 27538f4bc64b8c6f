"""Pretraining on every mixture of corpora and every set of modalities: what each adds, and what leaving one out costs.

The released checkpoints of the convolutional autoencoder are such a sweep (docs/systems/conv_autoencoder.md#released):
all mixtures of three corpora with all modalities, and all sets of modalities on one mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.settings import Settings
from demeanor.training.pretraining.settings import RepresentationSettings


class SweepSettings(Settings):
    """Which trainings a sweep consists of.

    The corpus of the environment is the target: every representation is probed there. A mixture without it is
    leave-corpus-out: only its normaliser is then fitted on the target's train split, without labels.
    """

    enabled: bool = False
    representation: str = Field(default="conv_autoencoder", description="name among `representations`")
    corpora: dict[str, str] = Field(
        default_factory=dict, description="name -> folder of the development examples of further corpora"
    )
    over: Literal["corpora", "modalities", "both", "product"] = Field(
        default="both",
        description="all mixtures of corpora with all modalities; all modalities of the whole mixture; both of these, "
        "as the released checkpoints; or every mixture with every set",
    )


@dataclass(frozen=True)
class Combination:
    """One training of a sweep."""

    corpora: tuple[str, ...]
    modalities: tuple[str, ...]

    @property
    def name(self) -> str:
        """Corpora and modalities, joined by `+`."""
        return f"{'+'.join(self.corpora)} {'+'.join(self.modalities)}"


def planned(corpora: Sequence[str], modalities: Sequence[str], over: str) -> list[Combination]:
    """The trainings of a sweep, each once."""
    from demeanor.evaluation.robustness import subsets

    every, each = tuple(corpora), tuple(modalities)
    if over == "product":
        return [Combination(mixture, chosen) for mixture in subsets(every) for chosen in subsets(each)]
    plan = [Combination(mixture, each) for mixture in subsets(every)] if over in ("corpora", "both") else []
    plan += [Combination(every, chosen) for chosen in subsets(each)] if over in ("modalities", "both") else []
    return list(dict.fromkeys(plan))


def sweep(
    settings: RepresentationSettings,
    corpora: Mapping[str, Examples],
    target: str,
    over: str,
    probe: Callable[[Bundle, Examples], dict[str, float]],
    around: Callable[[Combination], Any],
    seed: int = 1,
) -> pd.DataFrame:
    """One row per combination: corpora, modalities, with_target, dimension, reconstruction.<modality>,
    latent_variance, and the probe's scores on the target corpus.

    corpora  name -> development examples, the target among them
    probe    scores of a representation on the target's examples
    around   a context manager for each training, in which an object with `log_metrics` is at hand

    InputError if the target is not among the corpora.
    """
    if target not in corpora:
        raise InputError("sweep", [f"the target '{target}' is not among {', '.join(corpora)}"])
    return pd.DataFrame(list(_rows(settings, corpora, target, over, probe, around, seed)))


def _rows(
    settings: RepresentationSettings, corpora: Mapping[str, Examples], target: str, over: str, probe: Callable,
    around: Callable, seed: int,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    from demeanor.representations.embedding import adapt
    from demeanor.training.pretraining.loop import pretrain

    for combination in planned(list(corpora), settings.word_matrix.modalities, over):
        matrix = settings.word_matrix.only(combination.modalities)
        chosen = settings.model_copy(update={"word_matrix": matrix})
        with around(combination) as run:
            bundle, history = pretrain(chosen, [corpora[name] for name in combination.corpora], seed=seed)
            for row in history:
                run.log_metrics({name: value for name, value in row.items() if name != "epoch"}, int(row["epoch"]))
            seen = target in combination.corpora
            rows = {
                "dimension": float(bundle.card.protocol["dimension"]),
                **{name: value for name, value in bundle.card.metrics.items() if name != "valid_loss"},
                **probe(bundle if seen else adapt(bundle, corpora[target]), corpora[target]),
            }
            run.log_metrics(rows)
        yield {
            "corpora": "+".join(combination.corpora),
            "modalities": "+".join(combination.modalities),
            "with_target": seen,
            **rows,
        }


def cost_of_leaving_out(table: pd.DataFrame, target: str, metric: str) -> pd.DataFrame:
    """Per mixture without the target: `metric` there, with the target added to it, and their difference."""
    if not len(table) or metric not in table:
        return pd.DataFrame(columns=["corpora", "modalities", "without", "with", "difference"])
    by_key = {
        (frozenset(corpora.split("+")), modalities): value
        for corpora, modalities, value in table[["corpora", "modalities", metric]].itertuples(index=False)
    }
    rows = []
    for (corpora, modalities), value in by_key.items():
        other = by_key.get((corpora | {target}, modalities))
        if target not in corpora and other is not None:
            rows.append(
                {"corpora": "+".join(sorted(corpora)), "modalities": modalities, "without": value, "with": other,
                 "difference": other - value}
            )  # fmt: skip
    return pd.DataFrame(rows, columns=["corpora", "modalities", "without", "with", "difference"])
