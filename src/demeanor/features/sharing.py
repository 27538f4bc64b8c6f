"""What threads of one process may share: objects that serve one thread at a time, and what is loaded once.

A served model answers many requests at once, and ingestion looks at several recordings at once. Objects of native
libraries that keep something while they work (OpenCV's detectors, for example) give wrong answers, and no error, when
two threads use one of them. They are therefore lent; and models, whose libraries change themselves while they load
one, are loaded one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, update_wrapper
from threading import RLock
from typing import Any, Generic, TypeVar

Lent = TypeVar("Lent")
#: One lock for everything that is loaded: transformers and torch replace functions of their own meanwhile.
LOADING = RLock()


class Lending(Generic[Lent]):
    """As many objects as threads use at the same time; `make` makes one more where none is idle."""

    def __init__(self, make: Callable[[], Lent]):
        self._make = make
        self._idle: list[Lent] = []

    @contextmanager
    def lent(self) -> Iterator[Lent]:
        """One that no other thread uses before the block ends. What an error came out of is not lent again."""
        try:
            item = self._idle.pop()  # one operation of the interpreter, so no lock is needed
        except IndexError:
            item = self._make()
        yield item
        self._idle.append(item)


def loaded_once(maxsize: int) -> Callable[[Callable[..., Any]], Any]:
    """As functools.lru_cache, but threads that ask for the same at the same time get the same, made once."""

    def decorate(function: Callable[..., Any]) -> Any:
        remembered = lru_cache(maxsize)(function)

        def asked(*arguments: Any, **options: Any) -> Any:
            with LOADING:
                return remembered(*arguments, **options)

        asked.cache_clear = remembered.cache_clear  # type: ignore[attr-defined]
        asked.cache_info = remembered.cache_info  # type: ignore[attr-defined]
        return update_wrapper(asked, function)

    return decorate
