"""Which modalities a clip has, in the eyes of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Bool

from demeanor.data.bundle import InputSpecification
from demeanor.data.examples import Examples


def presence(
    inputs: Mapping[str, InputSpecification], examples: Examples
) -> dict[str, Bool[np.ndarray, " utterances"]]:
    """Modality of a model's inputs -> the utterances that have at least one step in one of its streams."""
    made: dict[str, Bool[np.ndarray, " utterances"]] = {}
    for value in inputs.values():
        some = np.asarray(examples.stream(value.stream).ragged.lengths) > 0
        made[value.modality] = made.get(value.modality, np.zeros(len(some), dtype=bool)) | some
    return made


def roles_outside(inputs: Mapping[str, InputSpecification], modalities: Collection[str]) -> list[str]:
    """The roles that are to be left out so that nothing but `modalities` is seen."""
    return [role for role, value in inputs.items() if value.modality not in modalities]
