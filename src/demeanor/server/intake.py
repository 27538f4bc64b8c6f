"""Bodies and uploads, counted while they are read: a request that is too large is refused before it has ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from demeanor.server.refusals import Refusal

#: Bytes that are gathered before they are written.
BLOCK = 1 << 20
#: Bytes of all fields that are no files, and parts of a form.
MOST_TEXT, MOST_PARTS = 1 << 20, 512
FIELD = re.compile(r"[a-z_]{1,32}")


@dataclass
class Form:
    """Fields and files of a form, each in its order. A file's own name is not kept: what it is, decoding tells."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: list[tuple[str, Path]] = field(default_factory=list)


async def chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body piece by piece. Refusal too_large as soon as it is known that there are more than `limit` bytes."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise too_large(limit)
    total = 0
    try:
        async for chunk in request.stream():
            total += len(chunk)
            if total > limit:
                raise too_large(limit)
            yield chunk
    except ClientDisconnect:
        raise Refusal("client_closed_request", "the request ended before its body did") from None


def too_large(limit: int) -> Refusal:
    """The refusal of a request of more than `limit` bytes."""
    return Refusal("too_large", f"the request has more than {limit} bytes")


async def whole_body(request: Request, limit: int) -> bytes:
    """The body, read to its end. Refusal once it has more than `limit` bytes."""
    return b"".join([chunk async for chunk in chunks(request, limit)])


def media_type(request: Request) -> str:
    """What the request says of its body, without parameters, in small letters; empty if it says nothing."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_form(request: Request, limit: int, folder: Path) -> Form:
    """A multipart form; its files are written to `folder`, which the caller removes. Refusal for what is none."""
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not boundary or len(boundary) > 200:
        raise Refusal("bad_request", "the form has no boundary")
    reader = _FormReader(folder)
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        waiting = 0
        async for chunk in chunks(request, limit):
            parser.write(chunk)
            waiting += len(chunk)
            if waiting >= BLOCK:
                await asyncio.to_thread(reader.flush)
                waiting = 0
        parser.finalize()
        await asyncio.to_thread(reader.flush)
    except (FormParserError, ValueError, LookupError):
        raise Refusal("bad_request", "the body is no form that can be read (multipart/form-data)") from None
    finally:
        reader.close()
    if not reader.ended:
        raise Refusal("bad_request", "the form ends before its last part does")
    return reader.form


async def read_file(request: Request, limit: int, path: Path) -> None:
    """A body that is one recording, written to `path`."""
    gathered = bytearray()
    with open(path, "wb") as handle:
        async for chunk in chunks(request, limit):
            gathered += chunk
            if len(gathered) >= BLOCK:
                await asyncio.to_thread(handle.write, bytes(gathered))
                gathered.clear()
        await asyncio.to_thread(handle.write, bytes(gathered))


class _FormReader:
    """Callbacks of python_multipart's parser: what belongs to files is gathered and written by `flush`."""

    def __init__(self, folder: Path):
        self.folder, self.form, self.ended = folder, Form(), False
        self._header, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._name, self._text, self._parts, self._texts = "", bytearray(), 0, 0
        self._handle: IO[bytes] | None = None
        self._pieces: list[tuple[IO[bytes], bytes]] = []
        self._handles: list[IO[bytes]] = []

    def callbacks(self) -> dict[str, Any]:
        names = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end",
                 "headers_finished", "end")  # fmt: skip
        return {f"on_{name}": getattr(self, f"_{name}") for name in names}

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Refusal("too_large", f"the form has more than {MOST_PARTS} parts")
        self._headers, self._text, self._handle = {}, bytearray(), None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or not FIELD.fullmatch(name):
            raise Refusal("bad_request", "a part of the form has no name, or one that is not understood here")
        self._name = name
        if b"filename" in options:
            path = self.folder / f"part_{self._parts}"
            self._handle = open(path, "wb")  # noqa: SIM115 - closed by `close`, whatever happens in between
            self._handles.append(self._handle)
            self.form.files.append((name, path))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._handle is not None:
            self._pieces.append((self._handle, data[start:end]))
            return
        self._texts += end - start
        if self._texts > MOST_TEXT:
            raise Refusal("too_large", f"the form's fields have more than {MOST_TEXT} bytes")
        self._text += data[start:end]

    def _part_end(self) -> None:
        if self._handle is None:
            try:
                text = bytes(self._text).decode("utf-8")
            except UnicodeDecodeError:
                raise Refusal("bad_request", f"the field `{self._name}` is not UTF-8") from None
            self.form.fields.setdefault(self._name, []).append(text)

    def _end(self) -> None:
        self.ended = True

    def flush(self) -> None:
        for handle, piece in self._pieces:
            handle.write(piece)
        self._pieces.clear()

    def close(self) -> None:
        for handle in self._handles:
            handle.close()
