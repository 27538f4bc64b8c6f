"""Around every request: its number, its key, its line in the log, and an answer in the one form where it fails."""

from __future__ import annotations

import errno
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demeanor.server.engine import Engine
from demeanor.server.keys import Keys, key_of
from demeanor.server.refusals import Refusal

IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: What anybody may ask: whether the server is there, how it is called, and the page, which holds nothing.
OPEN = ("/health/live", "/health/ready", "/openapi.json", "/", "/microphone.js", "/favicon.ico")
#: What machines ask every few seconds: counted, and written to the log only where it fails.
PROBES = ("/health/live", "/health/ready", "/metrics")
#: For all answers: nothing is guessed, framed, or kept by a cache.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Doorkeeper:
    """ASGI middleware. What a handler puts into scope["demeanor.facts"] stands in the access log."""

    def __init__(self, app: ASGIApp, engine: Engine, keys: Keys):
        self.app, self.engine, self.keys = app, engine, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope["demeanor.id"] = identity_of(headers)
        scope["demeanor.facts"] = {}
        begun, seen = time.perf_counter(), {"status": 500, "bytes_in": 0, "bytes_out": 0, "begun": False}

        async def counting_receive() -> Message:
            message = await receive()
            seen["bytes_in"] += len(message.get("body", b""))
            return message

        async def marked_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.update(status=message["status"], begun=True)
                there = MutableHeaders(scope=message)
                for name, value in {**HEADERS, "X-Request-ID": scope["demeanor.id"]}.items():
                    there.setdefault(name, value)
            seen["bytes_out"] += len(message.get("body", b""))
            await send(message)

        metrics = self.engine.metrics
        metrics.in_flight.inc()
        try:
            if scope["path"] not in OPEN and not self.keys.allow(key_of(headers)):
                refusal = Refusal("unauthorised", "a key is needed: Authorization: Bearer KEY")
                await refused(refusal, scope)(scope, receive, marked_send)
            else:
                await self.app(scope, counting_receive, marked_send)
        except Exception as error:
            metrics.log_unforeseen(error, "a request")
            if not seen["begun"]:
                await refused(_failure(error), scope)(scope, receive, marked_send)
        finally:
            metrics.in_flight.dec()
            self._note(scope, seen, time.perf_counter() - begun)

    def _note(self, scope: Scope, seen: dict[str, Any], seconds: float) -> None:
        # The router's own address, not what was typed: that may hold anything.
        route = getattr(scope.get("route"), "path", None) or ("/" if scope["path"] == "/" else "unknown")
        facts = scope["demeanor.facts"]
        self.engine.metrics.requests.labels(route, str(seen["status"]), facts.get("code", "")).inc()
        self.engine.metrics.request_seconds.labels(route).observe(seconds)
        if route in PROBES and seen["status"] < 400:
            return
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS") else "other"
        self.engine.metrics.note(
            request_id=scope["demeanor.id"], method=method, route=route, status=seen["status"],
            milliseconds=round(1000 * seconds, 1), bytes_in=seen["bytes_in"], bytes_out=seen["bytes_out"], **facts,
        )  # fmt: skip


def _failure(error: Exception) -> Refusal:
    """What a caller is told of an error that nobody foresaw; of a full disk, that another try may help."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal("storage_full", "the server has no room for the recording now; try again later", 30)
    return Refusal("internal", "the server has failed")


def identity_of(headers: Mapping[str, str]) -> str:
    """The number of a request: the caller's own where it gives one that is a number."""
    given = headers.get("x-request-id", "")
    return given if IDENTITY.fullmatch(given) else uuid.uuid4().hex


def refused(refusal: Refusal, scope: Scope) -> Response:
    """A refusal as a response: {code, message, request_id}."""
    scope["demeanor.facts"]["code"] = refusal.code
    return JSONResponse(refusal.body(scope["demeanor.id"]), refusal.status, refusal.headers())
