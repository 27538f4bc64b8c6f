"""What happens in the process of one timeline: its recording is counted, heard and scored, the result is written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demeanor.analyser import BundleScorer
from demeanor.data.bundle import Bundle
from demeanor.data.errors import DemeanorError
from demeanor.server.extraction import limit_memory, one_thread
from demeanor.server.metrics import Metrics
from demeanor.server.refusals import Refusal
from demeanor.timeline.given import GivenSpan

if TYPE_CHECKING:
    import pandas as pd

#: How much a timeline gives way to requests that somebody waits for (see nice(2)).
GIVES_WAY = 10
#: The name of every recording in its timeline: its caller's own may hold anything.
NAME = "recording"


@dataclass(frozen=True)
class TimelineOrder:
    """
    recording  the upload
    result     where the timeline will be, as JSON
    address    by which the timeline names its model
    spans      that are scored as they are; None: they are found
    seconds    of sound that the recording may have
    memory     bytes of address space that may be allotted once the model is loaded
    """

    recording: Path
    result: Path
    address: str
    bundle: Bundle
    without: tuple[str, ...] = ()
    explained: bool = False
    spans: tuple[GivenSpan, ...] | None = None
    channels: bool = False
    language: str = "en"
    seconds: float = 4 * 3600.0
    memory: int = 4 << 30


@dataclass(frozen=True)
class Message:
    """From the process to the server: what it does and how far it is, in [0, 1]; `done`, or why it was given up."""

    stage: str = ""
    progress: float = 0.0
    done: bool = False
    refusal: Refusal | None = None


class TellingScorer(BundleScorer):
    """Scores, and says before and after every batch how many seconds of the recording are behind it."""

    def __init__(self, order: TimelineOrder, behind: Callable[[float], None]):
        super().__init__({order.address: order.bundle}, explained=order.explained, transcribe=False)
        self.behind = behind
        if order.without:
            self.models = [model.without(*order.without) for model in self.models]

    def score(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[pd.DataFrame]:
        """As `BundleScorer.score`; tells, before and after, up to which second the recording is scored."""
        self.behind(float(rows[0]["start"]))
        tables = super().score(rows)
        self.behind(max(float(row["end"]) for row in rows))
        return tables


def work(connection: Connection, order: TimelineOrder) -> None:
    """The life of the process: messages through the pipe, the last of which says how it ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server ends it
    if hasattr(os, "nice"):
        os.nice(GIVES_WAY)
    one_thread()
    try:
        _make(order, connection.send)
        last = Message(done=True, progress=1.0)
    except Refusal as refusal:
        last = Message(refusal=refusal)
    except MemoryError:
        last = Message(refusal=Refusal("extraction_out_of_memory", "the timeline takes more memory than one may have"))
    except DemeanorError as error:
        Metrics.log_unforeseen(error, "a timeline")
        last = Message(refusal=Refusal("recording_unreadable", "no timeline can be made of this recording"))
    except Exception as error:
        Metrics.log_unforeseen(error, "a timeline")
        last = Message(refusal=Refusal("internal", "the timeline could not be made"))
    connection.send(last)


def _make(order: TimelineOrder, send: Callable[[Message], None]) -> None:
    from demeanor.timeline.formats import write_timeline
    from demeanor.timeline.planning import CHANNELS, Options
    from demeanor.timeline.run import make_timeline

    send(Message("reading"))
    seconds = length_of(order.recording, order.seconds)
    scorer = TellingScorer(order, lambda end: send(Message("scoring", min(end / max(seconds, 0.001), 1.0))))
    limit_memory(order.memory)
    options = Options(
        speakers=CHANNELS if order.channels else None, spans=order.spans, language=order.language
    )  # fmt: skip
    send(Message("hearing"))
    made = make_timeline(order.recording, scorer, options, name=NAME)
    # The upload's place on this machine is nobody's business, and it is gone by then.
    write_timeline(replace(made, header=made.header.model_copy(update={"medium": ""})), order.result)


def length_of(recording: Path, limit: float) -> float:
    """Seconds, counted while the sound is decoded. Refusal recording_unreadable; recording_too_long beyond `limit`."""
    from demeanor.features.media import MediaError, probe
    from demeanor.features.sound import stream_audio

    try:
        info = probe(recording)
        total = 0.0 if info.has_audio else info.duration or 0.0
        for rate, samples in stream_audio(recording) if info.has_audio else ():
            total += len(samples) / rate
            if total > limit:
                break
    except MediaError:
        raise Refusal("recording_unreadable", "the file is no recording that can be decoded") from None
    if total > limit:
        raise Refusal("recording_too_long", f"the recording is longer than {limit:g} s")
    return total
