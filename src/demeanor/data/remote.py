"""Recordings that lie elsewhere: at any address that fsspec knows (https, s3, gs, ...), whole or as a member of a tar
file there. They are read when they are needed, where they are needed: no shared disk, no copy.

In the column `media` of the utterances table such a recording is its address; a member of a tar file is
`ADDRESS#NAME;START;SIZE`, so that its bytes are asked for alone. What a file system wants to know (keys, an endpoint)
it takes from where it always does: its own environment variables, or fsspec's configuration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from demeanor.data.errors import DemeanorError
from demeanor.data.files import sha256_of

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*://")
MEMBER = re.compile(r"(.+)#([^#;]+);(\d+);(\d+)")
#: Where something is signed in within an address: messages do not repeat it.
SECRET = re.compile(r"(?<=://)[^/@]+@")
#: Bytes of a recording that is read from elsewhere; what is longer is better brought here first.
LARGEST = 2 << 30
#: Bytes of what is kept between two looks at one recording (its sound, then its pictures).
KEPT = 64 << 20
#: What a file system says of the content, if it says it: then a file that moves is not extracted again.
DIGESTS = ("ETag", "etag", "md5Hash", "checksum", "sha256")


class RemoteError(DemeanorError):
    """A recording at an address cannot be read; the run goes on without it."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at an address, or `size` bytes of it from `start`, which are called `name`."""

    address: str
    name: str = ""
    start: int = 0
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> RemoteFile | None:
        """What a cell of the table names; None where that is a path."""
        if not ADDRESS.match(text):
            return None
        member = MEMBER.fullmatch(text)
        return cls(text) if member is None else cls(member[1], member[2], int(member[3]), int(member[4]))

    def __str__(self) -> str:
        return self.address if self.size is None else f"{self.address}#{self.name};{self.start};{self.size}"

    @property
    def suffix(self) -> str:
        """Of its name, in small letters."""
        return Path(self.name or self.address).suffix.lower()

    @property
    def label(self) -> str:
        """How messages call it."""
        return SECRET.sub("", self.address) + (f"#{self.name}" if self.name else "")

    def identity(self) -> str:
        """Hash of what tells this content from any other without reading it: the file system's own digest, else
        address, size and time. RemoteError where it cannot be asked."""
        return sha256_of([_told(self.address), self.start, self.size])

    def read(self) -> bytes:
        """Its content. RemoteError, with the reason, where it cannot be had or is longer than two gigabytes."""
        if self.size is not None and self.size <= KEPT:
            return _remembered(self)
        return self._fetched()

    def _fetched(self) -> bytes:
        files, path = opened(self.address)
        length = self.size
        try:
            if length is None:
                length = int(files.info(path).get("size") or 0)
            if length > LARGEST:
                raise RemoteError(f"{self.label}: {length >> 20} MiB are too many to be read from there; bring it here")
            if self.size is None:
                return files.cat_file(path)
            content = files.cat_file(path, start=self.start, end=self.start + self.size)
        except OSError as error:
            raise RemoteError(f"{self.label}: cannot be read ({reason_of(error)})") from None
        if len(content) != self.size:
            raise RemoteError(f"{self.label}: {self.size} bytes were there when it was indexed, {len(content)} are now")
        return content


def located(root: Path, cell: str) -> Path | RemoteFile:
    """What a cell of `media` or `audio` names: a file below the corpus folder `root`, or one at an address."""
    return RemoteFile.parse(cell) or root / cell


def content_of(recording: Path | bytes | RemoteFile) -> Path | bytes:
    """What a decoder takes: what lies elsewhere is fetched. RemoteError."""
    return recording.read() if isinstance(recording, RemoteFile) else recording


def opened(address: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path within. RemoteError, with what to install, if there is none."""
    from fsspec.core import url_to_fs

    label = SECRET.sub("", address)
    try:
        return url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise RemoteError(f"{label}: {error}") from None
    except OSError as error:
        raise RemoteError(f"{label}: cannot be reached ({reason_of(error)})") from None


def reason_of(error: OSError) -> str:
    """Why, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return error.strerror or str(error).splitlines()[0][:200] if str(error) else type(error).__name__


@lru_cache(maxsize=65536)
def _told(address: str) -> str:
    files, path = opened(address)
    try:
        told = files.info(path)
    except OSError as error:
        raise RemoteError(f"{SECRET.sub('', address)}: cannot be read ({reason_of(error)})") from None
    for name in DIGESTS:
        if told.get(name):
            return f"{name} {told[name]}"
    times = [str(told.get(name)) for name in ("mtime", "LastModified", "created") if told.get(name)]
    return " ".join([address, str(told.get("size")), *times])


@lru_cache(maxsize=2)
def _remembered(file: RemoteFile) -> bytes:
    return file._fetched()
