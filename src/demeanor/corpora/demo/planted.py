"""What an observer who inverts the generator exactly would say of each set of modalities, clip by clip.

The truth against which attributions are judged: which modality carries the label of a clip, and whether its words
contradict its voice and face.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demeanor.corpora.demo.ceiling import decide, posteriors, read_latents
from demeanor.corpora.demo.latents import MODALITIES
from demeanor.data.calibration import subset_name
from demeanor.data.files import read_json


def planted_answers(folder: Path, split: str) -> tuple[list[str], dict[str, NDArray[Any]], NDArray[Any]]:
    """(ids [N], subset_name -> mean sentiment that these modalities leave likely [N], contradiction [N] booleans).

    The set of none, "", is what is known before anything is seen. Raises as `read_json` where there is no sidecar.
    """
    dialogues = read_latents(folder, split)
    means = {
        subset_name(chosen): decide(posteriors(dialogues, chosen))["mean"]
        for size in range(len(MODALITIES) + 1)
        for chosen in combinations(MODALITIES, size)
    }
    contradiction = np.array([clip.kind != "sincere" for dialogue in dialogues for clip in dialogue], dtype=bool)
    return _ids(folder, split), means, contradiction


def _ids(folder: Path, split: str) -> list[str]:
    """Ids in the order of `read_latents`: dialogues by first appearance, their clips by turn."""
    dialogues: dict[str, list[tuple[int, str]]] = {}
    for name, entry in read_json(folder / "sidecar.json")["utterances"].items():
        if entry["split"] == split:
            dialogues.setdefault(entry["dialogue"], []).append((entry["turn"], name))
    return [name for turns in dialogues.values() for _, name in sorted(turns)]
