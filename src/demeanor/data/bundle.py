"""Bundle: what training leaves behind, all that is needed to predict and to judge the prediction."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from demeanor.data.budget import LARGEST_CARD
from demeanor.data.calibration import Calibration
from demeanor.data.errors import InputError
from demeanor.data.files import read_json, sha256_of_file, write_atomically, write_json
from demeanor.data.provenance import Provenance
from demeanor.data.safetensors_header import read_header
from demeanor.data.settings import Settings, flatten
from demeanor.data.spec_sheet import spec_sheet
from demeanor.data.task import Task

CARD, WEIGHTS = "card.json", "weights.safetensors"
#: Values per step, steps and classes: the largest vocabularies have 250,000 entries, the longest sequences as many.
LARGEST_SIDE = 1_000_000
#: No setting of a system is a larger number: widths, layers, heads, samples of a window.
LARGEST_SETTING = 10_000_000


class InputSpecification(Settings):
    """What one role of a system is fed with."""

    stream: str = Field(description="name of the stream, for example audio.frames")
    dimension: int
    integer: bool = Field(default=False, description="token ids or codes instead of features")
    max_length: int | None = Field(default=None, description="steps after which a sequence is cut")
    provenance: Provenance

    @property
    def modality(self) -> str:
        """What the stream's name begins with: text, audio or vision."""
        return self.stream.split(".", 1)[0]


