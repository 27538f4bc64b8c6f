"""A branch's calibration, from what its seeds say on validation with every set of modalities."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from demeanor.data.batches import Batches
from demeanor.data.bundle import InputSpecification
from demeanor.data.calibration import Calibration, CalibrationSettings, subset_name
from demeanor.data.examples import Examples
from demeanor.data.task import Task
from demeanor.evaluation.attribution import MOST, every_subset
from demeanor.evaluation.conformal import fit_calibration
from demeanor.inference.predict import forward_all
from demeanor.inference.presence import presence, roles_outside
from demeanor.models.base import System


def subset_outputs(
    system: System, batches: Batches, outputs: int, device: torch.device, whole: np.ndarray
) -> dict[str, np.ndarray]:
    """subset_name -> head outputs [N, outputs] of the rows of `batches` with nothing but these modalities.

    whole  what the system says with all of them. More than `MOST` modalities: that alone.
    """
    modalities = {value.modality for value in batches.inputs.values()}
    made = {subset_name(modalities): whole}
    if len(modalities) > MOST:
        return made
    for chosen in every_subset(sorted(modalities))[1:-1]:
        without: Collection[str] = roles_outside(batches.inputs, chosen)
        made[subset_name(chosen)] = forward_all(system, batches, outputs, without, device=device)
    return made


def calibrate(
    task: Task,
    inputs: Mapping[str, InputSpecification],
    valid: Examples,
    seeds: Sequence[int],
    outputs: Sequence[Mapping[str, np.ndarray]],
    settings: CalibrationSettings,
) -> Calibration:
    """The calibration of a branch, its seeds joined.

    valid    labelled utterances of the valid split, as they were trained with
    outputs  for each of `seeds` what `subset_outputs` made of them: by subset, [utterances, outputs]
    """
    joined = {name: np.stack([one[name] for one in outputs]) for name in outputs[0]}
    target = task.targets(valid.utterances)
    return fit_calibration(task, joined, presence(inputs, valid), target, seeds, settings, "valid")
