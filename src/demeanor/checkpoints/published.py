"""Bundles from checkpoints of the MMSA family: any system that says how its published weights are named.

Such a file is a bare `state_dict` without settings. Those are the published ones of a corpus (`PUBLISHED` in the
system's file), changed where it was trained otherwise; how wide the streams were is read off the weights. The streams
are the corpus' feature file (docs/systems/self_mm.md#pickle): no recording can be scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError

import demeanor
from demeanor.checkpoints.state import State, encoder_sizes
from demeanor.corpora.mmsa_pickle import STREAMS, WIDTHS, MmsaPickleSettings, provenance_of
from demeanor.data.bundle import Bundle, BundleCard, InputSpecification
from demeanor.data.construction import construct
from demeanor.data.errors import InputError, nearest
from demeanor.data.files import sha256_of_file
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.inference.predict import is_training_buffer
from demeanor.models import SYSTEMS, find_published, find_system
from demeanor.models.base import System
from demeanor.models.blocks.layers import load_renamed, renamed
from demeanor.models.mmml.checkpoint import read_published
from demeanor.models.published import KEY, Published

LICENCE = "MIT (github.com/thuiar/MMSA, code); none stated for weights; the corpus' own licence for the data"
PREFIX = "Model."
WORDS = "embeddings.word_embeddings.weight"
#: Corpus -> (highest label, convention of the metrics, language).
LABELS: dict[str, tuple[float, Literal["mosi", "sims"], str]] = {
    "mosi": (3.0, "mosi", "en"),
    "mosei": (3.0, "mosi", "en"),
    "sims": (1.0, "sims", "zh"),
    "simsv2": (1.0, "sims", "zh"),
}
#: Corpus -> steps of text, audio and vision in the published files, unaligned (docs/systems/self_mm.md#pickle).
LENGTHS = {"mosi": (50, 375, 500), "mosei": (50, 500, 500), "sims": (39, 400, 55)}
BERT_WIDTH = 768
#: Sizes are moved so far from where they are before one looks what grows with them: to where no setting is their equal,
#: for which a system might leave a projection out.
AWAY = 101
ROLES = ("text", "audio", "vision")
COLUMNS = {stream: column for column, (stream, _, _) in STREAMS.items()}


def importable() -> list[str]:
    """Systems whose published weights have names that are known here."""
    return [name for name in SYSTEMS if (known := find_published(name)) is not None and known.names]


def import_published(
    name: str,
    path: Path | str,
    published: str = "",
    settings: Mapping[str, Any] | None = None,
    widths: Mapping[str, int] | None = None,
    aligned: bool = False,
) -> Bundle:
    """The bundle of a state_dict (.pth, .safetensors), whose weights are read without running anything in it.

    published  corpus: mosi, mosei, sims or simsv2, whose published settings the model was trained with
    settings   of the system, where they were others
    widths     role -> values per step, where the weights do not tell (they then are the corpus')
    aligned    trained on the aligned feature file: every stream has a step per word piece
    Raises InputError for another kind of file, naming every weight that is missing, too many, or of another shape.
    """
    path = Path(path)
    known = find_published(name)
    if known is None or not known.names:
        have = ", ".join(importable())
        raise InputError(
            "import-checkpoint", [f"how the published weights of '{name}' are named is not known"], f"There is: {have}."
        )
    check(known, published, widths or {})
    state = read_published(path)
    own = renamed(state, known.names, PREFIX)
    branch = known.branch({"model": {**(settings or {}), KEY: published}})
    kind = find_system(name)
    model = dict(branch["model"])
    if "reference" in kind.Settings.model_fields:
        model.setdefault("reference", True)
    prefix = next((key.removesuffix(WORDS) for key in own if key.endswith(f"network.{WORDS}")), None)
    if prefix is not None and not model.get("encoder_configuration"):
        sizes = encoder_sizes(State(own, path), prefix)
        model["encoder_configuration"] = {
            "model_type": "bert", "layer_norm_eps": 1e-12, "pad_token_id": 0, **sizes
        }  # fmt: skip
    # Sizes alone: nothing of these is held in memory.
    weights = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in own.items()}
    plan = Plan(kind, settings_of(kind, model), published, weights, str(path))
    first = specifications(published, prefix is not None, widths or {}, aligned)
    inputs = fitting(plan, first, frozenset(widths or {}))
    system = plan.build(inputs)
    try:
        load_renamed(system, state, known.names, PREFIX)
    except InputError as error:
        raise InputError(
            str(path),
            error.problems,
            f"Was it trained with other settings than the published ones of {published}? Give them: --set NAME=VALUE.",
        ) from None
    card = BundleCard(
        branch=path.stem,
        system=name,
        settings=system.settings.as_dict(),
        task=plan.task,
        inputs=inputs,
        protocol={
            "corpus": published,
            "settings_source": known.source,
            "source": path.name,
            "source_sha256": sha256_of_file(path),
        },
        version=demeanor.__version__,
        licence=LICENCE,
        languages=(LABELS[published][2],),
        notes="Imported from a checkpoint of the original program. It reads the corpus' feature file; whether that was "
        f"the {'aligned' if aligned else 'unaligned'} one the checkpoint does not say.",
    )
    tensors = {
        f"model.{key}": value.detach().contiguous().numpy()
        for key, value in system.state_dict().items()
        if not is_training_buffer(system, key)
    }
    return Bundle(card, tensors)


def check(known: Published, corpus: str, widths: Mapping[str, int]) -> None:
    """InputError unless something was published for the corpus, and the widths are those of roles."""
    have = ", ".join(known.blocks)
    problems = []
    if not corpus:
        problems.append("it does not say with which corpus' settings it was trained")
    elif corpus not in known.blocks:
        problems.append(f"nothing is published for '{corpus}'.{nearest(corpus, known.blocks)}")
    problems += [f"there is no role '{role}'" for role in widths if role not in ROLES]
    problems += [f"{role} cannot be {width} wide" for role, width in widths.items() if width < 1]
    if problems:
        raise InputError("import-checkpoint", problems, f"Give --published, one of {have}; roles: {', '.join(ROLES)}.")


@dataclass(frozen=True)
class Plan:
    """A system to be, of the file `where`, whose `weights` stand under our names and bound how large it may become."""

    kind: type[System]
    settings: Settings
    corpus: str
    weights: Mapping[str, np.ndarray]
    where: str

    @property
    def task(self) -> Task:
        """The corpus' sentiment, a regression over its range of labels."""
        high, convention, _ = LABELS[self.corpus]
        return Task(
            name="sentiment", kind="regression", column="sentiment", low=-high, high=high, convention=convention
        )

    def build(self, inputs: Mapping[str, InputSpecification]) -> System:
        """The system with the checkpoint's weights in it. InputError, of all names and sizes that do not fit."""
        return construct(lambda: self.kind(self.settings, inputs, self.task), self.weights, self.where)

    def shapes(self, inputs: Mapping[str, InputSpecification]) -> dict[str, tuple[int, ...]]:
        """Of the system's weights, without making any."""
        with torch.device("meta"):
            system = self.build(inputs)
        return {name: tuple(value.shape) for name, value in system.state_dict().items()}


def settings_of(kind: type[System], given: Mapping[str, Any]) -> Settings:
    """InputError for settings that the system does not have, or not with such a value."""
    try:
        return kind.Settings(**given)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, part['loc']))[:80]}: {part['msg']}" for part in error.errors()]
        raise InputError(f"settings of {kind.card.title}", problems, "Give others: --set NAME=VALUE.") from None


