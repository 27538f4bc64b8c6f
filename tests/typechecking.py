"""What checks the annotations of demeanor's functions, shapes among them, whenever a test calls one.

conftest.py names it to jaxtyping's import hook. An integer is as good as a float.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(target: Any) -> Any:
    """`check`, put off to a function's first call: a test process imports thousands of them and calls some."""
    if not isinstance(target, FunctionType):
        return check(target)
    made: Callable[..., Any] | None = None

    @functools.wraps(target)
    def at_first_call(*arguments: Any, **named: Any) -> Any:
        nonlocal made
        if made is None:
            made = check(target)
        return made(*arguments, **named)

    return at_first_call
