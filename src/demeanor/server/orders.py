"""What the server and its worker processes say to each other; nothing heavy is imported for it.

The server sends its first orders while it still imports PyTorch itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from demeanor.data.bundle import BundleCard
from demeanor.server.refusals import Refusal

if TYPE_CHECKING:
    from demeanor.inference.extraction import Extracted


@dataclass(frozen=True)
class Order:
    """
    digest   hash of the model's weights: extractors are built once for each
    card     of the model
    rows     raw rows; see demeanor.data.raw_rows.COLUMNS. None: the server's own, demeanor.serving.warming
    seconds  of sound that the rows may hold together
    words    recognise those that a row lacks
    beside   sound and pictures in a thread each: no other worker has anything to do
    warm     an order of the server's own: after it the limit of memory holds
    others   digests of the models that are served beside it: with a warm order, the extractors of all others go
    """

    digest: str
    card: BundleCard
    rows: Sequence[Mapping[str, Any]] | None
    seconds: float = 300.0
    words: bool = True
    beside: bool = False
    warm: bool = False
    others: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reply:
    """Either what was read, or why nothing was. Seconds: of sound that was heard, of work by stage."""

    extracted: Extracted | None = None
    refusal: Refusal | None = None
    heard: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
