"""The engine: plan what is missing, extract it in parallel, keep it in shards, write the streams.

The plan is content hash x extractor fingerprint: a clip whose media, text or word times are what they were, and
whose extractor is what it was, is never worked on twice, neither by the next run nor after `kill -9`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from demeanor.data.errors import InputError
from demeanor.data.processors import available_cores
from demeanor.data.progress import Progress
from demeanor.data.ragged import RaggedWriter
from demeanor.data.safetensors_header import read_metadata
from demeanor.data.settings import Settings
from demeanor.data.stream import SUFFIX, Stream
from demeanor.features import find_extractor
from demeanor.features.base import STORED, Clip, Extractor
from demeanor.features.cache import ShardCache
from demeanor.features.clips import WAVEFORM, WORD_TIMES, with_words
from demeanor.features.plan import Beside, Plan, as_json, tasks_of
from demeanor.features.pools import ProcessPool, pool_for

#: Clips whose hashes take so long that workers are started meanwhile.
MANY = 2048
REPORT_COLUMNS = ("utterance_id", "stream", "reason")


class StreamRequest(Settings):
    """One stream to make: `extractor` names it in the registry, `parameters` are its settings; with `when_read` only
    where a branch that is enabled reads it, because it wants weights or time that not everybody has. `precision` is
    that of the stored values: float16 takes half of the disk, keeps three digits, and is read as float32."""

    extractor: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    when_read: bool = False
    precision: Literal["float32", "float16"] = "float32"

    def build(self) -> Extractor:
        """The extractor that is asked for. InputError for an unknown one, or settings that it does not take."""
        stored = {STORED: self.precision} if self.precision != "float32" else {}
        return find_extractor(self.extractor, {**self.parameters, **stored})


def extract_streams(
    clips: Sequence[Clip],
    streams: Mapping[str, StreamRequest],
    cache: Path,
    output: Path,
    workers: int | Literal["auto"] = "auto",
    progress: bool = True,
    cluster: Any = None,
) -> tuple[dict[str, Stream], pd.DataFrame]:
    """Make every stream of `streams` for all clips; files `output/<stream>.safetensors`, memory-mapped.

    Returns the streams and the report on clips set aside (utterance_id, stream, reason), which are absent (length
    0) in that stream. Results do not depend on `workers`. `cluster` is None, "local" or the address of a Dask
    scheduler. InputError, before anything runs, if a stream's settings are wrong; afterwards, if a stream could
    not be made for a single one of its clips.
    """
    count = available_cores() if workers == "auto" else int(workers)
    makers = build_all(streams)
    made: dict[str, Stream] = {}
    set_aside: list[dict[str, str]] = []
    # Word times come first: with them, streams that average over words know where those are.
    for name, extractor in sorted(makers.items(), key=lambda item: item[0] != WORD_TIMES):
        beside = [
            other for label, other in makers.items()
            if label not in made and other is not extractor and share_a_pass(extractor, other, name)
        ]  # fmt: skip
        together = next((done for done in made if share_a_pass(makers[done], extractor, done)), "")
        stream, failures = _make(
            name, extractor, clips, Path(cache), Path(output), count, progress, cluster, beside, together
        )
        made[name] = stream
        if name == WORD_TIMES:
            clips = with_words(clips, stream)
        set_aside += [{"utterance_id": key, "stream": name, "reason": reason} for key, reason in failures.items()]
    made = {name: made[name] for name in streams}
    return made, pd.DataFrame(set_aside, columns=list(REPORT_COLUMNS), dtype="str")


def share_a_pass(first: Extractor, other: Extractor, stream: str) -> bool:
    """May `other` look at the clips while they are decoded for `first`, which makes `stream`?

    Both go clip by clip and read the same track; dialogues do not travel with every clip, and times of words are not
    there yet while they are made. Or both are encoders: of pictures, which take them clip by clip; or of sound alone
    that put the same clips together, whose batches are then those of either alone. What goes clip by clip in worker
    processes and what runs in the main one share nothing: there it would wait for the other.
    """
    if first.batched and other.batched:
        if first.apart and other.apart:
            return first.reads == other.reads == {"video"}
        return first.reads == other.reads == {"audio"} and type(first).cost is type(other).cost
    return (
        not first.batched and not other.batched and bool(first.reads & other.reads & {"audio", "video"})
        and "dialogue" not in other.reads and not (stream == WORD_TIMES and "words" in other.reads)
    )  # fmt: skip


def build_all(streams: Mapping[str, StreamRequest]) -> dict[str, Extractor]:
    """The extractor of every stream; InputError that lists what is wrong with each of them."""
    makers, problems = {}, []
    for name, request in streams.items():
        try:
            makers[name] = request.build()
        except InputError as error:
            problems += [f"stream '{name}': {error.where}: {problem}" for problem in error.problems]
    if problems:
        raise InputError("streams to extract", problems)
    return makers


def _make(
    name: str, extractor: Extractor, clips: Sequence[Clip], cache: Path, output: Path, workers: int,
    progress: bool, cluster: Any, beside: Sequence[Extractor] = (), together: str = "",
) -> tuple[Stream, dict[str, str]]:  # fmt: skip
    """The stream, and reasons by utterance.

    beside    extractors that look at the clips in the same pass; their values go to their own caches
    together  the stream whose pass looked for this one as well
    """
    provenance = extractor.provenance()
    shards = ShardCache.of(cache, extractor, provenance)
    if len(clips) - len(shards) > MANY and cluster is None:
        pool = pool_for(extractor, workers, len(clips))
        if isinstance(pool, ProcessPool):
            pool.wake(extractor.name, as_json(extractor))
    me = (extractor.name, as_json(extractor))  # a stream of the same maker finds its values in the same cache
    different = {(other.name, as_json(other)): other for other in beside}
    others = [Beside(other, cache) for name, other in different.items() if name != me]
    plan, worked = Plan(extractor, clips, shards), 0
    failures: dict[str, str] = {}
    with Progress(name, len(clips), "clips", progress) as shown:
        ahead, groups = plan.groups(workers)
        tasks = tasks_of(extractor, provenance, groups, others)
        for outcome in pool_for(extractor, workers, ahead, cluster).run(tasks):
            unfit = shards.unfit(outcome.values)
            shards.add({key: value for key, value in outcome.values.items() if key not in unfit})
            for other, values in zip(outcome.task.partners, outcome.partners, strict=True):
                taken = next(one for one in others if one.name == (other.extractor, other.settings))
                if values:
                    beyond = taken.shards.unfit(values)  # its own pass tells the reason
                    taken.shards.add({key: value for key, value in values.items() if key not in beyond})
            failures.update({**outcome.failures, **unfit})
            worked += len(outcome.values) + len(outcome.failures)
            shown.advance(worked + plan.passed - shown.done)
        kept = plan.different - len(plan.failures) - plan.wanted
        failures.update(plan.failures)
        source = f", {kept} {f'made with {together}' if together else 'kept from before'}" if kept else ""
        aside = f", {len(failures)} set aside" if failures else ""
        shown.say(f"{name}: {plan.wanted} clips made{source}{aside}")
    if failures and len(failures) == plan.different:
        raise InputError(f"stream '{name}'", [f"no clip could be read: {reason}" for reason in failures.values()])
    path = output / f"{name}{SUFFIX}"
    fingerprint = plan.fingerprint(name, provenance, failures)
    if not (path.exists() and read_metadata(path).get("plan") == fingerprint):
        metadata = {"stream": name, "provenance": provenance.model_dump_json(), "plan": fingerprint}
        each = name == WAVEFORM  # what is made of sound asks what it is, time and again
        with RaggedWriter.open(path, extractor.dimension, extractor.stored_dtype, metadata, each=each) as writer:
            for identity, key in plan.each():
                writer.append(identity, extractor.absent if key in failures else shards[key])
    shards.merge()
    stream = Stream.load(path)
    if progress and (remark := extractor.remark(stream.ragged)):
        sys.stderr.write(f"{name}: {remark}\n")
    return stream, {identity: failures[key] for identity, key in plan.each() if key in failures}
