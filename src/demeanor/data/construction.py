"""A model from its card and weights, where the card may say anything: no larger than its weights, and equal to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch.nn.modules import module as registration

from demeanor.data.errors import DemeanorError, InputError

#: A model may make so many times what its weights hold while it is built (parts are made, then exchanged for others),
#: and what small ones may make in any case: values (of four bytes) and tensors or modules.
TIMES, FLOOR_VALUES, FLOOR_PARTS = 4, 25_000_000, 20_000
ODD_SETTINGS = (
    RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError,
    MemoryError, RecursionError,
)  # fmt: skip


class _TooLargeError(Exception):
    """More was made than weights are there for."""


def construct(make: Callable[[], torch.nn.Module], weights: Mapping[str, np.ndarray], where: str) -> Any:
    """What `make` builds; InputError where the settings of a card ask for something else than its weights.

    `weights` by name, of any shape [...]: together they bound how large a model may become.
    """
    try:
        with _no_larger_than(weights):
            return make()
    except DemeanorError:
        raise
    except _TooLargeError:
        count = sum(value.size for value in weights.values())
        raise InputError(
            where,
            [f"its settings or dimensions ask for a far larger model than its weights, {count:,} numbers, are for"],
        ) from None
    except ValidationError as error:
        problems = [f"settings.{'.'.join(map(str, part['loc']))[:80]}: {part['msg']}" for part in error.errors()]
        raise InputError(where, problems, "It was written by another version of this system.") from None
    except ODD_SETTINGS as error:
        raise InputError(where, [f"no model can be built from its settings ({type(error).__name__})"]) from error


@contextmanager
def _no_larger_than(weights: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Stop this thread's building at the first parameter too many: before its numbers are drawn."""
    left = [TIMES * sum(value.size for value in weights.values()) + FLOOR_VALUES, TIMES * len(weights) + FLOOR_PARTS]
    builder = threading.get_ident()

    def count(_: Any, name: str, made: Any) -> None:
        if made is None or threading.get_ident() != builder:
            return
        left[0] -= made.numel() if isinstance(made, torch.Tensor) else 0
        left[1] -= 1
        if min(left) < 0:
            raise _TooLargeError(name)

    hooks = [
        registration.register_module_parameter_registration_hook(count),
        registration.register_module_buffer_registration_hook(count),
        registration.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def fill(
    model: torch.nn.Module, weights: Mapping[str, np.ndarray], where: str, optional: Callable[[str], bool] | None = None
) -> None:
    """Load `weights` into `model`; InputError lists those that are missing, unknown or of another shape.

    optional  says of a name that it may be missing

    `weights` have the shapes [...] of the model's state dict.
    """
    loaded = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    sides = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    problems = [
        f"'{name}' is {_sides(loaded[name].shape)} in the weights, {_sides(sides[name])} by the card"
        for name in sides.keys() & loaded.keys()
        # A single number is stored as a list of one, which torch takes for the same.
        if tuple(loaded[name].shape) not in (sides[name], sides[name] or (1,)) and not (optional and optional(name))
    ]
    if problems:
        raise InputError(where, sorted(problems), "Card and weights are not of one model.")
    try:
        result = model.load_state_dict(loaded, strict=False)
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
        raise InputError(where, [f"its weights do not fit its card ({type(error).__name__})"]) from error
    missing: Collection[str] = [name for name in result.missing_keys if not (optional and optional(name))]
    problems = [f"no weight '{name}'" for name in missing]
    problems += [f"unknown weight '{name}'" for name in result.unexpected_keys]
    if problems:
        raise InputError(where, problems, "It was trained by another version of this system.")


def _sides(shape: Collection[int]) -> str:
    return " x ".join(map(str, shape)) or "a number"
