"""Recordings: what is in them, and their frames as RGB (their sound: sound.py). PyAV reads every container and codec.

Decoding is a stream: a two-hour file takes no more memory than its longest utterance. What may be opened, and how much
of it is read, stands in limits.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any

import av
import av.container
import numpy as np

from demeanor.data.errors import DemeanorError
from demeanor.data.media import remarked
from demeanor.features.limits import FORMAT_LIST, LIMITS
from demeanor.features.painting import Painter, described_turn
from demeanor.features.structure import why_refused

Source = Path | str | bytes
Note = Callable[[str], None]
#: Decoding starts this much before a span: a codec needs some packets before its output is right.
PREROLL = 0.5
#: A time this much earlier than the one before it is a clock that was set anew, not a frame out of order.
SET_BACK = 10.0
#: Damaged packets after which a track is given up.
HOPELESS = 10_000
BROKEN_OFF = "the file goes on after its pictures break off: what follows cannot be seen"
#: Seconds that a picture stands for where nothing says how long.
USUAL_STEP = 0.04
#: A picture that stands for more seconds than this is a gap.
STILL = 60.0
#: First bytes of what is no recording but points to others.
POINTERS = {
    b"#EXTM3U": "a playlist",
    b"[playlist]": "a playlist",
    b"<MPD": "a playlist",
    b"<?xml": "a text in XML, such as a playlist",
    b"v=0": "a description of a session (SDP)",
    b"ffconcat": "a list of other files",
}


class MediaError(DemeanorError):
    """A recording cannot be read."""


def unheard(note: str) -> None:
    """For callers that want no notes."""


@dataclass(frozen=True)
class MediaInfo:
    """What a recording holds; durations in seconds, None where the container does not say.

    width, height  of the pictures as they are stored, before they are turned
    passed_over    names of the sound and picture tracks beside the ones that are read
    container      FFmpeg's name of the format
    """

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
    passed_over: tuple[str, ...] = ()
    container: str = ""


def name_of(source: Source) -> str:
    """What a source is called in messages."""
    return f"recording of {len(source)} bytes" if isinstance(source, bytes) else str(source)


@contextmanager
def opened(source: Source) -> Iterator[av.container.InputContainer]:
    """The container, closed afterwards. MediaError for what is no recording, is refused, or exceeds a limit."""
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
        refused = why_refused(source)
        if refused:
            raise MediaError(f"{label}: refused: {refused}")
        # The name of a file is never read as an address: what follows "file:" is a path, whatever it looks like.
        container = av.open(
            io.BytesIO(source) if isinstance(source, bytes) else f"file:{source}",
            mode="r",
            metadata_errors="replace",
            container_options={
                "format_whitelist": FORMAT_LIST,
                "protocol_whitelist": "none" if isinstance(source, bytes) else "file",
            },
            options={"max_pixels": str(LIMITS.pixels)},
            timeout=(LIMITS.opening, None),
        )
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        raise MediaError(f"{label}: {_why_closed(source, error)}") from None
    with container:
        _require_limits(container, label)
        yield container


def _why_closed(source: Source, error: Exception) -> str:
    if isinstance(error, av.ExitError):
        return f"finding out what it holds took longer than {LIMITS.opening:g} s; it is not read"
    start = source[:16] if isinstance(source, bytes) else _start_of(Path(source))
    kind = next((what for mark, what in POINTERS.items() if start.lstrip(b"\xef\xbb\xbf \r\n").startswith(mark)), None)
    if kind is not None:
        return f"not a readable recording: it is {kind}; only files that hold sound or picture themselves are opened"
    if isinstance(error, av.ArgumentError):
        return "not a readable recording (its format is none of those that are opened); is it really audio or video?"
    return f"not a readable recording ({_reason(error)}); is it really audio or video?"


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return b""


def _require_limits(container: Any, label: str) -> None:
    if len(container.streams) > LIMITS.streams:
        raise MediaError(f"{label}: it has {len(container.streams)} tracks, more than the {LIMITS.streams} allowed")
    for stream in container.streams.video:
        if stream.codec_context is not None and stream.width * stream.height > LIMITS.pixels:
            raise MediaError(
                f"{label}: its pictures are declared as {stream.width} x {stream.height} pixels, more than the "
                f"{LIMITS.pixels} that are decoded"
            )
    for stream in container.streams.audio:
        if stream.codec_context is not None and stream.channels > LIMITS.channels:
            raise MediaError(f"{label}: its sound has {stream.channels} channels, more than the {LIMITS.channels} read")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def audio_stream(container: Any) -> Any | None:
    """The sound that a player takes: the default track, that of the picture's programme."""
    return _chosen(container, "audio", video_stream(container))


def video_stream(container: Any) -> Any | None:
    """The moving picture that a player takes; cover art of an audio file is none."""
    return _chosen(container, "video")


