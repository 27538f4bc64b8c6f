"""Retained memory is given back when the process has grown, not after every step."""

from __future__ import annotations

import ctypes

from demeanor.kernels import allocator
from demeanor.kernels.allocator import MallocRetention, retain_freed_memory


class Library(ctypes.CDLL):
    """A C library that only counts."""

    def __init__(self) -> None:
        self.trims = 0

    def malloc_trim(self, _: int) -> int:
        self.trims += 1
        return 1


def test_only_growth_gives_memory_back(monkeypatch):
    library, resident = Library(), [100.0]
    monkeypatch.setattr(allocator, "_resident", lambda: resident[0])
    memory = MallocRetention(library)
    for size, trims in ((100, 0), (120, 0), (140, 1), (100, 1), (130, 1), (134, 2), (150, 2), (199, 2), (201, 3)):
        resident[0] = float(size)
        memory.maybe_trim()
        assert library.trims == trims, size


def test_a_step_that_truly_needs_more_raises_the_limit(monkeypatch):
    library, resident = Library(), [100.0]
    monkeypatch.setattr(allocator, "_resident", lambda: resident[0])
    memory = MallocRetention(library)
    for size in (100, 300, 300, 300, 390):
        resident[0] = float(size)
        memory.maybe_trim()
    assert library.trims == 1


def test_where_the_c_library_is_another_nothing_happens(monkeypatch):
    monkeypatch.setattr(allocator, "_library", lambda: None)
    with retain_freed_memory() as memory:
        memory.maybe_trim()
    assert memory.limit == 0.0
