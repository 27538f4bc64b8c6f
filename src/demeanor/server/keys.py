"""Who may ask: keys from the environment, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping

from demeanor.data.errors import InputError

VARIABLE = "DEMEANOR_API_KEYS"
#: Characters below which a key can be guessed.
SHORTEST = 16


class Keys:
    """The keys that are allowed; none means that everybody is."""

    def __init__(self, keys: tuple[str, ...] = ()):
        self._digests = tuple(_digest(key) for key in keys)

    @classmethod
    def of_environment(cls) -> Keys:
        """Those of DEMEANOR_API_KEYS, separated by commas. InputError where one is too short or not ASCII."""
        keys = tuple(key.strip() for key in os.environ.get(VARIABLE, "").split(",") if key.strip())
        problems = [
            f"key {number} of {len(keys)} has fewer than {SHORTEST} characters or others than visible ASCII"
            for number, key in enumerate(keys, 1)
            if len(key) < SHORTEST or not all(33 <= ord(mark) < 127 for mark in key)
        ]
        if problems:
            raise InputError(VARIABLE, problems, "For example: openssl rand -hex 24")
        return cls(keys)

    @property
    def required(self) -> bool:
        """Whether any key is set: without one, everybody may ask."""
        return bool(self._digests)

    def allow(self, given: str | None) -> bool:
        """Is this one of them? Takes as long for a wrong key as for a right one, whichever it is."""
        if not self.required:
            return True
        digest = _digest(given or "")
        return sum([hmac.compare_digest(digest, known) for known in self._digests]) > 0


def key_of(headers: Mapping[str, str]) -> str | None:
    """What a request says of itself: `Authorization: Bearer KEY`, or `X-API-Key: KEY`."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" and key else headers.get("x-api-key")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
