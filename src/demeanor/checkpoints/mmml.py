"""Bundles from the checkpoints that MMML's programs write (docs/systems/mmml.md#training, #weights).

Such a file is a bare `state_dict`. Its keys and shapes tell the architecture but for three things: cme's v1 and v2
have the same weights, the strides of the speech encoder's convolutions are the published ones, and heads are taken
64 wide, as in all published encoders. Corpus, seed and validation score stand in the file's name where the original
wrote it (`RH_loss_mosi_1_0.5687.pth`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import demeanor
from demeanor.checkpoints.mmml_architecture import VARIANTS, describe
from demeanor.checkpoints.state import State
from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of_file
from demeanor.data.task import Task
from demeanor.inference.predict import is_training_buffer
from demeanor.models import find_system
from demeanor.models.mmml.checkpoint import load_published, read_published

LICENCE = "MIT (github.com/zehuiwu/MMML); the corpora's and the pretrained encoders' own licences beside it"
#: Corpus -> (lowest label, highest label, convention of the metrics).
CORPORA: dict[str, tuple[float, float, Literal["mosi", "sims"]]] = {
    "mosi": (-3.0, 3.0, "mosi"),
    "mosei": (-3.0, 3.0, "mosi"),
    "sims": (-1.0, 1.0, "sims"),
}
NAME = re.compile(r"RH_(?P<kind>loss|acc)_(?P<corpus>[a-z]+)_(?P<seed>\d+)_(?P<value>\d+(?:\.\d+)?)")


def import_mmml(path: Path | str, variant: str = "", corpus: str = "", tokenizer: str = "") -> Bundle:
    """The bundle of a .pth file, whose weights are read without running anything in it.

    variant     v1 or v2 of cme without context, which the file cannot tell apart; v1, the program's default, if empty
    corpus      mosi, mosei or sims, where the file's name does not say; sets the range of the labels
    tokenizer   folder or hub name of the tokenizer; by default the one that the original used
    Raises InputError for another kind of file, naming every weight that is missing, too many, or of another shape.
    """
    path = Path(path)
    state = State(read_published(path), path)
    problems = []
    if variant and variant not in VARIANTS:
        problems.append(f"there is no variant '{variant}' to choose; there is {', '.join(VARIANTS)}")
    if corpus and corpus not in CORPORA:
        problems.append(f"'{corpus}' is none of MMML's corpora: {', '.join(CORPORA)}")
    if problems:
        raise InputError(str(path), problems)
    from_name = name_of(path.stem)
    chinese = state.has("hubert_model.")
    known = corpus or from_name.get("corpus", "") or ("sims" if chinese else "")
    system, settings, inputs, notes = describe(state, chinese, variant, known, tokenizer)
    low, high, convention = CORPORA[known or "mosi"]
    task = Task(name="sentiment", kind="regression", column="sentiment", low=low, high=high, convention=convention)
    model = find_system(system)(find_system(system).Settings(**settings), inputs, task)
    left = load_published(model, state.weights, str(path))
    if left:
        notes.append(f"Left out, being unused in this variant: {len(left)} weights ({left[0]}, ...).")
    card = BundleCard(
        branch=path.stem,
        system=system,
        settings=model.settings.as_dict(),
        task=task,
        inputs=inputs,
        protocol={
            "corpus": known or "mosi or mosei",
            **({"seed": from_name["seed"]} if from_name else {}),
            "source": path.name,
            "source_sha256": sha256_of_file(path),
        },
        metrics=from_name.get("metrics", {}),
        version=demeanor.__version__,
        licence=LICENCE,
        notes=" ".join(["Imported from a checkpoint of the original program.", *notes]),
    )
    weights = {
        f"model.{name}": value.detach().contiguous().numpy()
        for name, value in model.state_dict().items()
        if not is_training_buffer(model, name)
    }
    return Bundle(card, weights)


def name_of(stem: str) -> dict[str, Any]:
    """corpus, seed and metrics that the name of an original file tells; empty for other names."""
    match = NAME.fullmatch(stem)
    if match is None or match["corpus"].lower() not in CORPORA:
        return {}
    corpus = match["corpus"].lower()
    accuracy = "Mult_acc_2" if corpus == "sims" else "Has0_acc_2"
    metric = "loss" if match["kind"] == "loss" else accuracy
    return {"corpus": corpus, "seed": int(match["seed"]), "metrics": {metric: float(match["value"])}}