class BundleCard(Settings):
    """The readable part of a bundle."""

    branch: str = Field(description="name of the pipeline branch, or of the representation, that trained it")
    kind: Literal["predicts", "embeds"] = Field(
        default="predicts", description="what its model does: predict the task, or make one vector per utterance"
    )
    system: str = Field(description="name in the registry of systems, or of representations where it embeds")
    settings: dict[str, Any] = Field(description="the system's own settings, complete")
    task: Task
    inputs: dict[str, InputSpecification]
    protocol: dict[str, Any] = Field(
        default_factory=dict,
        description="corpus, seed, sizes of the splits, epochs, selection, training settings",
    )
    metrics: dict[str, float] = Field(default_factory=dict, description="on validation, never on test")
    calibration: Calibration | None = Field(
        default=None, description="how far answers can be taken at their word, fitted on validation; none: uncalibrated"
    )
    data_hash: str = ""
    code_revision: str = ""
    version: str = Field(default="", description="of Demeanor")
    origin: str = Field(default="", description="OWNER/NAME@COMMIT on the hub, of a model that was fetched from there")
    licence: str = ""
    notes: str = ""
    languages: tuple[str, ...] = Field(default=(), description="of the training utterances, ISO 639-1")
    recogniser: str = Field(
        default="auto",
        description="what recognises words that a row lacks: a model, auto (the packaged one, if installed), or none",
    )
    representations: dict[str, BundleCard] = Field(
        default_factory=dict, description="stream -> what makes it, where an input is itself the output of a model"
    )

    @model_validator(mode="before")
    @classmethod
    def _kind_of_old_cards(cls, values: Any) -> Any:
        """Older cards do not say what their model does; those of representations alone had a layout."""
        if isinstance(values, dict) and "kind" not in values:
            settings = values.get("settings")
            return {**values, "kind": "embeds" if isinstance(settings, dict) and "layout" in settings else "predicts"}
        return values

    @property
    def raw_inputs(self) -> dict[str, InputSpecification]:
        """Stream -> what has to be extracted from a recording: inputs, and what representations among them read."""
        return {stream: made for value in self.inputs.values() for stream, made in self.sources_of(value).items()}

    def sources_of(self, value: InputSpecification) -> dict[str, InputSpecification]:
        """Stream -> what of a recording one of the inputs is made of: itself, or what its representation reads."""
        inner = self.representations.get(value.stream)
        return {value.stream: value} if inner is None else inner.raw_inputs

    def seen(self, sources: Collection[str]) -> frozenset[str]:
        """Modalities of the inputs that come of these modalities of a recording: the same, but for the inputs that
        representations make of them."""
        return frozenset(
            value.modality
            for value in self.inputs.values()
            if {source.modality for source in self.sources_of(value).values()} & set(sources)
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model reads, in alphabetical order; `representation` where an input is the output of a model."""
        return tuple(sorted({value.modality for value in self.inputs.values()}))

    @property
    def knows_parts(self) -> bool:
        """Has it learnt what to say where it is given some of its modalities alone? It reads but one, was trained with
        some left out, or joins experts that each do so."""
        members = self.protocol.get("members") or {"": {**self.protocol, "modalities": self.modalities}}
        return all(
            len(one.get("modalities", ())) < 2 or (one.get("training") or {}).get("modality_dropout")
            for one in members.values()
        )

    @property
    def recomputable(self) -> bool:
        """Whether all inputs can be made from a recording."""
        return all(value.provenance.recomputable for value in self.inputs.values())


@dataclass(frozen=True)
class Bundle:
    """`tensors` holds `model.<name>` weights and `normaliser.<role>.mean|scale` [D] statistics of the train split; and
    for each representation that its card carries, that one's tensors as `<stream>.<name>`."""

    card: BundleCard
    tensors: Mapping[str, np.ndarray]

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """Tensors whose name begins with `prefix.`, without it. Each keeps its shape [...]."""
        start = f"{prefix}."
        return {name[len(start) :]: value for name, value in self.tensors.items() if name.startswith(start)}

    def representation(self, stream: str) -> Bundle:
        """The bundle of the representation that makes an input."""
        return Bundle(self.card.representations[stream], self.part(stream))

    def carrying(self, representations: Mapping[str, Bundle]) -> Bundle:
        """This bundle with those that make some of its inputs, by stream: it then answers for what they read."""
        cards = {stream: inner.card for stream, inner in representations.items()}
        more = {
            f"{stream}.{name}": value
            for stream, inner in representations.items()
            for name, value in inner.tensors.items()
        }
        card = self.card.model_copy(update={"representations": {**self.card.representations, **cards}})
        return type(self)(card, {**self.tensors, **more})

    def calibrated(self, calibration: Calibration) -> Bundle:
        """This bundle with a calibration in its card."""
        return type(self)(self.card.model_copy(update={"calibration": calibration}), self.tensors)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of all tensors with their names."""
        return self._sha256(lambda name: True)

    @cached_property
    def trained_sha256(self) -> str:
        """Hash of what its own training made: the same before and after it carries representations."""
        carried = tuple(f"{stream}." for stream in self.card.representations)
        return self._sha256(lambda name: not name.startswith(carried))

    def _sha256(self, counts: Callable[[str], bool]) -> str:
        digest = hashlib.sha256()
        for name in filter(counts, sorted(self.tensors)):
            digest.update(name.encode("utf-8") + np.ascontiguousarray(self.tensors[name]).tobytes())
        return digest.hexdigest()

    @property
    def parameters(self) -> int:
        """Numbers in the model's weights."""
        return int(sum(value.size for value in self.part("model").values()))

    def save(self, folder: Path | str) -> None:
        """Write the weights, and the card with their hash, as a folder that is whole or absent."""
        from safetensors.numpy import save_file

        with write_atomically(folder) as temporary:
            temporary.mkdir()
            save_file({key: np.ascontiguousarray(value) for key, value in self.tensors.items()}, temporary / WEIGHTS)
            card = self.card.as_dict()
            write_json(temporary / CARD, {**card, "weights_sha256": sha256_of_file(temporary / WEIGHTS)})
            # safetensors lets nobody but the owner read them; a server, or a container, has a user of its own.
            shutil.copymode(temporary / CARD, temporary / WEIGHTS)

    @classmethod
    def load(cls, folder: Path | str) -> Bundle:
        """The bundle in a folder; InputError says what about it cannot be, before any weight is read."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        missing = [f"no {name}" for name in (CARD, WEIGHTS) if not (folder / name).is_file()]
        if missing:
            raise InputError(f"bundle {folder}", missing, "Give the folder that training wrote.")
        content = read_json(folder / CARD, LARGEST_CARD)
        expected = content.pop("weights_sha256", None) if isinstance(content, dict) else None
        card = read_card(content, f"bundle {folder}")
        header, _ = read_header(folder / WEIGHTS)
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        problems = differences(card, shapes)
        if problems:
            raise InputError(f"bundle {folder}", problems, f"{CARD} and {WEIGHTS} are not of one model.")
        if expected != sha256_of_file(folder / WEIGHTS):
            raise InputError(f"bundle {folder}", [f"{WEIGHTS} is not the file that {CARD} describes"])
        try:
            return cls(card, load_file(folder / WEIGHTS))
        except (SafetensorError, KeyError, TypeError) as error:
            raise InputError(f"bundle {folder}", [f"{WEIGHTS} cannot be read ({type(error).__name__})"]) from None

    def __str__(self) -> str:
        return spec_sheet(self.card, self.parameters)


def read_card(content: Any, where: str) -> BundleCard:
    """A card from JSON; InputError lists every entry that is not what it should be."""
    if not isinstance(content, dict):
        raise InputError(where, [f"{CARD} holds no object"])
    try:
        return BundleCard.model_validate(content)
    except ValidationError as error:
        problems = [f"{CARD}, {'.'.join(map(str, part['loc']))[:80]}: {part['msg']}" for part in error.errors()]
        raise InputError(where, problems, "It was written by another version, or it is damaged.") from None
    except RecursionError:
        raise InputError(where, [f"{CARD} is nested too deeply"]) from None


def differences(card: BundleCard, shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> list[str]:
    """What a card says otherwise than its weights do, and what no model has, in readable lines.

    shapes  tensor -> its sides, as the header of the weights gives them: nothing is allocated for this
    """
    problems = []
    for role, value in card.inputs.items():
        label = f"{prefix}input '{role[:40]}'"
        if not 1 <= value.dimension <= LARGEST_SIDE:
            problems.append(f"{label}: a dimension of {value.dimension}; it is 1 to {LARGEST_SIDE}")
        if value.max_length is not None and not 1 <= value.max_length <= LARGEST_SIDE:
            problems.append(f"{label}: {value.max_length} steps at most; that is 1 to {LARGEST_SIDE}")
        for statistic in ("mean", "scale"):
            sides = shapes.get(f"{prefix}normaliser.{role}.{statistic}")
            if sides is not None and sides != (value.dimension,):
                held = " x ".join(map(str, sides))
                problems.append(f"{label}: the card says {value.dimension} values per step, the weights hold {held}")
    if card.task.outputs > LARGEST_SIDE:
        problems.append(f"{prefix}task: {card.task.outputs} classes; there are at most {LARGEST_SIDE}")
    problems += [
        f"{prefix}settings.{name[:80]}: too large; no setting is larger than {LARGEST_SETTING}"
        for name, listed in flatten(card.settings).items()
        for value in (listed if isinstance(listed, list) else [listed])
        if isinstance(value, int | float) and abs(value) > LARGEST_SETTING and "seed" not in name
    ]
    for stream, inner in card.representations.items():
        problems += differences(inner, shapes, f"{prefix}{stream}.")
    return problems
