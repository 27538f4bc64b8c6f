"""Experts joined by a logarithmic opinion pool: trained branches, each with its own streams, any of which may lack.

    kept:     log p(c) = sum_m w_m log p_m(c) + constant
    divided:  log p(c) = mean_m log p0_m(c) + sum_m w_m (log p_m(c) - log p0_m(c)) + constant

over the members m of whose streams a row has at least one step (Genest and Zidek 1986,
https://doi.org/10.1214/ss/1177013825). p_m is calibrated: softmax of the member's logits over the temperature of what
the row has; p0_m is the prior, the shares of the classes among the labels that it was trained on. Whoever speaks alone
says what it says. Without learnt weights all w are equal:

* kept, they sum to one: two who say the same say it together, no surer than either. That is right of two who know the
  same. Of two who know different things it halves what each has seen of the row, and the prior of either stands whole
  beside it: as far as the answer goes, a prior is counted as often as there are members.
* divided, each is one: what each has seen of the row counts in full and the prior once. That is right of two whose
  errors have nothing to do with each other once the class is given, as words and voice nearly have.

Any of several classes: the same of each label, on log odds. A number: the pool of normal densities around the members'
answers, each as wide as its conformal interval, whose mean is the mean weighted by 1 / width^2. Where nobody speaks the
answer is the prior of the train split, or the median of a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from demeanor.data.batch import Batch
from demeanor.data.bundle import InputSpecification
from demeanor.data.calibration import subset_name
from demeanor.data.errors import InputError, nearest
from demeanor.data.settings import Settings
from demeanor.data.task import Task
from demeanor.models import find_system
from demeanor.models.base import Card, Output, Role, System

SMALLEST = 1e-6
"""No class is less likely than this: one expert's zero would silence all others."""


class MemberSettings(Settings):
    """One expert, and how its answers enter the pool. A role of it is called `<member>.<role>` in the pool."""

    system: str = Field(description="name in the registry of systems")
    settings: dict[str, Any] = Field(default_factory=dict, description="the system's own settings")
    roles: tuple[str, ...] = Field(min_length=1, description="roles of the system that are given a stream")
    temperatures: dict[str, float] = Field(
        default_factory=dict, description="set of its modalities -> what logits are divided by; '': any other set"
    )
    widths: dict[str, float] = Field(
        default_factory=dict, description="of a number: set of its modalities -> half its interval; '': any other set"
    )
    prior: tuple[float, ...] = Field(
        default=(), description="share of each class of the pool among its training labels; empty: all alike"
    )
    classes: tuple[str, ...] = Field(default=(), description="its own classes, where they are not those of the pool")
    becomes: dict[str, str] = Field(
        default_factory=dict, description="own class -> class of the pool; what is not in it is no answer to the task"
    )

    @property
    def card(self) -> Card:
        """The card of its system under its settings."""
        system = find_system(self.system)
        return system.card_of(system.Settings(**self.settings))


