"""Recordings that lie elsewhere: at any address that fsspec knows (https, s3, gs, ...), whole or as a member of a tar
file there. They are read when they are needed, where they are needed: no shared disk, no copy.

In the column `media` of the utterances table such a recording is its address; a member of a tar file is
`ADDRESS#NAME;START;SIZE`, so that its bytes are asked for alone. What a file system wants to know (keys, an endpoint)
it takes from where it always does: its own environment variables, or fsspec's configuration.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from demeanor.data.errors import DemeanorError
from demeanor.data.files import sha256_of

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*://")
MEMBER = re.compile(r"(.+)#([^#;]+);(\d+);(\d+)")
#: Who signs in within an address, and the signature of one that was handed out for a while: messages repeat neither.
SECRET = re.compile(r"(?<=://)[^/@]+@|(?<=\?).*")
#: Bytes of a recording that is read from elsewhere; what is longer is better brought here first.
LARGEST = 2 << 30
#: Bytes of what is kept between two looks at one recording (its sound, then its pictures).
KEPT = 64 << 20
#: Packages behind a protocol -> the extra that brings them.
EXTRAS = {"s3": "s3", "s3a": "s3"}
#: What a file system says of the content, if it says it: then a file that moves is not extracted again.
DIGESTS = ("ETag", "etag", "md5Hash", "checksum", "sha256")


class RemoteError(DemeanorError):
    """A recording at an address cannot be read; the run goes on without it."""


@dataclass(frozen=True, slots=True)
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
        if member is None:
            return cls(text)
        return cls(sys.intern(member[1]), member[2], int(member[3]), int(member[4]))  # thousands share an archive

    def __str__(self) -> str:
        return self.address if self.size is None else f"{self.address}#{self.name};{self.start};{self.size}"

    @property
    def suffix(self) -> str:
        """Of its name, in small letters."""
        return Path(self.name or urlsplit(self.address).path).suffix.lower()

    @property
    def label(self) -> str:
        """How messages call it."""
        return labelled(self.address) + (f"#{self.name}" if self.name else "")

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
        with refusals_told(self.label):
            if length is None:
                length = int(files.info(path).get("size") or 0)
            if length > LARGEST:
                raise RemoteError(f"{self.label}: {length >> 20} MiB are too many to be read from there; bring it here")
            if self.size is None:
                return files.cat_file(path)
            content = files.cat_file(path, start=self.start, end=self.start + self.size)
        if len(content) != self.size:
            raise RemoteError(f"{self.label}: {self.size} bytes were there when it was indexed, {len(content)} are now")
        return content


def located(root: Path, cell: str) -> Path | RemoteFile:
    """What a cell of `media` or `audio` names: a file below the corpus folder `root`, or one at an address."""
    return RemoteFile.parse(cell) or root / cell


def content_of(recording: Path | bytes | RemoteFile) -> Path | bytes:
    """What a decoder takes: what lies elsewhere is fetched. RemoteError."""
    return recording.read() if isinstance(recording, RemoteFile) else recording


def labelled(address: str) -> str:
    """How messages call an address: without what signs in."""
    return SECRET.sub("", address)


def opened(address: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path within. RemoteError, with what to install, if there is none."""
    from fsspec.core import url_to_fs

    label = labelled(address)
    protocol = address.partition("://")[0].rpartition("::")[2]
    try:
        with refusals_told(label, passing=(ImportError, ValueError)):
            return url_to_fs(address)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        advice = f"pip install 'demeanor[{extra}]'" if extra else str(error)
        raise RemoteError(f"{label}: what reads {protocol}:// is not installed here: {advice}") from None
    except ValueError as error:
        raise RemoteError(f"{label}: {error}") from None


@contextmanager
def refusals_told(label: str, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn whatever a file system raises inside the block into a RemoteError of one sentence; its library has errors of
    its own for missing keys and stores that do not answer. What is among `passing` is let through."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (DemeanorError, *passing)):
            raise
        raise RemoteError(f"{label}: cannot be read ({reason_of(error)})") from None


def reason_of(error: Exception) -> str:
    """Why, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    said = getattr(error, "strerror", None) or (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    if isinstance(error, PermissionError) and error.strerror is None:  # the system's own has a number and its words
        return f"the store refuses it: {said}; are the keys those of someone who may read there?"
    return said


@lru_cache(maxsize=65536)
def _told(address: str) -> str:
    files, path = opened(address)
    with refusals_told(labelled(address)):
        told = files.info(path)
    for name in DIGESTS:
        if told.get(name):
            return f"{name} {told[name]}"
    times = [str(told.get(name)) for name in ("mtime", "LastModified", "created") if told.get(name)]
    return " ".join([address, str(told.get("size")), *times])


@lru_cache(maxsize=2)
def _remembered(file: RemoteFile) -> bytes:
    return file._fetched()
