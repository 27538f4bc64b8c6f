"""Recordings: what is in them, and their frames as RGB (their sound: sound.py). PyAV reads every container and codec.

Decoding is a stream: a two-hour file takes no more memory than its longest utterance.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
from av.video.reformatter import VideoReformatter

from demeanor.data.errors import DemeanorError

Source = Path | str | bytes
#: Decoding starts this much before a span: a codec needs some packets before its output is right.
PREROLL = 0.5


class MediaError(DemeanorError):
    """A recording cannot be read."""


@dataclass(frozen=True)
class MediaInfo:
    """What a recording holds; durations in seconds, None where the container does not say."""

    duration: float | None
    has_audio: bool
    has_video: bool
    width: int | None = None
    height: int | None = None
    frame_rate: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    audio_codec: str | None = None
    video_codec: str | None = None


def name_of(source: Source) -> str:
    return f"recording of {len(source)} bytes" if isinstance(source, bytes) else str(source)


@contextmanager
def opened(source: Source) -> Iterator[av.container.InputContainer]:
    label = name_of(source)
    if isinstance(source, bytes):
        size = len(source)
    else:
        path = Path(source)
        try:
            if not path.exists():
                raise MediaError(f"{label}: there is no such file")
            if not path.is_file():
                raise MediaError(f"{label}: not a file")
            size = path.stat().st_size
        except OSError as error:  # its folder is closed to this user, or the disk has a fault
            raise MediaError(f"{label}: cannot be opened ({_reason(error)})") from None
    if size == 0:
        raise MediaError(f"{label}: the file is empty")
    try:
        container = av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), mode="r")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{label}: not a readable recording ({_reason(error)}); is it really audio or video?"
        ) from None
    with container:
        yield container


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def audio_stream(container: Any) -> Any | None:
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def _video_stream(container: Any) -> Any | None:
    """The first moving picture; cover art of an audio file is none."""
    for stream in container.streams.video:
        disposition = stream.disposition
        if stream.codec_context is not None and not disposition & disposition.attached_pic:
            return stream
    return None


def probe(source: Source) -> MediaInfo:
    """What `source` holds, read from its header. MediaError where it is no recording."""
    with opened(source) as container:
        return described(container, name_of(source))


def described(container: Any, label: str) -> MediaInfo:
    audio, video = audio_stream(container), _video_stream(container)
    if audio is None and video is None:
        raise MediaError(f"{label}: holds neither sound nor picture")
    duration = None if container.duration is None else container.duration / av.time_base
    if duration is None:
        known = [float(s.duration * s.time_base) for s in (audio, video) if s is not None and s.duration]
        duration = max(known, default=None)
    frame_rate = None if video is None else video.average_rate
    return MediaInfo(
        duration=duration,
        has_audio=audio is not None,
        has_video=video is not None,
        width=video.width if video is not None else None,
        height=video.height if video is not None else None,
        frame_rate=float(frame_rate) if frame_rate else None,
        sample_rate=audio.sample_rate if audio is not None else None,
        channels=audio.channels if audio is not None else None,
        audio_codec=audio.codec_context.name if audio is not None else None,
        video_codec=video.codec_context.name if video is not None else None,
    )


def decoded(container: Any, stream: Any, label: str) -> Iterator[Any]:
    """Frames of one stream; a damaged packet is passed over, a stream of which nothing is left is an error."""
    stream.codec_context.thread_count = 1
    damaged, frames = 0, 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
            decoded = packet.decode()
        except StopIteration:
            break
        except av.FFmpegError as error:
            damaged += 1
            if damaged > 10_000 or isinstance(error, (av.MemoryError, av.PermissionError)):
                raise MediaError(f"{label}: cannot be decoded ({_reason(error)})") from None
            continue
        frames += len(decoded)
        yield from decoded
    if damaged and damaged > frames:
        raise MediaError(f"{label}: damaged, only {frames} frames of its {stream.type} could be decoded")


def origin_of(container: Any) -> float:
    return 0.0 if container.start_time is None else container.start_time / av.time_base


def seek(container: Any, start: float, origin: float) -> None:
    if start > PREROLL:
        try:
            container.seek(int((start - PREROLL + origin) * av.time_base), backward=True, any_frame=False)
        except av.FFmpegError:
            container.seek(0)


def decode_frames(
    source: Source,
    start: float = 0.0,
    end: float | None = None,
    rate: float | None = None,
    longest_side: int | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds from `start`, RGB image [height, width, 3] uint8) one by one; nothing where there is no video track.

    With `rate`, the picture that stands at 0, 1/rate, 2/rate ... seconds, whatever the spacing of the recording's
    own frames (they may vary). `longest_side` scales larger pictures down.
    """
    label = name_of(source)
    with opened(source) as container:
        stream = _video_stream(container)
        if stream is None:
            return
        paint = _Painter(longest_side)
        origin = origin_of(container)
        seek(container, start, origin)
        held: Any = None
        tick, shown = 0, 0.0
        half_step = 0.0
        for frame in decoded(container, stream, label):
            time = (0.0 if frame.pts is None else float(frame.pts * frame.time_base) - origin) - start
            half_step = max(time - shown, 0.0) if held is not None else half_step
            limit = time if end is None else min(time, end - start)
            if rate is None:
                if time >= -1e-6 and (end is None or time < end - start):
                    yield max(time, 0.0), paint(frame)
            else:
                # The frame held so far stands until this one comes; the first one also stands for what precedes it.
                while tick / rate < limit - 1e-6:
                    yield tick / rate, paint(held if held is not None else frame)
                    tick += 1
            held, shown = frame, time
            if end is not None and time >= end - start:
                return
        if rate is not None and held is not None:
            # The last frame stands as long as the one before it did, at least one tick if none was shown yet.
            limit = shown + (half_step or 1.0 / rate)
            if end is not None:
                limit = min(limit, end - start)
            while tick / rate < limit - 1e-6:
                yield tick / rate, paint(held)
                tick += 1


class _Painter:
    """Decoded frames as RGB images. One converter per recording: setting one up costs more than using it."""

    def __init__(self, longest_side: int | None):
        self.longest_side = longest_side
        self.converter = VideoReformatter()

    def __call__(self, frame: Any) -> np.ndarray:
        width, height = frame.width, frame.height
        largest = max(width, height)
        if self.longest_side is not None and largest > self.longest_side:
            width, height = (max(round(side * self.longest_side / largest), 1) for side in (width, height))
        return self.converter.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
