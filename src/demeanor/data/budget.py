"""What reading one file may cost: a budget of bytes and objects in proportion to the file's size.

A file that was made by honest means costs a fixed multiple of its size at most; only one that was made to swell costs
more. The floors are what small files may cost whatever their size: well below the memory of a small machine.
"""

from __future__ import annotations

from demeanor.data.errors import InputError

#: Bytes of memory per byte of a file: the smallest things that files hold (an empty list of three bytes with its place
#: in the table of things that are used again) take some 60 times their room.
BYTES_PER_BYTE = 64
FLOOR_BYTES = 64 << 20
#: Numbers, words or cells per byte of a file; containers, and values in JSON, count twice: they take two bytes.
OBJECTS_PER_BYTE = 1
FLOOR_OBJECTS = 1_000_000
#: Unpacked bytes per packed byte of an archive or of a compressed array: recordings unpack to about what they were,
#: text to ten times, arrays padded with zeros to thirty; a bomb to a thousand.
UNPACKED_PER_BYTE = 100
#: Files per byte of an archive: a header of a file takes some fifty bytes even where all are alike.
FILES_PER_BYTE = 1 / 64
FLOOR_FILES = 10_000
#: Bytes of a document in JSON that describes something (a card, a header, metadata): the longest has some 100,000.
LARGEST_CARD = 16 << 20


class BudgetError(InputError):
    """Reading the file would cost out of all proportion to its size."""


class Budget:
    """What is left for one file of `size` bytes; `where` names it."""

    def __init__(self, size: int, where: str, per_byte: float = BYTES_PER_BYTE):
        self.where, self.size = where, size
        self.bytes = FLOOR_BYTES + int(size * per_byte)
        self.objects = FLOOR_OBJECTS + size * OBJECTS_PER_BYTE

    def spend(self, size: int = 0, objects: int = 0) -> None:
        """BudgetError where that is more than is left."""
        self.bytes -= size
        self.objects -= objects
        if self.bytes < 0 or self.objects < 0:
            raise BudgetError(
                self.where,
                [f"it holds {self.size} bytes and would take memory out of all proportion to that"],
                "Nothing of it was used. A file that swells like this was made to do so.",
            )

    def check_json(self, text: str) -> None:
        """Refuse JSON of more values than its size warrants, before any of them is made."""
        self.spend(objects=2 * values_in(text))


def values_in(text: str) -> int:
    """At least as many values as JSON holds; marks within its strings count as well."""
    return text.count("[") + text.count("{") + text.count(",")
