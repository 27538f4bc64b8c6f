"""Items come in order, errors come in their place, and nothing runs on behind a consumer's back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from demeanor.features.prefetch import prefetch


def test_order_and_bound():
    taken: list[int] = []

    def source() -> Iterator[int]:
        for n in range(50):
            taken.append(n)
            yield n

    for n, item in enumerate(prefetch(source(), 4)):
        assert item == n
        assert len(taken) <= n + 4 + 2  # held, being handed on, being made
    assert len(taken) == 50


def test_an_error_comes_after_what_went_well():
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("the second picture is damaged")

    items = prefetch(source(), 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="second picture"):
        next(items)


def test_a_consumer_that_leaves_stops_the_thread():
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = prefetch(source(), 2)
    next(items)
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
