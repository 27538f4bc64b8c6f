"""How much a pickle's content is once every part that is used again is counted wherever it is used.

Two bytes of a pickle put a list that is already there into another one. Ten lists of ten times the one before take
a hundred bytes in the file and ten thousand million entries for whoever walks through them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from demeanor.corpora.pickled_arrays import PendingArray
from demeanor.data.budget import Budget

CONTAINERS = (list, tuple, dict, set, frozenset)


class OddContentError(Exception):
    """The content contains itself, or an array that was never filled."""


def check_content(content: Any, size: int, where: str) -> None:
    """BudgetError where the content of a pickle of `size` bytes is out of proportion to it. OddContentError where
    something contains itself or is not filled."""
    limit = Budget(size, where)
    sums: dict[int, tuple[int, int]] = {}
    within: set[int] = set()
    waiting: list[tuple[Any, bool]] = [([content], False)]
    while waiting:
        node, left = waiting.pop()
        if not left:
            if id(node) in within:
                raise OddContentError("something in it contains itself")
            if id(node) not in sums:
                within.add(id(node))
                waiting.append((node, True))
                waiting.extend(
                    (part, False) for part in _parts(node) if (isinstance(part, CONTAINERS) and part) or _boxes(part)
                )
            continue
        objects, total = 1, 64
        for part in _parts(node):
            known = sums.get(id(part))
            if known is not None:
                objects, total = objects + known[0], total + known[1]
            else:
                # Numbers, text and content: what holds nothing else. (Only containers, which live on, are in `sums`.)
                objects += 1
                total += len(part) if isinstance(part, (str, bytes, memoryview)) else getattr(part, "nbytes", 8)
                if isinstance(part, PendingArray):
                    raise OddContentError("an array was announced and never filled")
        if objects > limit.objects or total > limit.bytes:
            limit.spend(total, objects)
        sums[id(node)] = objects, total
        within.discard(id(node))


def _boxes(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype.hasobject


def _parts(node: Any) -> Iterable[Any]:
    """Keys of a dict are short (pickle_machine.Machine.key) and not counted."""
    if isinstance(node, dict):
        return node.values()
    return node.reshape(-1).tolist() if isinstance(node, np.ndarray) else node
