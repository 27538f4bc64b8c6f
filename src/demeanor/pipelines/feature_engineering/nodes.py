"""Utterances and media in, streams out, then the one cut between development and the sealed test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from demeanor.data.examples import Examples
from demeanor.data.places import anchored
from demeanor.data.settings import Settings
from demeanor.data.stream import Stream
from demeanor.features.engine import StreamRequest
from demeanor.pipelines.branches import streams_read

logger = logging.getLogger(__name__)


class FeatureSettings(Settings):
    """Streams to make, by modality, and where the work is done.

    workers   processes, or auto for all cores
    cluster   address of a Dask scheduler, "local" for one on this machine, None for plain processes
    most_gib  a stream of frames that would be larger is refused: of a corpus of that size, take pooled ones
    """

    text: dict[str, StreamRequest] = {}
    audio: dict[str, StreamRequest] = {}
    vision: dict[str, StreamRequest] = {}
    workers: int | Literal["auto"] = "auto"
    cluster: str | None = None
    most_gib: float = Field(default=100.0, gt=0.0)


def extract(
    modality: str,
    utterances: pd.DataFrame,
    given: dict[str, Stream],
    root: str,
    settings: FeatureSettings,
    folder: str,
    cache: str,
    branches: Mapping[str, Any],
) -> dict[str, Stream]:
    """All streams of one modality; what has been made before from the same content is not made again.

    Of the streams `given`, the waveform spares decoding and the times of words serve those that average over words.
    A stream `when_read` is left out where none of the `branches` that are enabled reads it.
    """
    from demeanor.features.base import SAMPLE_RATE
    from demeanor.features.clips import WAVEFORM, clips_of
    from demeanor.features.engine import build_all, extract_streams
    from demeanor.features.sizes import require_room

    read = streams_read(branches)
    wanted = {n: one for n, one in getattr(settings, modality).items() if n in read or not one.when_read}
    if wanted and WAVEFORM in given:
        seconds = float(given[WAVEFORM].ragged.lengths.sum()) / SAMPLE_RATE
        require_room(build_all(wanted), seconds, settings.most_gib)
    streams, set_aside = extract_streams(
        clips_of(utterances, root, given),
        wanted,
        anchored(cache),
        anchored(folder) / modality,
        settings.workers,
        cluster=settings.cluster,
    )
    for row in set_aside.itertuples():
        logger.warning("%s is absent in %s: %s", row.utterance_id, row.stream, row.reason)
    return streams


def extract_text(
    utterances: pd.DataFrame,
    imported: dict[str, Stream],
    root: str,
    settings: FeatureSettings,
    folder: str,
    cache: str,
    branches: dict[str, Any],
) -> dict[str, Stream]:
    """text.tokens, text.words, text.sentence, as the parameters name them."""
    return extract("text", utterances, imported, root, settings, folder, cache, branches)


def after_text(modality: str) -> Callable[..., dict[str, Stream]]:
    """The node of a modality whose streams, audio.frames for example, may need the times of words among `text`."""

    def extract_after_text(
        utterances: pd.DataFrame,
        imported: dict[str, Stream],
        text: dict[str, Stream],
        root: str,
        settings: FeatureSettings,
        folder: str,
        cache: str,
        branches: dict[str, Any],
    ) -> dict[str, Stream]:
        return extract(modality, utterances, {**imported, **text}, root, settings, folder, cache, branches)

    return extract_after_text


def cut(
    utterances: pd.DataFrame,
    imported: dict[str, Stream],
    text: dict[str, Stream],
    audio: dict[str, Stream],
    vision: dict[str, Stream],
) -> tuple[Examples, Examples]:
    """The one place where utterances are parted: development (train and valid) and the sealed test."""
    examples = Examples.of(utterances, {**imported, **text, **audio, **vision})
    return examples.split("train", "valid"), examples.split("test")
