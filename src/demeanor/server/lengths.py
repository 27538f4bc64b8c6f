"""How long the recordings of a request are: counted while they are decoded, because containers lie or do not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from demeanor.data.cells import Reach
from demeanor.data.raw_rows import media_of, read_rows
from demeanor.features.media import MediaError
from demeanor.features.sound import stream_audio
from demeanor.server.refusals import Refusal


def seconds_of(rows: Sequence[Mapping[str, Any]], reach: Reach, limit: float) -> float:
    """Seconds of sound that the rows ask for together; Refusal once they are more than `limit`.

    What cannot be decoded counts as far as it could be: the row itself will say what is wrong with it.
    """
    total = 0.0
    for row in read_rows(list(rows), reach):
        source = media_of(row, "audio")
        source = media_of(row, "video") if source is None else source
        if source is None:
            continue
        try:
            for rate, samples in stream_audio(source, row.cells.get("start", 0.0), row.cells.get("end")):
                total += len(samples) / rate
                if total > limit:
                    raise Refusal(
                        "recording_too_long",
                        f"the request holds more than {limit:g} s of sound: cut it by `start` and `end`, or ask for a "
                        "timeline",
                    )
        except MediaError:
            continue
    return total