class LogPoolSettings(Settings):
    """Members by name, and what was learnt of all of them together."""

    members: dict[str, MemberSettings] = Field(min_length=1)
    weights: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="set of members -> weight of each, learnt; a set that is not here: equal"
    )
    divided: bool = Field(default=False, description="members' priors are taken out, and their mean is put in once")
    prior: tuple[float, ...] = Field(default=(), description="share of each class in training; empty: all alike")
    middle: float | None = Field(default=None, description="median of a number in training; None: of its scale")

    @model_validator(mode="after")
    def _of_its_members(self) -> LogPoolSettings:
        wrong = [f"weights of {chosen} are not those of its members" for chosen, values in self.weights.items()
                 if subset_name(values) != chosen or not set(values) <= set(self.members)]  # fmt: skip
        values = [value for member in self.members.values() for value in
                  (*member.temperatures.values(), *member.widths.values())]  # fmt: skip
        if any(not value > 0 for value in values):
            wrong.append("a temperature or width that is not above zero")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class LogPool(System):
    """Trained experts and nothing else: no weight of its own. `joined` of the parameters makes one out of branches."""

    card = Card("Log pool of trained branches, with their roles", "https://doi.org/10.1214/ss/1177013825", {})
    Settings = LogPoolSettings

    def __init__(self, settings: LogPoolSettings, inputs: Mapping[str, InputSpecification], task: Task):
        super().__init__(settings, inputs, task)
        self.members = nn.ModuleDict()
        self._told: dict[str, Tensor] = {}
        for name, member in settings.members.items():
            own = {role: inputs[f"{name}.{role}"] for role in member.roles if f"{name}.{role}" in inputs}
            system = find_system(member.system)
            asked = task.model_copy(update={"classes": member.classes}) if member.classes else task
            self.members[name] = system(system.Settings(**member.settings), own, asked)
        parts = {name: cast(System, part) for name, part in self.members.items()}
        self.training_buffers = tuple(
            f"members.{name}.{buffer}" for name, part in parts.items() for buffer in part.training_buffers
        )
        if any(part.length_bucket for part in parts.values()):
            self.length_bucket = tuple(
                f"{name}.{role}" for name, part in parts.items() for role in part.length_bucket or part.inputs
            )

    @classmethod
    def tiny(cls) -> LogPoolSettings:
        """Settings for tests."""
        small = {"hidden": 8, "dropout": 0.1}
        words = MemberSettings(system="text_only", settings=small, roles=("text",), widths={"": 1.0})
        voice = MemberSettings(system="audio_only", settings=small, roles=("audio",), widths={"": 2.0})
        return LogPoolSettings(members={"words": words, "voice": voice})

    @classmethod
    def card_of(cls, settings: LogPoolSettings) -> Card:
        roles: dict[str, Role] = {}
        dialogues = False
        for name, member in settings.members.items():
            card = member.card
            roles |= {f"{name}.{role}": card.roles[role] for role in member.roles if role in card.roles}
            dialogues = dialogues or card.batching == "dialogue"
        return replace(cls.card, roles=roles, batching="dialogue" if dialogues else "utterance")

    @classmethod
    def max_lengths(cls, settings: LogPoolSettings) -> dict[str, int]:
        found: dict[str, int] = {}
        for name, member in settings.members.items():
            system = find_system(member.system)
            own = system.max_lengths(system.Settings(**member.settings))
            found |= {f"{name}.{role}": steps for role, steps in own.items()}
        return found

    def forward(self, batch: Batch) -> Output:
        said, speaks, widths = [], [], []
        auxiliary: dict[str, Tensor] = {}
        for name, module in self.members.items():
            member, system = self.settings.members[name], cast(System, module)
            own = replace(batch, inputs={role: batch[f"{name}.{role}"] for role in system.inputs})
            there = self._speaks(own, system)
            speaks.append(there)
            if not self.training and not bool(there.any()):
                # Nobody listens to it: a row of words asks no network of the voice.
                said.append(torch.zeros(len(batch), self.task.outputs, device=batch.device))
                widths.append(torch.ones(len(batch), device=batch.device))
                continue
            told = self._told.get(name)
            answer = system(own).prediction.float() if told is None else told[batch.rows.cpu()].to(batch.device)
            auxiliary[name] = answer
            # An absent expert may answer anything, not a number even: none of it may reach the sum.
            answer = torch.where(there[:, None], answer, torch.zeros_like(answer))
            if self.task.kind == "regression":
                said.append(answer)
                widths.append(by_modalities(member.widths, own, system, (self.task.high - self.task.low) / 2))
            else:
                said.append(self._evidence(member, answer / by_modalities(member.temperatures, own, system)[:, None]))
                widths.append(torch.ones_like(there, dtype=torch.float32))
        stacked, who = torch.stack(said, dim=1), torch.stack(speaks, dim=1)
        weights = self._weights(who)
        auxiliary |= {"evidence": stacked, "speaks": who}
        if self.task.kind == "regression":
            precision = weights / torch.stack(widths, dim=1).square()
            total = precision.sum(dim=1, keepdim=True)
            middle = (self.task.low + self.task.high) / 2 if self.settings.middle is None else self.settings.middle
            mean = (precision[..., None] * stacked).sum(dim=1) / total.clamp(min=torch.finfo(total.dtype).tiny)
            return Output(torch.where(total > 0, mean, mean * 0.0 + middle), auxiliary)
        pooled = (weights[..., None] * stacked).sum(dim=1)
        if self.settings.divided:
            priors = torch.stack([self._log_prior(member.prior, stacked) for member in self.settings.members.values()])
            pooled = pooled + (who / who.sum(dim=1, keepdim=True).clamp(min=1) - weights) @ priors
        nobody = ~who.any(dim=1, keepdim=True)
        pooled = torch.where(nobody, pooled * 0.0 + self._log_prior(self.settings.prior, stacked), pooled)
        return Output(pooled if self.task.kind == "multilabel" else functional.log_softmax(pooled, dim=1), auxiliary)

    def take(self, answers: Mapping[str, Float[Tensor, "examples _"]]) -> None:
        """From now on these members are not asked: their answers are the given ones, of each of the examples that
        batches come from, with all that it has. InputError for whom the pool does not have."""
        unknown = [f"there is no member '{name}'.{nearest(name, list(self.members))}" for name in answers
                   if name not in self.members]  # fmt: skip
        if unknown:
            raise InputError("joined model", unknown)
        self._told = dict(answers)

    def _speaks(self, own: Batch, system: System) -> Bool[Tensor, " batch"]:
        """Rows that have something of what a member asks for; what it can do without, a context, is not enough."""
        asked = [role for role in system.inputs if system.card.roles[role].required] or list(system.inputs)
        return torch.stack([own[role].present for role in asked]).any(dim=0)

    def _evidence(self, member: MemberSettings, logits: Float[Tensor, "batch own"]) -> Float[Tensor, "batch outputs"]:
        """What a member's logits say of the classes of the pool: log probabilities, or log odds of each label."""
        if self.task.kind == "multilabel":
            return logits
        if not member.becomes:
            return functional.log_softmax(logits, dim=1).clamp(min=math.log(SMALLEST))
        places = {name: n for n, name in enumerate(self.task.classes)}
        chances = logits.softmax(dim=1)
        mapped = chances.new_zeros(len(chances), len(places))
        for n, name in enumerate(member.classes or self.task.classes):
            if name in member.becomes:
                mapped[:, places[member.becomes[name]]] += chances[:, n]
        # Of a class that none of its own becomes it knows nothing: that keeps its share of the prior.
        reached = torch.tensor([name in member.becomes.values() for name in places], device=chances.device)
        shares = self._log_prior(self.settings.prior, chances).exp()
        told = mapped / mapped.sum(dim=1, keepdim=True).clamp(min=SMALLEST) * shares[reached].sum()
        return torch.where(reached, told, shares).clamp(min=SMALLEST).log()

    def _weights(self, who: Bool[Tensor, "batch members"]) -> Float[Tensor, "batch members"]:
        """Of each row, for the members that speak: as learnt for just these, else all alike."""
        weights = who.float()
        if not self.settings.divided or self.task.kind == "regression":
            weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
        for chosen in self.settings.weights.values():
            these = torch.tensor([name in chosen for name in self.members], device=who.device)
            learnt = torch.tensor([chosen.get(name, 0.0) for name in self.members], device=who.device)
            weights = torch.where((who == these).all(dim=1, keepdim=True), learnt, weights)
        return weights

    def _log_prior(self, shares: tuple[float, ...], like: Tensor) -> Float[Tensor, " outputs"]:
        """Log shares of the classes, or log odds of each label; all alike where nothing is known."""
        count = self.task.outputs
        if self.task.kind == "multilabel":
            return torch.logit(like.new_tensor(shares or [0.5] * count).clamp(SMALLEST, 1 - SMALLEST))
        return like.new_tensor(shares or [1.0 / count] * count).clamp(min=SMALLEST).log()


def by_modalities(
    values: Mapping[str, float], own: Batch, system: System, default: float = 1.0
) -> Float[Tensor, " batch"]:
    """Of each row of a member's batch the value for what of its modalities the row has; `values` by subset_name, ''
    for every set that they do not hold."""
    made = torch.full((len(own),), values.get("", default), device=own.device)
    modalities = sorted({value.modality for value in system.inputs.values()})
    present = {
        one: torch.stack([own[role].present for role, value in system.inputs.items() if value.modality == one]).any(0)
        for one in modalities
    }
    for name, value in values.items():
        parts = set(name.split("+")) - {""}
        if parts:
            rows = torch.stack([present[one] == (one in parts) for one in modalities]).all(dim=0)
            made = torch.where(rows, torch.full_like(made, value), made)
    return made
