"""Keep the memory that tensors leave behind, so that the next step finds its pages in place."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
RETAINED = 1 << 30
#: Where glibc's own limits end up in a process that has freed a large block; once set, it no longer moves them itself.
USUAL = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}
#: Free memory is given back when the process is larger than after its first step by this factor.
GROWTH = 4 / 3
PAGE = resource.getpagesize()


def _library() -> ctypes.CDLL | None:
    """glibc, or None where another C library answers."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None


class MallocRetention:
    """What `retain_freed_memory` yields: call `maybe_trim` after every step."""

    def __init__(self, library: ctypes.CDLL | None):
        self.library = library
        self.limit = 0.0
        self.given_back = False

    def maybe_trim(self) -> None:
        """Give free memory back once the process has grown by a third since it last did.

        Steps over different words need blocks of different sizes, between which holes stay that fit none of the next
        ones: a long training would take several times what its largest step needs. Doing this after each step would
        cost what retaining the memory saves.
        """
        if self.library is None:
            return
        resident = _resident()
        if not self.limit or self.given_back:
            # After the first step, and again after a step that began with nothing retained: what a step truly needs.
            self.limit = max(self.limit, resident * GROWTH)
            self.given_back = False
        elif resident > self.limit:
            self.library.malloc_trim(0)
            self.given_back = True


def _resident() -> float:
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return float(file.read().split()[1]) * PAGE


@contextmanager
def retain_freed_memory() -> Iterator[MallocRetention]:
    """Within the block freed memory stays with the process; afterwards it goes back to the system.

    glibc maps each large tensor anew and gives it back when it is freed, and the system zeroes every page of it on
    first touch: a quarter of the time of a training step of convolutions. Elsewhere this does nothing.
    """
    library = _library()
    if library is None:
        yield MallocRetention(None)
        return
    library.mallopt(MMAP_THRESHOLD, RETAINED)
    library.mallopt(TRIM_THRESHOLD, RETAINED)
    try:
        yield MallocRetention(library)
    finally:
        for limit, size in USUAL.items():
            library.mallopt(limit, size)
        library.malloc_trim(0)
