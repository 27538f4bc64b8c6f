"""Which modalities a clip has, in the eyes of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Bool

from demeanor.data.bundle import BundleCard, InputSpecification
from demeanor.data.examples import Examples


def presence(
    inputs: Mapping[str, InputSpecification],
    examples: Examples,
    representations: Mapping[str, BundleCard] | None = None,
) -> dict[str, Bool[np.ndarray, " utterances"]]:
    """Modality of a model's inputs -> the utterances that have at least one step in one of its streams.

    representations  stream -> the card of what makes it: where the examples lack such a stream, an utterance has it
                     if it has anything that this reads
    """
    made: dict[str, Bool[np.ndarray, " utterances"]] = {}
    for value in inputs.values():
        inner = None if value.stream in examples.streams else (representations or {}).get(value.stream)
        streams = [value.stream] if inner is None else list(inner.raw_inputs)
        some = np.any([np.asarray(examples.stream(name).ragged.lengths) > 0 for name in streams], axis=0)
        made[value.modality] = made.get(value.modality, np.zeros(len(some), dtype=bool)) | some
    return made


def roles_outside(inputs: Mapping[str, InputSpecification], modalities: Collection[str]) -> list[str]:
    """The roles that are to be left out so that nothing but `modalities` is seen."""
    return [role for role, value in inputs.items() if value.modality not in modalities]
