"""How a branch of fusion_training is fed and trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from demeanor.data.calibration import CalibrationSettings
from demeanor.data.errors import InputError
from demeanor.data.settings import Settings

MOST_DRAWS = 1000
"""Times that an epoch may meet one row."""


class TrainingSettings(Settings):
    """Settings of the one training loop.

    The defaults suit small models on frozen features; a system that fine-tunes encoders wants a lower learning rate
    and fewer epochs. `batch_size` counts utterances, or dialogues for systems that read whole dialogues.
    """

    seeds: tuple[int, ...] = Field(
        default=(1, 2, 3), min_length=1, description="one model per seed; a number: as many, from 1 on"
    )
    epochs: int = Field(default=60, ge=1)
    patience: int = Field(default=12, ge=1, description="epochs without improvement on validation before it stops")
    refit: bool = Field(
        default=False,
        description="once the epoch is chosen, train again on train and valid together for as many epochs; what is "
        "told of validation stays that of the first training",
    )
    selection: str | None = Field(default=None, description="validation metric or 'loss'; None: the task's own")
    batch_size: int = Field(default=32, ge=1)
    max_tokens_per_batch: int | None = Field(
        default=None, ge=1, description="padded steps a batch may hold; cuts long ones"
    )
    gradient_accumulation: int = Field(default=1, ge=1, description="batches per optimiser step")
    drop_remainder: bool = Field(default=False, description="leave a last, incomplete accumulation group unused")
    optimiser: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    clip_value: float | None = Field(default=None, gt=0, description="largest entry of a gradient")
    schedule: Literal["constant", "linear", "cosine", "plateau"] = "constant"
    plateau_patience: int = Field(default=5, ge=0, description="plateau: epochs without a lower validation loss")
    warmup: float = Field(default=0.0, ge=0, lt=1, description="share of all steps with a rising learning rate")
    modality_dropout: float = Field(default=0.0, ge=0, lt=1, description="chance that a role of a row is left out")
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, ...")
    devices: int | Literal["auto"] = Field(default=1, description="processes; auto: one per GPU")
    threads: int = Field(default=2, ge=1, description="CPU threads; results on CPU depend on it in the last digits")
    workers: int = Field(default=0, ge=0, description="processes that make batches ahead")

    @field_validator("seeds", mode="before")
    @classmethod
    def _so_many(cls, given: Any) -> Any:
        """`--params` takes no lists."""
        return tuple(range(1, given + 1)) if isinstance(given, int) and not isinstance(given, bool) else given

    @model_validator(mode="after")
    def _refit_knows_its_rates(self) -> TrainingSettings:
        if self.refit and self.schedule == "plateau":
            raise ValueError("refit has no validation loss for schedule 'plateau' to look at")
        return self


class BranchSettings(Settings):
    """One namespaced branch of fusion_training: a system, its task, its streams and how it is trained."""

    system: str = Field(description="name in the registry of systems")
    task: str = Field(default="sentiment", description="name in the parameters' `tasks`")
    streams: dict[str, str] = Field(description="role of the system -> stream")
    max_lengths: dict[str, int] = Field(default_factory=dict, description="role -> steps after which it is cut")
    normalise: bool = Field(default=True, description="standardise features with statistics of the train split")
    model: dict[str, Any] = Field(
        default_factory=dict,
        description="the system's own settings; `published: <corpus>`: as published, but for the rest",
    )
    recogniser: str = Field(
        default="auto",
        description="recognises words that a row to score lacks: a model of features/recognition.py; auto: the one of "
        "the training transcripts, else the packaged one where it is installed; none",
    )
    corpora: tuple[str, ...] = Field(
        default=(),
        description="of a union, those whose rows it learns from and is validated on; none named: all that have its "
        "labels and streams",
    )
    sampling: Literal["proportional", "equal"] | dict[str, float] = Field(
        default="proportional",
        description="how often an epoch meets a row. proportional: once; equal: each corpus gives as many, an epoch is "
        "as long; corpus -> number of times, which may be a fraction",
    )
    also: dict[str, float] = Field(
        default_factory=dict,
        description="further tasks, with their weight in the loss, that it learns beside its own while it is trained; "
        "a list gives each a weight of 1",
    )
    training: TrainingSettings = TrainingSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    notes: str = ""
    enabled: bool = Field(default=True, exclude=True, description="false: it stands ready and is not trained")

    @field_validator("also", mode="before")
    @classmethod
    def _of_weight_one(cls, given: Any) -> Any:
        return dict.fromkeys(given, 1.0) if isinstance(given, list | tuple) else given

    @model_validator(mode="before")
    @classmethod
    def _published(cls, given: Any) -> Any:
        model = given.get("model") if isinstance(given, Mapping) else None
        if not isinstance(model, Mapping) or "published" not in model:
            return given
        from demeanor.models import SYSTEMS, find_published

        system = str(given.get("system"))
        if system not in SYSTEMS:
            return given  # said below
        published = find_published(system)
        if published is None:
            raise ValueError(f"nothing is published for {system}: name its settings instead of model.published")
        return published.branch(given)

    @model_validator(mode="after")
    def _known_system(self) -> BranchSettings:
        # Imported here, not above: a system brings torch along, and commands that train nothing must start fast.
        from demeanor.models import find_system

        try:
            system = find_system(self.system)
        except InputError as error:
            raise ValueError(str(error)) from None
        roles = system.card_of(system.Settings(**self.model)).roles
        unknown = [role for role in self.streams if role not in roles]
        if unknown:
            raise ValueError(f"{self.system} has no role {', '.join(unknown)}; it has {', '.join(roles)}")
        if self.sampling != "proportional" and system.closed_form:
            raise ValueError(f"{self.system} is solved from every row once: `sampling` has no meaning for it")
        return self

    @model_validator(mode="after")
    def _able_to_learn_more(self) -> BranchSettings:
        if not self.also:
            return self
        from demeanor.models import find_system
        from demeanor.models.blocks.auxiliary_heads import why_not

        reason = why_not(find_system(self.system))
        if reason is not None:
            raise ValueError(f"{self.system} cannot learn {', '.join(self.also)} as well: {reason}")
        if self.task in self.also or min(self.also.values()) <= 0:
            raise ValueError(f"also: other tasks than {self.task}, with weights above 0")
        return self

    @model_validator(mode="after")
    def _weights_of_its_corpora(self) -> BranchSettings:
        if isinstance(self.sampling, str):
            return self
        wrong = [f"{name}: {times:g}" for name, times in self.sampling.items() if not 0 < times <= MOST_DRAWS]
        if wrong:
            raise ValueError(f"sampling: {', '.join(wrong)}; a row is met more than 0 and at most {MOST_DRAWS} times")
        if self.corpora and set(self.sampling) != set(self.corpora):
            raise ValueError(
                f"sampling gives weights to {', '.join(self.sampling)}, corpora are {', '.join(self.corpora)}"
            )
        return self


class JoinedSettings(Settings):
    """Trained branches joined to one model of one task, by a rule with a name: demeanor.models.log_pool."""

    task: str = Field(default="sentiment", description="name in the parameters' `tasks`")
    members: tuple[str, ...] = Field(
        min_length=1,
        description="branches, or names of `joined`, each an expert with streams of its own; several, but for "
        "`seeds: together`",
    )
    seeds: Literal["each", "together"] = Field(
        default="each",
        description="each: a joined model for each seed that all members have; together: a single one that asks every "
        "seed of every member and averages what they say, at the cost of as many models",
    )
    rule: Literal["log_pool"] = "log_pool"
    prior: Literal["kept", "divided"] | None = Field(
        default=None,
        description="of each member: kept, or taken out and their mean put in once; None: what has the lower log loss "
        "on validation where weights are learnt, else divided; of seeds together kept",
    )
    least: int = Field(
        default=50, ge=1, description="utterances of validation that members must have in common for learnt weights"
    )
    calibration: CalibrationSettings = CalibrationSettings()
    notes: str = ""
    enabled: bool = Field(default=True, exclude=True, description="false: it stands ready and is not joined")

    @model_validator(mode="after")
    def _each_member_once(self) -> JoinedSettings:
        if len(set(self.members)) != len(self.members):
            raise ValueError(f"members: {', '.join(self.members)}: each expert has one voice")
        if self.seeds == "each" and len(self.members) < 2:
            raise ValueError(
                "members: one alone has nobody to be joined with, unless `seeds: together` joins its seeds"
            )
        if self.seeds == "together" and self.prior == "divided":
            raise ValueError("prior: seeds know the same, so their priors are kept; `divided` is for `seeds: each`")
        return self
