"""Sound that comes through a pipe, while it comes: a WAV, Ogg, FLAC or Matroska stream, or bare samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import numpy as np
from jaxtyping import Float32

from demeanor.features.base import SAMPLE_RATE
from demeanor.features.media import MediaError
from demeanor.features.sound import resampled, stream_container

#: (most bytes) -> those that are there, at least one; none at the end. As `read1` of a buffered stream.
Read = Callable[[int], bytes]
#: How a stream begins -> FFmpeg's name of its kind. What begins otherwise is taken for bare samples.
KINDS = {b"RIFF": "wav", b"RF64": "wav", b"OggS": "ogg", b"fLaC": "flac", b"\x1aE\xdf\xa3": "matroska"}
NAME = "standard input"
#: Bytes that say what a stream is.
HEAD = 12
CHUNK = 4096
ADVICE = "Pipe it through a program that writes WAV, for example `ffmpeg -i - -f wav -`."


@dataclass(frozen=True)
class Bare:
    """What bare samples do not say themselves; they are 16-bit numbers, the low byte first (S16_LE)."""

    rate: int = SAMPLE_RATE
    channels: int = 1


def piped_samples(read: Read, bare: Bare | None = None) -> Iterator[Float32[np.ndarray, " samples"]]:
    """Mono samples in [-1, 1] at 16 kHz, block by block as they come; it blocks where there are none yet.

    MediaError for a stream that is none of KINDS and cannot be bare samples either, or that breaks.
    """
    head = _beginning(read)
    if head[4:8] == b"ftyp" or head[:3] == b"ID3":
        kind = "an mp4" if head[4:8] == b"ftyp" else "an MP3"
        raise MediaError(f"{NAME}: {kind} cannot be read from a pipe.\n{ADVICE}")
    if head[:4] not in KINDS:
        yield from resampled(_bare(head, read, bare or Bare()), SAMPLE_RATE)
        return
    try:
        # What a recorder writes before it knows how much there will be is no length.
        container = av.open(
            _Reader(head, read), mode="r", format=KINDS[head[:4]], metadata_errors="replace",
            container_options={"ignore_length": "1"} if KINDS[head[:4]] == "wav" else {},
        )  # fmt: skip
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{NAME}: no sound can be read from it ({type(error).__name__}).\n{ADVICE}") from None
    with container:
        if not container.streams.audio:
            raise MediaError(f"{NAME}: there is no sound in it.\n{ADVICE}")
        yield from stream_container(container, NAME)


class _Reader:
    """What PyAV reads a stream from; without `seek` it does not try to."""

    def __init__(self, head: bytes, read: Read):
        self.head, self.source = head, read

    def read(self, size: int) -> bytes:
        """The head again, then what comes."""
        if self.head:
            given, self.head = self.head[:size], self.head[size:]
            return given
        return self.source(size)


def _beginning(read: Read) -> bytes:
    """The first bytes, fewer where the stream ends before."""
    head = b""
    while len(head) < HEAD and (more := read(HEAD - len(head))):
        head += more
    return head


def _bare(head: bytes, read: Read, bare: Bare) -> Iterator[tuple[int, Float32[np.ndarray, " samples"]]]:
    """(sample rate, mono samples); half a sample at the end is left out."""
    size = 2 * bare.channels
    held = head
    while True:
        whole = len(held) - len(held) % size
        if whole:
            values = np.frombuffer(held[:whole], "<i2").reshape(-1, bare.channels)
            yield bare.rate, values.mean(axis=1, dtype=np.float32) * np.float32(1 / 32768)
            held = held[whole:]
        more = read(CHUNK)
        if not more:
            return
        held += more