def _chosen(container: Any, kind: str, related: Any = None) -> Any | None:
    usable = _usable(container, kind)
    if len(usable) < 2:
        return usable[0] if usable else None
    best = container.streams.best(kind, related)
    if best is not None and any(stream.index == best.index for stream in usable):
        return best
    return next((stream for stream in usable if stream.disposition & stream.disposition.default), usable[0])


def _usable(container: Any, kind: str) -> list[Any]:
    tracks = []
    for stream in getattr(container.streams, kind):
        disposition = stream.disposition
        still = disposition & (disposition.attached_pic | disposition.timed_thumbnails)
        if stream.codec_context is not None and not still:
            tracks.append(stream)
    return tracks


def _passed_over(container: Any, *taken: Any) -> tuple[str, ...]:
    """Names of the other tracks: what they are, their number in the file, title and language."""
    used = {stream.index for stream in taken if stream is not None}
    names = []
    for stream in (*_usable(container, "audio"), *_usable(container, "video")):
        if stream.index not in used:
            title, language = stream.metadata.get("title"), stream.metadata.get("language")
            said = [f"'{_printable(title)}'"] if title else []
            said += [_printable(language)] if language and language != "und" else []
            names.append(" ".join([f"{stream.type} track {stream.index}", *said]))
    return tuple(names)


