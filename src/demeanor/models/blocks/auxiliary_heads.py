"""Further tasks for a system while it is trained: a linear head for each on the representation that its own head reads.

Caruana 1997, https://doi.org/10.1023/A:1007379606734: what is learnt for one task helps another on the same inputs. The
heads serve training alone. A row without a label of a task adds nothing to that task's loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from demeanor.data.batch import Batch
from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.models.base import Output, System, task_loss

PLACE = "auxiliary_heads"
"""Name of the heads within a system, and before their parameters in its state."""


class AuxiliaryHeads(nn.Module):
    """`tasks` by name, their `weights` in the loss, and the width of the representation."""

    def __init__(self, tasks: Mapping[str, Task], weights: Mapping[str, float], width: int):
        super().__init__()
        self.tasks, self.weights = dict(tasks), dict(weights)
        self.heads = nn.ModuleDict({name: nn.Linear(width, task.outputs) for name, task in tasks.items()})

    def joined(self, terms: Mapping[str, Tensor], output: Output, batch: Batch) -> dict[str, Tensor]:
        """The system's loss terms, each a scalar [], with those of the further tasks; "total" is their weighted sum."""
        own = {
            name: task_loss(task, self.heads[name](output.representation), batch.labels[label_of(name)])
            for name, task in self.tasks.items()
        }
        total = terms["total"] + sum((self.weights[name] * value for name, value in own.items()), torch.zeros(()))
        return {
            **terms,
            "main": terms["total"],
            **{f"also_{name}": value for name, value in own.items()},
            "total": total,
        }


def label_of(task: str) -> str:
    """Where a batch has the labels of a further task."""
    return f"also.{task}"


def why_not(system: type[System]) -> str | None:
    """Why a system can have no further heads; None if it can, provided that it gives a representation."""
    if system.closed_form:
        return "it is solved in closed form for one task"
    if system.loss is not System.loss:
        return "it is trained by a loss of its own, which wants every row's label"
    return None


def give_heads(system: System, tasks: Mapping[str, Task], weights: Mapping[str, float], example: Batch) -> None:
    """Put a head for each of `tasks` on a system. InputError for one whose output, asked for `example`, has no
    representation."""
    with torch.no_grad():
        width = _width(system.eval()(example))
    if width is None:
        raise InputError(system.card.title, ["it gives no representation that a further head could read"],
                         "Leave out `also` of this branch.")  # fmt: skip
    heads = AuxiliaryHeads(tasks, weights, width)
    system.add_module(PLACE, heads.to(next(system.parameters()).device))
    system.training_buffers = (*system.training_buffers, PLACE)


def _width(output: Output) -> int | None:
    found = output.representation
    return None if found is None or found.ndim != 2 else int(found.shape[1])


def left_out_of(groups: Sequence[Mapping[str, Any]], system: System, learning_rate: float) -> list[dict[str, Any]]:
    """A group of the optimiser for heads that a system's own `groups` pass over, where it lists its parts by name."""
    known, heads = {id(value) for group in groups for value in group["params"]}, getattr(system, PLACE, None)
    rest = [] if heads is None else [value for value in heads.parameters() if id(value) not in known]
    return [{"params": rest, "lr": learning_rate, "weight_decay": 0.0}] if rest else []


def losses(system: System, output: Output, batch: Batch) -> dict[str, Tensor]:
    """The loss terms of a system, each a scalar [], with those of its further heads where it has some."""
    terms, heads = system.loss(output, batch), getattr(system, PLACE, None)
    return heads.joined(terms, output, batch) if isinstance(heads, AuxiliaryHeads) else terms
