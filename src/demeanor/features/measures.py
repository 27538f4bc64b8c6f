"""What recordings are like, measured and not stated: how loud the sound is, in how much of the film a face is seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from demeanor.data.stream import Stream
from demeanor.features import EXTRACTORS, extractor_class
from demeanor.features.base import SILENCE
from demeanor.features.clips import WAVEFORM

FULL_SCALE = 32768.0
SEEN = "presence"
"""Column of an extractor that says whether a picture showed the face."""


def measured(streams: Mapping[str, Stream]) -> dict[str, Float[np.ndarray, " clips"]]:
    """`loudness` and `face_share` of every clip, in the order of the streams; what no stream tells of is not there."""
    made = {}
    if WAVEFORM in streams:
        made["loudness"] = loudness(streams[WAVEFORM])
    told = [stream for stream in streams.values() if _column(stream) is not None]
    if told:
        made["face_share"] = face_share(told[0])
    return made


def loudness(waveform: Stream) -> Float[np.ndarray, " clips"]:
    """Root mean square of `audio.waveform` (int16) in dB below full scale; NaN for silence and where nothing was
    recorded."""
    made = np.full(len(waveform.ragged), np.nan)
    for place, part in enumerate(waveform.ragged):
        values = part.astype(np.float64) / FULL_SCALE
        if values.size and np.abs(values).max() >= SILENCE:
            made[place] = 10 * np.log10(np.mean(np.square(values)))
    return made


def face_share(frames: Stream) -> Float[np.ndarray, " clips"]:
    """Share of the pictures of a stream that show the face, 0 where there is none of it."""
    column = _column(frames)
    return np.array([float(part[:, column].mean()) if len(part) else 0.0 for part in frames.ragged])


def _column(stream: Stream) -> int | None:
    """Which column says whether the face is seen; None where the maker of a stream has none."""
    name = stream.provenance.extractor
    if name not in EXTRACTORS or stream.modality != "vision":
        return None
    kind = extractor_class(name)
    known = {
        key: value for key, value in stream.provenance.parameters.items() if key in kind.settings_type.model_fields
    }
    names = list(getattr(kind(known), "names", ()))
    return names.index(SEEN) if SEEN in names else None
