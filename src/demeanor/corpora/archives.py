"""Zip and tar files of a corpus, unpacked without letting a member out of its folder.

A member whose path is absolute or climbs, a link, or a device is refused, and then nothing is unpacked at all: an
archive that tries has no business here. Limits on the unpacked size and on the number of members, in proportion to the
archive's own size (demeanor.data.budget), stop archives that swell; a packed stream is metered while it is read, so
that no header can ask for more.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demeanor.corpora.base import require_path
from demeanor.corpora.paths import why_unsafe
from demeanor.data.budget import FILES_PER_BYTE, FLOOR_BYTES, FLOOR_FILES, UNPACKED_PER_BYTE
from demeanor.data.errors import InputError
from demeanor.data.files import write_atomically

LARGEST = 1 << 40
"""bytes that an archive may unpack to: 1 TiB, more than any corpus of the field"""
COPY = 1 << 20
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError,
    ValueError, IndexError, KeyError, OverflowError, MemoryError,
)  # fmt: skip
#: How compressed files begin -> what opens them.
PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
#: Bytes that may be asked of a tar file at once: contents are copied in smaller pieces, names and headers are shorter.
LONGEST_READ = 16 << 20
SYMLINK = 0o120000
FILE_TYPE = 0o170000


def unpack(archive: Path, folder: Path, largest: int = LARGEST) -> list[Path]:
    """Unpack a zip or tar file (gz, bz2, xz) into `folder`, which appears whole or not at all; the files' paths.

    Raises InputError that lists every member that was refused.
    """
    require_path(archive, "file")
    size = archive.stat().st_size
    largest = min(largest, FLOOR_BYTES + UNPACKED_PER_BYTE * size)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                return _unpack_zip(opened, archive, folder, largest)
        with _stream(archive, largest) as stream:
            if _is_tar(stream):
                metered: Any = stream
                with tarfile.open(fileobj=metered, mode="r:") as opened_tar:
                    return _unpack_tar(opened_tar, stream, archive, folder, largest)
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(str(archive), [f"damaged or not readable ({error})"], "Download it again.") from None
    raise InputError(str(archive), ["neither a zip nor a tar file"])


class _Metered:
    """A file that is read forwards and back, of which no more than `largest` bytes are given out beyond its headers."""

    def __init__(self, source: Any, archive: Path, largest: int):
        self.source, self.archive = source, archive
        self.limit = largest + 1024 * most_members(archive) + LONGEST_READ
        self.largest = largest

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > LONGEST_READ:
            raise ValueError("a header is longer than any name")
        if self.source.tell() + size > self.limit:
            _refuse([], self.limit, self.archive, self.largest)
        return self.source.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        if whence != 0 or position > self.limit:
            _refuse([], max(position, self.largest + 1), self.archive, self.largest)
        return self.source.seek(position)

    def tell(self) -> int:
        return self.source.tell()


@contextmanager
def _stream(archive: Path, largest: int) -> Iterator[_Metered]:
    with open(archive, "rb") as handle:
        start = handle.read(6)
    opener: Any = next((opener for magic, opener in PACKED.items() if start.startswith(magic)), open)
    with opener(archive, "rb") as source:
        yield _Metered(source, archive, largest)


def _is_tar(stream: _Metered) -> bool:
    try:
        tarfile.TarInfo.frombuf(stream.read(512), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    stream.seek(0)
    return True


def most_members(archive: Path) -> int:
    """Files that an archive of this size may hold; beyond, it is taken for one made to fill a disk."""
    return FLOOR_FILES + int(archive.stat().st_size * FILES_PER_BYTE)


def _unpack_zip(opened: zipfile.ZipFile, archive: Path, folder: Path, largest: int) -> list[Path]:
    members = [member for member in opened.infolist() if not member.is_dir()]
    problems = _too_many(len(members), archive)
    for member in members:
        reason = why_unsafe(member.filename)
        if reason is None and (member.external_attr >> 16) & FILE_TYPE == SYMLINK:
            reason = "is a link"
        if reason:
            problems.append(f"member '{member.filename[:80]}' {reason}")
    _refuse(problems, sum(member.file_size for member in members), archive, largest)
    with write_atomically(folder) as temporary:
        temporary.mkdir(parents=True)
        for member in members:
            with opened.open(member) as source:
                _copy(source, temporary / member.filename, member.file_size)
    return [folder / member.filename for member in members]


def _unpack_tar(opened: tarfile.TarFile, stream: _Metered, archive: Path, folder: Path, largest: int) -> list[Path]:
    members, problems, total = [], [], 0
    for number, member in enumerate(opened):
        problems = _too_many(number + 1, archive)
        total += member.size
        # Before the next one is looked for, behind what this one says that it holds.
        _refuse(problems, total, archive, largest)
        if not member.isdir():
            members.append(member)
    for member in members:
        reason = why_unsafe(member.name)
        if reason is None and not member.isfile():
            reason = "is a link" if member.issym() or member.islnk() else "is no plain file"
        if reason:
            problems.append(f"member '{member.name[:80]}' {reason}")
    _refuse(problems, sum(member.size for member in members), archive, largest)
    with write_atomically(folder) as temporary:
        temporary.mkdir(parents=True)
        for member in members:
            source = opened.extractfile(member)
            if source is not None:
                with source:
                    _copy(source, temporary / member.name, member.size)
        # Only at its very end does a compressed file tell whether all of it was sound.
        while stream.read(COPY):
            continue
    return [folder / member.name for member in members]


def _too_many(members: int, archive: Path) -> list[str]:
    most = most_members(archive)
    return [f"it holds more than {most} files"] if members > most else []


def _refuse(problems: list[str], size: int, archive: Path, largest: int) -> None:
    if size > largest:
        problems = [*problems, f"it would unpack to {size / 2**20:.0f} MiB, more than {largest / 2**20:.0f} MiB"]
    if problems:
        raise InputError(str(archive), problems, "Nothing was unpacked. Do not trust this file.")


def _copy(source, path: Path, size: int) -> None:
    """Copy, and stop if more comes out than the archive's table of contents says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as target:
        shutil.copyfileobj(source, target, COPY)
    if path.stat().st_size != size:
        raise OSError(f"'{path.name}' has another size than the archive says")
