"""The page at /: a file and a script for the microphone, nothing from elsewhere, and examples drawn as the demo is."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from demeanor.server.refusals import Refusal

#: What is between these tags is allowed to run and to style, by its hash; nothing else is.
INLINE = {
    "script-src": re.compile(r"<script>(.*?)</script>", re.DOTALL),
    "style-src": re.compile(r"<style>(.*?)</style>", re.DOTALL),
}


@dataclass(frozen=True)
class Example:
    """A recording of a drawn face: what it shows, from -3 to 3 and as an emotion, and what is said."""

    title: str
    text: str
    valence: float
    emotion: str


EXAMPLES = {
    "glad": Example("Example: glad", "I really like it, it was wonderful.", 2.0, "happiness"),
    "sad": Example("Example: sad", "It was awful, I am so sorry.", -2.0, "sadness"),
    "mixed": Example("Example: mixed", "Great, just what I needed.", -2.0, "anger"),
}


@cache
def page() -> tuple[bytes, dict[str, str]]:
    """The page and its headers: by them a browser runs what is in the file and asks nobody but this server."""
    text = files("demeanor.server").joinpath("static", "index.html").read_text(encoding="utf-8")
    hashes = {
        name: " ".join(f"'sha256-{_hash(found)}'" for found in pattern.findall(text))
        for name, pattern in INLINE.items()
    }
    # What reads the microphone must be a file of its own; answers with what callers sent are no scripts (nosniff).
    hashes["script-src"] += " 'self'"
    policy = {
        "default-src": "'none'", **hashes, "img-src": "data:", "media-src": "blob: 'self'", "connect-src": "'self'",
        "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
    }  # fmt: skip
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Permissions-Policy": "camera=(self), microphone=(self)",
    }
    return text.encode("utf-8"), headers


@cache
def microphone() -> bytes:
    """The script that the page has the browser's thread for sound run."""
    return files("demeanor.server").joinpath("static", "microphone.js").read_bytes()


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def listed() -> list[dict[str, str]]:
    """The examples, as the page offers them."""
    return [
        {"title": example.title, "text": example.text, "url": f"/v1/examples/{name}.mp4"}
        for name, example in EXAMPLES.items()
    ]


@cache
def film(name: str) -> bytes:
    """Content of an mp4 file, drawn when it is first asked for. Refusal not_found for a name that is none."""
    from demeanor.serving.warming import recording

    if name not in EXAMPLES:
        raise Refusal("not_found", "there is no such example")
    example = EXAMPLES[name]
    return recording(example.valence, example.emotion)
