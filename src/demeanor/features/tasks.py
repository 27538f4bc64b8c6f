"""Some clips for one extractor, what a worker does with them, and what is tried again where a worker has died.

The clips of a task whose worker died are tried again one by one; a clip that fails for the third time is given up with
its reason.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from demeanor.data.errors import DemeanorError, InputError, MissingExtraError
from demeanor.data.files import disk_error, is_full
from demeanor.data.provenance import Provenance
from demeanor.features.base import Clip, Extractor

#: Times that a clip may take its worker process down before it is set aside.
ATTEMPTS = 3


@dataclass(frozen=True)
class Partner:
    """Another extractor that looks at the clips of a task while they are decoded: its name, its settings as JSON, for
    each clip the key of its values, None where they are there already, and what its values are to be made by."""

    extractor: str
    settings: str
    keys: tuple[str | None, ...]
    provenance: Provenance | None = None


@dataclass(frozen=True)
class Task:
    """Some clips for one extractor; `settings` as JSON, so that a worker builds its extractor once.

    provenance  what its values are to be made by: another machine may have other weights or versions
    partners    others that read the same sound or pictures
    whole       the extractor encodes: last bits of a clip's values depend on the others, with which it is tried again
    """

    extractor: str
    settings: str
    clips: tuple[Clip, ...]
    keys: tuple[str, ...]
    provenance: Provenance | None = None
    attempt: int = 1
    alone: bool = False
    partners: tuple[Partner, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Outcome:
    """values by key for the clips that went well, reasons by key for those that did not; values of each partner, in
    their order: what one of them cannot read is left for its own pass, which tells the reason."""

    task: Task
    values: dict[str, np.ndarray] = field(default_factory=dict)
    partners: tuple[dict[str, np.ndarray], ...] = ()
    failures: dict[str, str] = field(default_factory=dict)


@lru_cache(maxsize=8)
def _extractor(name: str, settings: str) -> Extractor:
    import json

    from demeanor.features import find_extractor

    return find_extractor(name, json.loads(settings))


@lru_cache(maxsize=8)
def _provenance(name: str, settings: str) -> Provenance:
    return _extractor(name, settings).provenance()


def wake(extractor: str, settings: str) -> None:
    """Build an extractor and let it look at a tenth of a second of noise, so that this worker has imported what it
    needs before there is a task. What does not work is told by the first clip."""
    noise = np.random.default_rng(0).normal(0, 1000, 1600).astype(np.int16)
    with suppress(Exception):
        _extractor(extractor, settings).extract_clip(Clip("", text="awake", recorded=noise))


def work(task: Task) -> Outcome:
    """What a worker does with a task."""
    return work_with(_extractor(task.extractor, task.settings), task)


def work_elsewhere(task: Task) -> Outcome:
    """The same on a machine of its own: InputError where it has other weights or versions than who asks, for its values
    would not be theirs."""
    makers: tuple[Task | Partner, ...] = (task, *task.partners)
    for maker in makers:
        mine = _provenance(maker.extractor, maker.settings)
        if maker.provenance is not None and (problems := maker.provenance.differences(mine)):
            where = f"the worker on {socket.gethostname()}: {maker.extractor}"
            raise InputError(where, problems, "Install there what is installed here, and give it the same weights.")
    return work(task)


def work_with(extractor: Extractor, task: Task) -> Outcome:
    """Every clip of the task, each failure by itself."""
    outcome = Outcome(task)
    others = [_extractor(partner.extractor, partner.settings) for partner in task.partners]
    together = extractor.batched and not extractor.apart
    if together:
        heard = [clip.at_hand(pictures=False) if others else clip.without_cache() for clip in task.clips]
        try:
            values = extractor.extract(heard)
        except MissingExtraError:
            raise
        except Exception:
            pass  # some clip is to blame: the loop below finds out which
        else:
            outcome.values.update(zip(task.keys, values, strict=True))
            made = tuple(_beside(other, partner, heard) for other, partner in zip(others, task.partners, strict=True))
            return replace(outcome, partners=made)
    pictures = any("video" in other.reads for other in others)
    outcome = replace(outcome, partners=tuple({} for _ in others))
    for place, (key, clip) in enumerate(zip(task.keys, task.clips, strict=True)):
        held = clip.at_hand(pictures) if others else clip.without_cache()
        # Alone, a clip has other last bits than in its batch: after one that failed each encoder makes its own pass.
        named = enumerate(() if together else task.partners)
        wanted = {n: name for n, partner in named if (name := partner.keys[place]) is not None}
        twin = next((n for n in wanted if extractor.makes_too(others[n])), None)
        try:
            if twin is None:
                outcome.values[key] = extractor.extract_clip(held)
            else:
                both = extractor.extract_both(held, others[twin])
                outcome.values[key], outcome.partners[twin][wanted.pop(twin)] = both
        except MissingExtraError:
            raise
        except Exception as error:
            if is_full(error):  # not this clip's fault: every other one would fail too
                raise disk_error(error) or error from error
            outcome.failures[key] = reason_of(error)
            continue
        for n, name in wanted.items():
            with suppress(Exception):  # its own pass tries again, and tells the reason
                outcome.partners[n][name] = others[n].extract_clip(held)
    return outcome


def _beside(other: Extractor, partner: Partner, clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """Values by key that another encoder gives to the batch; none where it fails: its own pass tells the reason."""
    with suppress(Exception):
        values = other.extract(clips)
        return {key: value for key, value in zip(partner.keys, values, strict=True) if key is not None}
    return {}


def reason_of(error: Exception) -> str:
    """Why a clip failed, in one line."""
    return str(error) if isinstance(error, DemeanorError) else f"{type(error).__name__}: {error}"


def after_death(task: Task, error: BaseException) -> tuple[Outcome | None, list[Task]]:
    """Tasks to try again after a worker died, clip by clip; or the outcome of a clip that is given up.

    All tasks in flight fall with a pool, so a task of several clips costs none of them an attempt. Clips that belong
    together are tried together first: alone, the last bits of their values would be others.
    """
    if task.whole and len(task.clips) > 1 and task.attempt < ATTEMPTS:
        return None, [replace(task, attempt=task.attempt + 1, alone=True)]
    if len(task.clips) > 1:
        return None, [
            replace(task, clips=(clip,), keys=(key,), attempt=1, alone=True, partners=())
            for clip, key in zip(task.clips, task.keys, strict=True)
        ]
    if task.attempt >= ATTEMPTS:
        reason = f"its worker process died {task.attempt} times ({type(error).__name__})"
        return Outcome(task, failures={task.keys[0]: reason}), []
    return None, [replace(task, attempt=task.attempt + 1, alone=True, partners=())]
