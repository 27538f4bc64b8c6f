"""What of an extractor's values has to be made: of which clips, in which groups, and for which others beside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from demeanor.data.files import sha256_of
from demeanor.data.private_database import private_database
from demeanor.data.provenance import Provenance
from demeanor.features.base import Clip, Extractor
from demeanor.features.cache import ShardCache
from demeanor.features.clips import BLOCK, names_of, taken
from demeanor.features.tasks import Partner, Task

#: Clips per shard: of clip-wise extractors at most, and of encoders, which sort more of them by length.
SHARD, ENCODER_SHARD = 16, 256
#: Tasks per worker that a small job is cut into, so that no worker idles while the last one finishes.
TASKS_EACH = 8

#: Clips that are worked on together, by the hashes of their content.
Group = dict[str, Clip]


class Plan:
    """The clips of one extractor whose values are missing, found while the first of them are worked on already. What
    is known of each clip is on disk, not in memory.

    failures   key -> reason of those that the system does not let us read
    passed     clips so far that need no work: their values are there, or are made for one with the same content
    wanted     clips so far that do
    """

    def __init__(self, extractor: Extractor, clips: Sequence[Clip], shards: ShardCache):
        self.extractor, self.clips, self.shards = extractor, clips, shards
        self.failures: dict[str, str] = {}
        self.passed = self.wanted = 0
        #: The key of every clip that has been looked at, by its place; of contents that can be read, the first clip.
        self._looked = private_database(
            "CREATE TABLE looked (row INTEGER PRIMARY KEY, key TEXT)",
            "CREATE TABLE contents (key TEXT PRIMARY KEY, row INTEGER, cost REAL) WITHOUT ROWID",
        )

    @property
    def different(self) -> int:
        """Contents among the clips that have been looked at."""
        return int(self._looked.execute("SELECT COUNT(*) FROM contents").fetchone()[0]) + len(self.failures)

    def each(self) -> Iterator[tuple[str, str]]:
        """Id of a clip and the hash of its content, of all that have been looked at, in order: of every clip once the
        last group was taken."""
        keys = self._looked.execute("SELECT key FROM looked ORDER BY row")
        return ((name, key) for (key,), name in zip(keys, names_of(self.clips), strict=False))

    def groups(self, workers: int) -> tuple[int, Iterator[Group]]:
        """What has to be made, task by task; and how many clips that is, of more than some hundred at least so many.

        Encoders batch clips of like length, and the last bits of their values depend on batch composition; their groups
        are therefore drawn from all clips, and a group of which anything is missing is made as a whole. So a run that
        was stopped ends with the very bytes of one that was not.
        """
        if self.extractor.batched:
            return self._by_cost()
        missing = self._missing()
        ahead = list(islice(missing, TASKS_EACH * workers * SHARD))
        size = min(SHARD, max(len(ahead) // (TASKS_EACH * workers), 1))
        return len(ahead), (dict(part) for part in _parted(chain(ahead, missing), size))

    def _rows(self) -> Iterator[tuple[int, Clip]]:
        """Rows and clips, beginning where a run that was killed will have stopped: what it made is looked at while the
        rest is worked on."""
        count, stopped = len(self.clips), len(self.shards)
        for begin, end in ((stopped, count), (0, min(stopped, count))):
            for start in range(begin, end, BLOCK):
                yield from enumerate(self.clips[start : min(start + BLOCK, end)], start)

    def _looked_at(self) -> Iterator[tuple[str, Clip, bool]]:
        """Key and clip, one after the other, and whether it can be read and is the first with this content."""
        for row, clip in self._rows():
            key, reason = key_of(self.extractor, clip)
            self._looked.execute("INSERT INTO looked VALUES (?, ?)", (row, key))
            if reason:
                self.failures[key] = reason
                yield key, clip, False
                continue
            content = (key, row, self.extractor.cost(clip) if self.extractor.batched else None)
            added = self._looked.execute("INSERT OR IGNORE INTO contents VALUES (?, ?, ?)", content)
            yield key, clip, added.rowcount == 1

    def _missing(self) -> Iterator[tuple[str, Clip]]:
        for key, clip, first in self._looked_at():
            if first and key not in self.shards:
                self.wanted += 1
                yield key, clip
            else:
                self.passed += 1

    def _by_cost(self) -> tuple[int, Iterator[Group]]:
        for _ in self._looked_at():
            pass
        self.wanted = sum(map(len, self._incomplete()))
        self.passed = len(self.clips) - self.wanted

        def drawn() -> Iterator[Group]:
            for part in self._incomplete():
                clips = taken(self.clips, [row for _, row in part])
                yield {key: clip for (key, _), clip in zip(part, clips, strict=True)}

        return self.wanted, drawn()

    def _incomplete(self) -> Iterator[list[tuple[str, int]]]:
        """Keys and rows of the groups of like length of which anything is missing."""
        by_cost = self._looked.execute("SELECT key, row FROM contents ORDER BY cost, key")
        return (part for part in _parted(by_cost, ENCODER_SHARD) if self.shards.missing(key for key, _ in part))

    def fingerprint(self, stream: str, provenance: Provenance, failures: Iterable[str]) -> str:
        """Hash of what the finished stream holds; `failures` are the keys of what is absent there."""
        digest = hashlib.sha256(sha256_of([stream, provenance.model_dump(mode="json"), sorted(failures)]).encode())
        for name, key in self.each():
            digest.update(json.dumps([name, key]).encode("ascii"))
        return digest.hexdigest()


class Beside:
    """An extractor that looks at clips decoded for another one: its cache, and which of its values are missing."""

    def __init__(self, extractor: Extractor, cache: Path):
        self.extractor = extractor
        self.name = (extractor.name, as_json(extractor))
        self.provenance = extractor.provenance()
        self.shards = ShardCache.of(cache, extractor, self.provenance)
        self._given = private_database("CREATE TABLE given (key TEXT PRIMARY KEY) WITHOUT ROWID")

    def partner(self, group: Group) -> Partner | None:
        """What a task on this group makes of it for this one; None where all of that is there."""
        keys = tuple(self._wanted(clip) for clip in group.values())
        return Partner(*self.name, keys, self.provenance) if any(key is not None for key in keys) else None

    def _wanted(self, clip: Clip) -> str | None:
        """Clips that are one to this extractor are looked at once."""
        key, reason = key_of(self.extractor, clip)
        if reason or key in self.shards:
            return None
        return key if self._given.execute("INSERT OR IGNORE INTO given VALUES (?)", (key,)).rowcount else None


def tasks_of(
    extractor: Extractor, provenance: Provenance, groups: Iterator[Group], others: Sequence[Beside]
) -> Iterator[Task]:
    """A task for each group, made when it is asked for: of a million clips a few dozen are under way at a time."""
    settings = as_json(extractor)
    for group in groups:
        partners = [partner for other in others if (partner := other.partner(group)) is not None]
        clips = tuple(clip.only(extractor.reads) for clip in group.values())
        yield Task(
            extractor.name, settings, clips, tuple(group), provenance, partners=tuple(partners),
            whole=extractor.encodes and not extractor.apart,
        )  # fmt: skip


def key_of(extractor: Extractor, clip: Clip) -> tuple[str, str]:
    """The hash of a clip's content, and why the system does not let us read it, or nothing."""
    try:
        return clip.content(extractor.reads) + extractor.companion(clip), ""
    except OSError as error:
        reason = f"{error.filename or name_of(clip)}: cannot be read ({error.strerror or error})"
        return f"unreadable {clip.utterance_id}", reason


def name_of(clip: Clip) -> str:
    """What a clip is called in messages: its recording, or its utterance."""
    return str(clip.media) if isinstance(clip.media, Path) else clip.utterance_id


def as_json(extractor: Extractor) -> str:
    """Its settings, as workers are told them."""
    return json.dumps(extractor.options(), sort_keys=True)


def _parted(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while part := list(islice(items, size)):
        yield part