def specifications(
    corpus: str, tokens: bool, widths: Mapping[str, int], aligned: bool
) -> dict[str, InputSpecification]:
    """The streams of a corpus' feature file, as its reader makes them by default."""
    language = LABELS[corpus][2]
    settings = MmsaPickleSettings(path="", name=corpus, language=language)  # type: ignore[arg-type]
    audio, vision = WIDTHS.get(corpus, WIDTHS["sims"])
    known = {"text": BERT_WIDTH, "audio": audio, "vision": vision, **widths}
    lengths: tuple[int | None, int | None, int | None] = LENGTHS.get(corpus, (None, None, None))
    if aligned:
        lengths = (lengths[0], lengths[0], lengths[0])
    streams = {"text": "text.tokens" if tokens else "text.words", "audio": "audio.frames", "vision": "vision.frames"}
    return {
        role: InputSpecification(
            stream=stream,
            dimension=1 if stream == "text.tokens" else known[role],
            integer=stream == "text.tokens",
            max_length=max_length,
            provenance=provenance_of(COLUMNS[stream], settings, aligned),
        )
        for (role, stream), max_length in zip(streams.items(), lengths, strict=True)
    }


def fitting(
    plan: Plan, first: Mapping[str, InputSpecification], given: frozenset[str]
) -> dict[str, InputSpecification]:
    """`first` with the widths and lengths that the weights' shapes imply.

    Each is moved by one: an axis of a weight that grows with it, and with no other, tells its value. What no axis
    tells alone, or `given` names, stays; where nothing fits, loading says so weight by weight.
    """
    unknown = [
        (role, field)
        for role, value in first.items()
        for field in ("dimension", "max_length")
        if getattr(value, field) is not None and (field == "max_length" or not (value.integer or role in given))
    ]
    start = dict(first)
    for role, field in unknown:
        start = moved(start, role, field, AWAY)
    before = plan.shapes(start)
    axes: dict[tuple[str, str], dict[tuple[str, int], int]] = {}
    for role, field in unknown:
        after = plan.shapes(moved(start, role, field, 1))
        axes[role, field] = {
            (name, axis): after[name][axis] - side
            for name, sides in before.items()
            for axis, side in enumerate(sides)
            if after[name][axis] != side
        }
    inputs = dict(first)
    for (role, field), own in axes.items():
        shared = {axis for key, others in axes.items() if key != (role, field) for axis in others}
        for (name, axis), growth in own.items():
            here = plan.weights[name].shape if name in plan.weights else ()
            if (name, axis) in shared or len(here) != len(before[name]):
                continue
            value = getattr(start[role], field) + (here[axis] - before[name][axis]) // growth
            if value >= 1:
                inputs[role] = inputs[role].model_copy(update={field: value})
            break
    return inputs


def moved(inputs: Mapping[str, InputSpecification], role: str, field: str, steps: int) -> dict[str, InputSpecification]:
    """`inputs`, where one number of one role is so much larger."""
    return {**inputs, role: inputs[role].model_copy(update={field: getattr(inputs[role], field) + steps})}