def _printable(text: str) -> str:
    """At most 40 characters of a tag, none of which would steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:40])


def probe(source: Source) -> MediaInfo:
    """What `source` holds, read from its header. MediaError where it is no recording."""
    with opened(source) as container:
        return described(container, name_of(source))


def described(container: Any, label: str) -> MediaInfo:
    """What a container says of its tracks; durations in seconds. MediaError if it holds neither sound nor picture."""
    audio, video = audio_stream(container), video_stream(container)
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
        sample_rate=(audio.sample_rate or None) if audio is not None else None,
        channels=audio.channels if audio is not None else None,
        audio_codec=audio.codec_context.name if audio is not None else None,
        video_codec=video.codec_context.name if video is not None else None,
        passed_over=_passed_over(container, audio, video),
        container=container.format.name,
    )


def decoded(
    container: Any, stream: Any, label: str, broken_off: Callable[[], None] = lambda: None
) -> Generator[Any, None, None]:
    """Frames of one stream; a damaged packet is passed over, a stream of which nothing is left is an error. MediaError,
    both.

    So is one that takes longer than LIMITS allow; only the processor's time spent here counts, not the consumer's, nor
    what other programs on a busy machine take.

    `broken_off` is called where the file goes on and its packets do not: Opus that is joined to Opus of other channels,
    for example, which FFmpeg does not read past.
    """
    context = stream.codec_context
    context.thread_count = 1
    context.options = {"max_pixels": str(LIMITS.pixels)}
    damaged, frames, spent = 0, 0, 0.0
    first: float | None = None
    last: Any = None
    packets = container.demux(stream)
    while True:
        begun = thread_time()
        packet = None
        try:
            packet = next(packets)
            decoded = packet.decode()
        except StopIteration:
            break
        except av.FFmpegError as error:
            if packet is None:
                broken_off()
            damaged += 1
            if damaged > HOPELESS or isinstance(error, (av.MemoryError, av.PermissionError)):
                raise MediaError(f"{label}: cannot be decoded ({_reason(error)})") from None
            decoded = []
        spent += thread_time() - begun
        if decoded:
            frames += len(decoded)
            first = decoded[0].time if first is None else first
            last = decoded[-1]
            yield from decoded
        if spent > LIMITS.grace or frames > LIMITS.frames:
            length = 0.0 if last is None else (last.time or 0.0) - (first or 0.0)
            _require_pace(spent, frames, length, label, stream.type)
    if damaged and damaged > frames:
        raise MediaError(f"{label}: damaged, only {frames} frames of its {stream.type} could be decoded")


def _require_pace(spent: float, frames: int, length: float, label: str, kind: str) -> None:
    if frames > LIMITS.frames:
        raise MediaError(f"{label}: its {kind} has more than {LIMITS.frames} frames; cut it into pieces")
    if spent > min(LIMITS.grace + LIMITS.pace * length, LIMITS.patience):
        raise MediaError(f"{label}: decoding its {kind} takes too long: {spent:.0f} s for {length:.1f} s; given up")


def origin_of(container: Any) -> float:
    """Seconds at which its clock starts."""
    return 0.0 if container.start_time is None else container.start_time / av.time_base


class Clock:
    """Times of one track's frames, in seconds from the start of the container.

    Files joined end to end, and recorders that start again, count from the beginning a second time; what comes then
    follows on what was there. So does what lies more than LIMITS.gap behind the rest.
    """

    def __init__(self, container: Any, stream: Any):
        self.origin = origin_of(container)
        start = stream.start_time
        self.start = None if start is None else float(start * stream.time_base) - self.origin
        self.added = 0.0

    def __call__(self, frame: Any, expected: float | None) -> float | None:
        """When the frame begins, None where it does not say; `expected` is when it would follow the one before."""
        time = frame.time
        if time is None:
            return None
        time -= self.origin
        if self.start is None:
            self.start = time
        if expected is not None:
            ahead = time + self.added - expected
            again = time <= self.start + 0.1 and ahead < -0.1 and expected > self.start + 0.5
            if again or ahead < -SET_BACK or ahead > LIMITS.gap:
                self.added = expected - time
        return time + self.added


def seek(container: Any, start: float, origin: float) -> None:
    """Move to PREROLL seconds before `start` (seconds from `origin`), or leave it at the beginning."""
    if start > PREROLL:
        try:
            container.seek(int((start - PREROLL + origin) * av.time_base), backward=True, any_frame=False)
        except (av.FFmpegError, OverflowError):
            with suppress(av.FFmpegError):  # then it is read from where it stands, its beginning
                container.seek(0)


def decode_frames(
    source: Source,
    start: float = 0.0,
    end: float | None = None,
    rate: float | None = None,
    longest_side: int | None = None,
    note: Note = unheard,
) -> Generator[tuple[float, np.ndarray], None, None]:
    """(seconds from `start`, RGB image [height, width, 3] uint8) one by one; nothing where there is no video track.

    With `rate`, the picture that stands at 0, 1/rate, 2/rate ... seconds, whatever the spacing of the recording's
    own frames (they may vary). `longest_side` scales larger pictures down. `note` as of `timed_frames`.
    """
    with closing(timed_frames(source, start, end, note)) as frames:
        yield from shown_at(frames, start, end, rate, longest_side)


def timed_frames(
    source: Source, start: float = 0.0, end: float | None = None, note: Note = unheard
) -> Generator[tuple[float, Any, Painter], None, None]:
    """(seconds from `start`, decoded frame, what paints it) of a span, with a little before it; the last is the first
    that begins at `end` or later. Nothing where there is no video track.

    `note` is told, in words for a reader, which tracks are not read and how the pictures are turned. MediaError where
    its timestamps leave hours without a picture.
    """
    label = name_of(source)
    with opened(source) as container:
        stream = video_stream(container)
        if stream is None:
            return
        painter = Painter(stream, None)
        for said in remarked((), _passed_over(container, audio_stream(container), stream)):
            note(said)
        clock = Clock(container, stream)
        seek(container, start, clock.origin)
        usual = float(1 / stream.average_rate) if stream.average_rate else USUAL_STEP
        before: float | None = None
        step = missing = 0.0
        for frame in decoded(container, stream, label, partial(note, BROKEN_OFF)):
            turn = painter.turn(frame) if before is None else None
            if turn is not None:
                note(described_turn(turn))
            expected = None if before is None else before + start + (step or usual)
            moment = clock(frame, expected)
            time = (moment if moment is not None else expected or 0.0) - start
            step = max(time - before, 0.0) if before is not None else step
            missing += step if step > STILL else 0.0
            if missing > LIMITS.gaps:
                raise MediaError(f"{label}: its timestamps leave more than {LIMITS.gaps / 3600:g} h without a picture")
            before = time
            yield time, frame, painter
            if end is not None and time >= end - start:
                return


def shown_at(
    frames: Iterable[tuple[float, Any, Painter]], start: float, end: float | None, rate: float | None,
    longest_side: int | None,
) -> Iterator[tuple[float, np.ndarray]]:  # fmt: skip
    """What `decode_frames` gives of the frames of `timed_frames`.

    Seconds from `start` and a picture [height, width, 3] of 8 bits.
    """
    paint: Painter | None = None
    held: Any = None
    painted: np.ndarray | None = None
    tick, shown = 0, 0.0
    half_step = 0.0
    for time, frame, painter in frames:
        paint = paint or painter.at(longest_side)
        half_step = max(time - shown, 0.0) if held is not None else half_step
        limit = time if end is None else min(time, end - start)
        if rate is None:
            if time >= -1e-6 and (end is None or time < end - start):
                yield max(time, 0.0), paint(frame)
        else:
            # The frame held so far stands until this one comes; the first one also stands for what precedes it.
            while tick / rate < limit - 1e-6 and tick < LIMITS.frames:
                painted = paint(held if held is not None else frame) if painted is None else painted
                yield tick / rate, painted
                tick += 1
        held, shown, painted = frame, time, None
        if end is not None and time >= end - start:
            return
    if rate is not None and held is not None and paint is not None:
        # The last frame stands as long as the one before it did, at least one tick if none was shown yet.
        limit = shown + (half_step or 1.0 / rate)
        if end is not None:
            limit = min(limit, end - start)
        while tick / rate < limit - 1e-6 and tick < LIMITS.frames:
            painted = paint(held) if painted is None else painted
            yield tick / rate, painted
            tick += 1
