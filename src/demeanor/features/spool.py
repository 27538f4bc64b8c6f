"""Samples that are put aside while a recording is heard through, and taken out again in the same pieces."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from types import TracebackType

import numpy as np
from jaxtyping import Float32

from demeanor.data.files import is_full


class Spool:
    """Holds at most `held` bytes in memory and what is more in a temporary file, which is gone when the block ends."""

    def __init__(self, held: int):
        self._file = tempfile.SpooledTemporaryFile(max_size=held, prefix="demeanor-")  # noqa: SIM115
        self._lengths = array("Q")
        #: False when there was no room on the disk for all that came.
        self.whole = True

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def keep(self, block: Float32[np.ndarray, " samples"]) -> None:
        """Put a piece aside; `whole` says whether there was room on the disk for it and for all before it."""
        if self.whole:
            try:
                self._file.write(np.ascontiguousarray(block, dtype=np.float32).data)
            except OSError as error:
                if not is_full(error):
                    raise
                self.whole = False
        self._lengths.append(len(block))

    def blocks(self) -> Iterator[Float32[np.ndarray, " samples"]]:
        """The pieces in the order in which they came, once."""
        self._file.seek(0)
        for length in self._lengths:
            yield np.frombuffer(bytearray(self._file.read(4 * length)), np.float32)
