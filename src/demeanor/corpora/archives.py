"""Zip and tar files of a corpus, unpacked without letting a member out of its folder.

A member whose path is absolute or climbs, a link, or a device is refused, and then nothing is unpacked at all: an
archive that tries has no business here. A limit on the unpacked size stops archives that swell.
"""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

from demeanor.corpora.base import require_path
from demeanor.corpora.paths import why_unsafe
from demeanor.data.errors import InputError
from demeanor.data.files import write_atomically

LARGEST = 1 << 40
"""bytes that an archive may unpack to: 1 TiB, more than any corpus of the field"""
COPY = 1 << 20
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
SYMLINK = 0o120000
FILE_TYPE = 0o170000


def unpack(archive: Path, folder: Path, largest: int = LARGEST) -> list[Path]:
    """Unpack a zip or tar file (gz, bz2, xz) into `folder`, which appears whole or not at all; the files' paths.

    Raises InputError that lists every member that was refused.
    """
    require_path(archive, "file")
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                return _unpack_zip(opened, archive, folder, largest)
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as opened_tar:
                return _unpack_tar(opened_tar, archive, folder, largest)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise InputError(str(archive), [f"damaged or not readable ({error})"], "Download it again.") from None
    raise InputError(str(archive), ["neither a zip nor a tar file"])


def _unpack_zip(opened: zipfile.ZipFile, archive: Path, folder: Path, largest: int) -> list[Path]:
    members = [member for member in opened.infolist() if not member.is_dir()]
    problems = []
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


def _unpack_tar(opened: tarfile.TarFile, archive: Path, folder: Path, largest: int) -> list[Path]:
    members = [member for member in opened.getmembers() if not member.isdir()]
    problems = []
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
        while opened.fileobj is not None and opened.fileobj.read(COPY):
            continue
    return [folder / member.name for member in members]


def _refuse(problems: list[str], size: int, archive: Path, largest: int) -> None:
    if size > largest:
        problems.append(f"it would unpack to {size / 2**30:.1f} GiB, more than {largest / 2**30:.1f} GiB")
    if problems:
        raise InputError(str(archive), problems, "Nothing was unpacked. Do not trust this file.")


def _copy(source, path: Path, size: int) -> None:
    """Copy, and stop if more comes out than the archive's table of contents says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as target:
        shutil.copyfileobj(source, target, COPY)
    if path.stat().st_size != size:
        raise OSError(f"'{path.name}' has another size than the archive says")
