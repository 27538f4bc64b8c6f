"""The one surface of every system: the same batch in, the same output out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.settings import Settings
from demeanor.data.task import IGNORED, Task


@dataclass(frozen=True)
class Role:
    """One input that a system asks for: which kind of stream may play it, and whether it can do without."""

    modality: Literal["text", "audio", "vision", "representation"]
    #: samples: a waveform, stored as 16-bit integers or as floats; any: features or tokens
    kind: Literal["features", "tokens", "samples", "any"] = "features"
    required: bool = True
    normalised: bool = True
    description: str = ""


@dataclass(frozen=True)
class Card:
    """What `demeanor systems` prints of a system."""

    title: str
    paper: str
    roles: Mapping[str, Role]
    tasks: tuple[str, ...] = ("regression", "classification", "multilabel")
    batching: Literal["utterance", "dialogue"] = "utterance"
    status: str = "stable"


@dataclass(frozen=True)
class Output:
    """prediction [B, task.outputs]: the number, or logits; auxiliary: whatever the system's own loss needs."""

    prediction: Float[Tensor, "batch outputs"]
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)
    representation: Tensor | None = None


class System(nn.Module):
    """Base of all systems.

    A system is built from its settings, from what it will be fed with (role -> InputSpecification) and from the
    task; it reads `batch[role]` and returns an Output. Padding and the other rows of a batch never change a row's
    prediction (dialogue systems: the other dialogues). Buffers listed in `training_buffers` serve training alone:
    checkpoints hold them, bundles do not. `length_bucket` names the roles whose length decides which utterances share a
    batch, where not all count alike: a fine-tuned text encoder costs so much that its padding alone matters. One that
    is solved in `closed_form`, from all rows at once, cannot meet some of them more often.
    """

    card: Card
    Settings: ClassVar[type[Settings]]
    training_buffers: tuple[str, ...] = ()
    length_bucket: tuple[str, ...] = ()
    closed_form: ClassVar[bool] = False

    def __init__(self, settings: Any, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__()
        self.card = self.card_of(settings)
        check_inputs(self.card, inputs, task)
        self.settings = settings
        self.inputs = dict(inputs)
        self.task = task

    def forward(self, batch: Batch) -> Output:
        raise NotImplementedError

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Loss terms by name; "total" is what training minimises, the others are logged.

        Each a scalar []; `output.prediction` is [batch, task.outputs].
        """
        return {"total": task_loss(self.task, output.prediction, batch.target)}

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for the optimiser. By default biases and normalisation weights are not decayed."""
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for parameter in self.parameters():
            if parameter.requires_grad:
                (decayed if parameter.ndim > 1 else free).append(parameter)
        return [
            {"params": decayed, "lr": learning_rate, "weight_decay": weight_decay},
            {"params": free, "lr": learning_rate, "weight_decay": 0.0},
        ]

    @classmethod
    def card_of(cls, settings: Any) -> Card:
        """The card under these settings, which may change the batching and the roles; by default the class' own."""
        return cls.card

    @classmethod
    def max_lengths(cls, settings: Any) -> dict[str, int]:
        """Role -> steps beyond which the system reads nothing, so that batches need not hold them."""
        return {}

    def on_train_start(self, batches: Callable[[], Iterable[Batch]], examples: int) -> None:
        """Called once before the first epoch; `batches()` iterates over the train split, `examples` is its size."""

    def on_step_end(self, output: Output, batch: Batch, epoch: int) -> None:
        """Called after the backward pass of each training batch; `epoch` counts from 1."""


def check_inputs(card: Card, inputs: Mapping[str, InputSpecification], task: Task) -> None:
    """Refuse a task or streams that the system of `card` cannot use: InputError with all problems at once."""
    problems = []
    if task.kind not in card.tasks:
        problems.append(f"it does {', '.join(card.tasks)}, not {task.kind}")
    for role, wanted in card.roles.items():
        if role not in inputs:
            if wanted.required:
                problems.append(f"role '{role}' ({wanted.modality}, {wanted.kind}) is given no stream")
            continue
        if wanted.kind not in ("any", "samples") and inputs[role].integer != (wanted.kind == "tokens"):
            found = "tokens" if inputs[role].integer else "features"
            problems.append(f"role '{role}' wants {wanted.kind}, stream '{inputs[role].stream}' holds {found}")
    problems += [
        f"there is no role '{role}'; it has {', '.join(card.roles)}" for role in inputs if role not in card.roles
    ]
    if problems:
        raise InputError(card.title, problems, "Set `streams` of this system in the parameters.")


def task_loss(
    task: Task, prediction: Tensor, target: Tensor, class_weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Mean loss over the labelled rows: absolute error, cross-entropy, or binary cross-entropy.

    prediction [B, outputs]; target as Task.targets. `smoothing`: share of a class label that is spread over all classes
    (Szegedy et al. 2016, arXiv:1512.00567, section 7). A batch without any label gives a zero that has a gradient.
    """
    if task.kind == "classification":
        if not bool((target != IGNORED).any()):
            return prediction.sum() * 0.0
        return functional.cross_entropy(
            prediction, target, weight=class_weights, ignore_index=IGNORED, label_smoothing=smoothing
        )
    known = ~torch.isnan(target)
    if not bool(known.any()):
        return prediction.sum() * 0.0
    if task.kind == "regression":
        return (prediction[:, 0] - target)[known].abs().mean()
    return functional.binary_cross_entropy_with_logits(prediction[known], target[known])


def masked_mean(values: Float[Tensor, "batch time dimension"], mask: Tensor) -> Float[Tensor, "batch dimension"]:
    """Mean over real steps; zero for a row without any. mask [batch, time], true for real steps."""
    weight = mask.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
