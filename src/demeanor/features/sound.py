"""The sound of recordings: mono by the mean over channels, 16 kHz by soxr's high-quality resampler, as floats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from jaxtyping import Float32

from demeanor.features.media import (
    MediaError,
    MediaInfo,
    Source,
    audio_stream,
    decoded,
    described,
    name_of,
    opened,
    origin_of,
    seek,
)

#: Below this share of what a file declares, what could be decoded does not stand for the recording.
LEAST_SHARE = 0.5


def stream_audio(
    source: Source, start: float = 0.0, end: float | None = None
) -> Iterator[tuple[int, Float32[np.ndarray, " samples"]]]:
    """(sample rate, mono samples) block by block at the recording's own rate; nothing where there is no audio.

    Times count from the start of the container, so that sound that begins later than the picture is preceded by
    zeros, as it is in a player.
    """
    with opened(source) as container:
        yield from _blocks(container, name_of(source), start, end)


def _blocks(
    container: Any, label: str, start: float, end: float | None
) -> Iterator[tuple[int, Float32[np.ndarray, " samples"]]]:
    stream = audio_stream(container)
    if stream is None:
        return
    origin, rate = origin_of(container), stream.codec_context.sample_rate
    if not rate:
        raise MediaError(f"{label}: its audio has no sample rate")
    first, last = round(start * rate), None if end is None else round(end * rate)
    seek(container, start, origin)
    mono = _Mono(rate)
    position: int | None = None
    for frame in decoded(container, stream, label):
        if frame.sample_rate != rate:
            raise MediaError(f"{label}: the sample rate changes from {rate} to {frame.sample_rate} Hz")
        if position is None:
            time = 0.0 if frame.pts is None else float(frame.pts * frame.time_base) - origin
            position = max(round(time * rate), 0)
            if position > first:
                yield rate, np.zeros((min(position, last) if last is not None else position) - first, np.float32)
        for samples in mono(frame):
            begin, stop = max(first - position, 0), len(samples)
            if last is not None:
                stop = min(stop, last - position)
            position += len(samples)
            if begin < stop:
                yield rate, samples[begin:stop]
        if last is not None and position >= last:
            return


class _Mono:
    """Decoded frames as the mean over their channels."""

    def __init__(self, rate: int):
        self.rate = rate
        self.converter: Any = None

    def __call__(self, frame: Any) -> Iterator[Float32[np.ndarray, " samples"]]:
        name = frame.format.name
        if name in ("s16", "s16p", "flt", "fltp"):
            # Common formats need no converter: setting one up costs more than decoding a short clip.
            values = frame.to_ndarray()
            if not frame.format.is_planar:
                values = np.ascontiguousarray(values.reshape(-1, frame.layout.nb_channels).T)
            if values.dtype == np.int16:
                values = values.astype(np.float32) / 32768.0
            yield values[0] if len(values) == 1 else values.mean(axis=0, dtype=np.float32)
            return
        if self.converter is None:
            self.converter = av.AudioResampler(format="fltp", layout=frame.layout.name, rate=self.rate)
        for block in self.converter.resample(frame):
            yield block.to_ndarray().mean(axis=0, dtype=np.float32)


def decode_audio(
    source: Source, start: float = 0.0, end: float | None = None, rate: int = 16_000
) -> Float32[np.ndarray, " samples"] | None:
    """Mono samples of the seconds `start` to `end` at `rate`, or None where the recording has no audio track."""
    label = name_of(source)
    with opened(source) as container:
        information = described(container, label)
        if not information.has_audio:
            return None
        # Resampled block by block: a long recording is never held at its own, higher rate.
        parts = list(_resampled(_blocks(container, label, start, end), rate))
    if not parts:
        if information.duration and start < information.duration - 0.1:
            raise MediaError(f"{label}: none of its audio could be decoded")
        return np.zeros(0, np.float32)
    samples = np.concatenate(parts)
    _require_enough(source, information, len(samples) / rate, start, end, "audio")
    return np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)


def _resampled(blocks: Iterator[tuple[int, np.ndarray]], rate: int) -> Iterator[Float32[np.ndarray, " samples"]]:
    import soxr

    resampler: Any = None
    for own_rate, block in blocks:
        if own_rate == rate:
            yield block
            continue
        if resampler is None:
            resampler = soxr.ResampleStream(own_rate, rate, 1, dtype="float32", quality="HQ")
        yield resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _require_enough(
    source: Source, information: MediaInfo, seconds: float, start: float, end: float | None, what: str
) -> None:
    """A file cut short while it was copied must not pass for a short recording."""
    if information.duration is None:
        return
    wanted = (information.duration if end is None else min(end, information.duration)) - start
    if wanted > 1.0 and seconds < LEAST_SHARE * wanted:
        raise MediaError(
            f"{name_of(source)}: {seconds:.2f} s of {wanted:.2f} s of its {what} could be decoded; the file is damaged"
        )
