"""What the bytes of a file say about itself, read without a decoder: is it all there, and does it stay within itself?

Only sizes are looked at: boxes of ISO media (mp4, mov, 3gp; ISO/IEC 14496-12), EBML (Matroska, RFC 8794), RIFF and its
relatives, ASF. A number that stands for "not known while it was written" (a live recording) proves nothing.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demeanor.features.limits import LIMITS

#: First boxes of ISO media files.
ISO_STARTS = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"styp", b"sidx"})
#: Boxes that hold others, on the way to what is looked for.
_INSIDE = frozenset({b"trak", b"mdia", b"minf", b"stbl", b"dinf"})
#: Sizes from here on are markers of programs that wrote to a pipe.
_UNKNOWN = 0x7FFF_0000
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")


@contextmanager
def _reading(source: Path | str | bytes) -> Iterator[tuple[io.BufferedIOBase, int]]:
    """(file, its size in bytes)."""
    if isinstance(source, bytes):
        yield io.BytesIO(source), len(source)
        return
    with Path(source).open("rb") as file:
        yield file, Path(source).stat().st_size


def _boxes(file: io.BufferedIOBase, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the content, end as declared) of the boxes between two places; the end may lie beyond `stop`."""
    place = start
    while place + 8 <= stop:
        file.seek(place)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            wide = file.read(8)
            if len(wide) < 8:
                return
            (size,), header = struct.unpack(">Q", wide), 16
        elif size == 0:
            size = stop - place
        if size < header:
            return
        yield kind, place + header, place + size
        place += size


def why_refused(source: Path | str | bytes) -> str | None:
    """Why an ISO media file must not be opened, in one sentence; None for what may be, and for other files.

    Its index may declare more frames than the limit, each of which costs memory before anything is read; its sound
    or picture may be said to lie in another file.
    """
    with _reading(source) as (file, size):
        if file.read(12)[4:8] not in ISO_STARTS:
            return None
        for kind, start, end in _boxes(file, 0, size):
            if kind == b"moov":
                tracks = [box for box in _boxes(file, start, min(end, size)) if box[0] == b"trak"]
                reasons = (_why_track(file, begin, min(stop, size)) for _, begin, stop in tracks)
                return next((reason for reason in reasons if reason), None)
    return None


def _why_track(file: io.BufferedIOBase, start: int, stop: int) -> str | None:
    handler, frames, outside, single = b"", 0, False, False
    ranges = [(start, stop)]
    while ranges:
        begin, end = ranges.pop()
        for kind, inner, outer in _boxes(file, begin, end):
            if kind in _INSIDE:
                ranges.append((inner, min(outer, end)))
            elif kind in (b"hdlr", b"stsz", b"stz2", b"dref", b"stts"):
                file.seek(inner)
                content = file.read(min(outer - inner, 64))
                if kind == b"hdlr":
                    # QuickTime files have a second one, of the data; the first says what the track is.
                    handler = handler or content[8:12]
                elif kind == b"dref":
                    outside = _outside(content)
                elif kind == b"stts":
                    single = content[4:16] == struct.pack(">I", 1) + content[8:12] + struct.pack(">I", 1)
                elif len(content) >= 12:
                    frames = int.from_bytes(content[8:12], "big")
    if outside and handler in (b"soun", b"vide"):
        return "its sound or picture is said to lie in another file, which is not opened"
    # Bare samples (one per unit of time) are read by the block and cost nothing each.
    if frames > LIMITS.frames and not (handler == b"soun" and single):
        return f"it declares {frames} frames, more than the {LIMITS.frames} that are read"
    return None


def _outside(content: bytes) -> bool:
    """Does the first entry of a data reference name another file? (14496-12, 8.7.2: flag 1 means this one.)"""
    if len(content) < 20:
        return False
    size, flags = int.from_bytes(content[8:12], "big"), int.from_bytes(content[17:20], "big")
    return size > 13 and not flags & 1


def missing_share(source: Path | str | bytes) -> float:
    """Share of a file that lies beyond its last byte by what the file declares, as in a copy that was broken off.

    0 where all is there or nothing is declared. FLAC declares samples instead of bytes; see `cut_short`.
    """
    with _reading(source) as (file, size):
        head = file.read(4096)
        if head[4:8] in ISO_STARTS:
            declared = max((end for _, _, end in _boxes(file, 0, size)), default=0)
        else:
            declared = _declared(head)
    return max(1 - size / declared, 0.0) if declared > size + 1 else 0.0


def cut_short(source: Path | str | bytes) -> bool:
    """Was the file cut short? A FLAC file that gave less than it declares counts as such."""
    if missing_share(source):
        return True
    with _reading(source) as (file, _):
        return file.read(4) == b"fLaC"


def _declared(head: bytes) -> int:
    """Bytes of the whole file by its beginning; 0 where that is not said."""
    little, big = int.from_bytes(head[4:8], "little"), int.from_bytes(head[4:8], "big")
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _ebml_end(head)
    if head.startswith(b"RIFF"):
        return little + 8 if little < _UNKNOWN else 0
    if head.startswith(b"FORM"):
        return big + 8 if big < _UNKNOWN else 0
    if head.startswith(b"RF64"):
        return int.from_bytes(head[20:28], "little") + 8
    if head.startswith(_W64):
        return int.from_bytes(head[16:24], "little")
    if head.startswith(b".snd"):
        length = int.from_bytes(head[8:12], "big")
        return big + length if length < _UNKNOWN else 0
    place = head.find(_ASF_PROPERTIES) if head.startswith(_ASF) else -1
    if place >= 0 and len(head) > place + 88 and not head[place + 88] & 1:  # bit 0: written while it was broadcast
        return int.from_bytes(head[place + 40 : place + 48], "little")
    return 0


def _ebml_end(head: bytes) -> int:
    """Where the first segment of a Matroska file is said to end; 0 where that is not known."""
    place = 4
    length, place = _ebml_size(head, place)
    if length is None:
        return 0
    place += length
    if head[place : place + 4] != b"\x18\x53\x80\x67":
        return 0
    length, place = _ebml_size(head, place + 4)
    return 0 if length is None else place + length


def _ebml_size(head: bytes, place: int) -> tuple[int | None, int]:
    """(value, place after it); None where all bits are set, which means unknown."""
    if place >= len(head) or head[place] == 0:
        return None, place
    width = 9 - head[place].bit_length()
    bits = int.from_bytes(head[place : place + width], "big") & ((1 << 7 * width) - 1)
    return (None if bits == (1 << 7 * width) - 1 else bits), place + width
