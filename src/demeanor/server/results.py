"""A finished timeline in the format that its caller asks for."""

from __future__ import annotations

import tempfile
from pathlib import Path

from demeanor.server.refusals import Refusal

#: Name in ?format= -> ending of the file, media type.
ENDINGS = {
    "json": (".json", "application/json"),
    "csv": (".csv", "text/csv; charset=utf-8"),
    "vtt": (".vtt", "text/vtt; charset=utf-8"),
    "eaf": (".eaf", "application/xml"),
}
#: Media types of an Accept header that name one of them.
TYPES = {
    "application/json": "json", "text/csv": "csv", "text/vtt": "vtt", "application/xml": "eaf", "text/xml": "eaf",
    "*/*": "json", "application/*": "json", "text/*": "csv", "": "json",
}  # fmt: skip


def chosen(format_name: str | None, accept: str) -> str:
    """A key of ENDINGS: of the query, else the caller's favourite. Refusal bad_request or not_acceptable."""
    if format_name:
        if format_name not in ENDINGS:
            raise Refusal("bad_request", f"`format` takes {', '.join(ENDINGS)}")
        return format_name
    for _, kind in sorted(map(_weighed, accept.split(",")), key=lambda pair: -pair[0]):
        if kind in TYPES:
            return TYPES[kind]
    raise Refusal("not_acceptable", f"a timeline is to be had as {', '.join(kind for _, kind in ENDINGS.values())}")


def _weighed(part: str) -> tuple[float, str]:
    """(quality, media type) of one entry; what is no quality counts as 1."""
    kind, _, rest = part.partition(";")
    name, _, value = rest.strip().partition("=")
    try:
        quality = float(value) if name.strip() == "q" else 1.0
    except ValueError:
        quality = 1.0
    return quality, kind.strip().lower()


def rendered(result: Path, format_name: str) -> bytes:
    """Content of the file. OSError where the result was removed meanwhile."""
    if format_name == "json":
        return result.read_bytes()
    from demeanor.timeline.formats import read_timeline, write_timeline

    with tempfile.TemporaryDirectory(dir=result.parent) as place:
        path = Path(place) / f"timeline{ENDINGS[format_name][0]}"
        write_timeline(read_timeline(result), path)
        return path.read_bytes()
