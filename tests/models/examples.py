"""Small batches for any system, made from what its card asks for."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.provenance import Provenance
from demeanor.data.task import Task
from demeanor.models import SYSTEMS, find_system
from demeanor.models.base import Card, Role, System

PROVENANCE = Provenance(extractor="example", version="1")
TASKS = {
    "regression": Task(name="sentiment", kind="regression", column="sentiment"),
    "classification": Task(name="emotion", kind="classification", column="emotion", classes=("joy", "anger", "calm")),
    "multilabel": Task(name="emotions", kind="multilabel", column="emotions", classes=("joy", "anger")),
}
VOCABULARY = 60
#: A text encoder small enough for tests, as `encoder_configuration` of the systems that take tokens.
TINY_ENCODER: dict[str, Any] = {
    "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip


def _forms() -> dict[str, tuple[str, dict[str, str]]]:
    forms: dict[str, tuple[str, dict[str, str]]] = {name: (name, {}) for name in SYSTEMS}
    for name in SYSTEMS:
        field = find_system(name).Settings.model_fields.get("context")
        if field is not None and "dialogue" in get_args(field.annotation):
            forms[f"{name} over dialogues"] = (name, {"context": "dialogue"})
    return forms


#: What tests of all systems run over, form -> (system, arguments of its `tiny`): every system as it is by default, and
#: over dialogues where that is a setting.
FORMS = _forms()


def tiny(form: str) -> Any:
    """Small settings of a form."""
    name, chosen = FORMS[form]
    system = find_system(name)
    return system.tiny(**chosen) if hasattr(system, "tiny") else system.Settings(**chosen)


def card_of(form: str) -> Card:
    """The card of a form."""
    return find_system(FORMS[form][0]).card_of(tiny(form))


def specification(role: str, wanted: Role, tokens: bool = False) -> InputSpecification:
    integer = wanted.kind == "tokens" or (wanted.kind == "any" and tokens)
    width = {"text": 12, "audio": 5, "vision": 7}.get(wanted.modality, 6)
    stream = f"{wanted.modality}.{'tokens' if integer else 'frames'}"
    return InputSpecification(stream=stream, dimension=1 if integer else width, integer=integer, provenance=PROVENANCE)


def specifications(
    system: type[System], tokens: bool = False, roles: Sequence[str] | None = None, card: Card | None = None
) -> dict[str, InputSpecification]:
    """What a system is fed with; a class may say more precisely with `example_inputs`."""
    if hasattr(system, "example_inputs"):
        return dict(system.example_inputs())
    wanted = (card or system.card).roles
    return {role: specification(role, wanted[role], tokens) for role in (roles or wanted)}


def build(
    form: str, kind: str = "regression", tokens: bool = False, roles: Sequence[str] | None = None, seed: int = 0
) -> System:
    """A small system: a name in the registry, or another of FORMS."""
    settings = tiny(form)
    if tokens:
        settings = settings.model_copy(update={"encoder_configuration": TINY_ENCODER})
    torch.manual_seed(seed)
    system = find_system(FORMS[form][0])
    return system(settings, specifications(system, tokens, roles, card_of(form)), TASKS[kind])


def sequences(
    inputs: Mapping[str, InputSpecification], count: int, generator: np.random.Generator
) -> dict[str, list[np.ndarray]]:
    """Per role and row one sequence [T, D]; row n lacks role n."""
    made: dict[str, list[np.ndarray]] = {}
    for number, (role, specified) in enumerate(inputs.items()):
        rows = []
        for row in range(count):
            steps = 0 if row == number else int(generator.integers(1, 9))
            if specified.integer:
                rows.append(generator.integers(5, VOCABULARY, (steps, specified.dimension)))
            else:
                rows.append(generator.standard_normal((steps, specified.dimension)).astype(np.float32))
        made[role] = rows
    return made


def padded(rows: Sequence[np.ndarray], extra: int = 0) -> Padded:
    longest = max((len(row) for row in rows), default=0) + extra
    values = np.zeros((len(rows), longest, rows[0].shape[1]), rows[0].dtype)
    mask = np.zeros((len(rows), longest), bool)
    for number, row in enumerate(rows):
        values[number, : len(row)] = row
        mask[number, : len(row)] = True
    return Padded(torch.from_numpy(values), torch.from_numpy(mask))


def targets(task: Task, count: int, generator: np.random.Generator) -> torch.Tensor:
    if task.kind == "regression":
        return torch.from_numpy(generator.uniform(task.low, task.high, count).astype(np.float32))
    if task.kind == "classification":
        return torch.from_numpy(generator.integers(0, task.outputs, count))
    return torch.from_numpy(generator.integers(0, 2, (count, task.outputs)).astype(np.float32))


def example_batch(system: System, count: int = 8, seed: int = 1, extra: int = 0) -> Batch:
    """`count` utterances; for systems that read dialogues, dialogues of four turns and two speakers."""
    salt = zlib.crc32(type(system).__name__.encode())
    generator = np.random.default_rng([seed, salt])
    made = sequences(system.inputs, count, generator)
    number = torch.arange(count)
    whole = system.card.batching == "dialogue"
    return Batch(
        inputs={role: padded(rows, extra) for role, rows in made.items()},
        ids=tuple(f"utterance {n}" for n in range(count)),
        rows=number,
        dialogue=number // 4 if whole else number,
        turn=number % 4 if whole else torch.zeros_like(number),
        speaker=number % 2 if whole else torch.full_like(number, -1),
        labels={"target": targets(system.task, count, generator)},
    )


def take(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some rows alone, cut to their own longest sequence."""
    index = torch.tensor(list(rows))
    inputs = {}
    for role, value in batch.inputs.items():
        longest = int(value.mask[index].sum(dim=1).max())
        inputs[role] = Padded(value.values[index, :longest], value.mask[index, :longest])
    dialogue = batch.dialogue[index]
    return replace(
        batch,
        inputs=inputs,
        ids=tuple(batch.ids[n] for n in rows),
        rows=batch.rows[index],
        dialogue=torch.unique(dialogue, return_inverse=True)[1],
        turn=batch.turn[index],
        speaker=batch.speaker[index],
        labels={name: value[index] for name, value in batch.labels.items()},
    )
